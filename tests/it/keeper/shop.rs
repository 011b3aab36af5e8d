//! A hook with releases, deployed by one keeper after another.
//!
//! Invariant: nothing here knows what a release is but its place on disk.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use landfall::{
    journal::{
        entries::Entry,
        releases::{History, Release},
        site::Site,
    },
    model::{
        deploy::{Git, Keeping, Strategy},
        hook::Hook,
        job::{Job, Target, Trigger},
        push::{CommitId, RefName},
        release::ReleaseName,
        remote::WrittenRemote,
        run::RunStep,
    },
};

use super::{
    bench::{Bench, Ended, running, script},
    code::git,
};

/// A repository, a folder of releases, and a hook between them.
pub struct Shop {
    pub state: Arc<tempfile::TempDir>,
    pub hook: Hook,
    run: i64,
}

impl Shop {
    /// One that runs this before it goes live.
    pub fn running(text: &str) -> Self {
        let Bench { state, mut hook, .. } = running(text);
        let remote = state.path().join("remote");
        fs::create_dir(&remote).expect("folder");
        git(&remote, &["init", "-q", "-b", "main"]);
        let source = Git::plain(WrittenRemote::parse(remote.to_str().expect("text")).expect("a remote"));
        let path = state.path().join("shop");
        hook.deploy.strategy = Strategy::Releases { git: source, path, keeping: Keeping::default() };
        Self { state, hook, run: 0 }
    }

    /// One that runs nothing of interest before it goes live, and this afterwards.
    pub fn activating(text: &str) -> Self {
        let mut shop = Self::running("true");
        shop.hook.activate = vec![script("reload", text)];
        shop
    }

    /// How its releases are kept.
    pub fn keeping(&mut self) -> &mut Keeping {
        match &mut self.hook.deploy.strategy {
            Strategy::Releases { keeping, .. } => keeping,
            Strategy::Checkout { .. } | Strategy::InPlace { .. } | Strategy::None { .. } => panic!("it has releases"),
        }
    }

    /// What it wants of its repository.
    pub fn git(&mut self) -> &mut Git {
        match &mut self.hook.deploy.strategy {
            Strategy::Releases { git, .. } => git,
            Strategy::Checkout { .. } | Strategy::InPlace { .. } | Strategy::None { .. } => panic!("it has releases"),
        }
    }

    /// A path below its folder of releases.
    pub fn path(&self, name: &str) -> PathBuf {
        self.state.path().join("shop").join(name)
    }

    pub fn site(&self) -> Site {
        Site::at(self.state.path().join("shop"))
    }

    /// Commits these files; the newest commit is what is deployed next.
    pub fn commit(&self, files: &[(&str, &str)]) -> CommitId {
        let remote = self.state.path().join("remote");
        for (name, content) in files {
            let path = remote.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, content).expect("file");
        }
        self.commit_all()
    }

    /// Commits whatever is in the repository's folder.
    pub fn commit_all(&self) -> CommitId {
        let remote = self.state.path().join("remote");
        let ann = ["-c", "user.name=Ann", "-c", "user.email=ann@x.org"];
        git(&remote, &["add", "-A"]);
        git(&remote, &[&ann[..], &["commit", "-q", "--allow-empty", "-m", "change things"]].concat());
        self.head()
    }

    fn head(&self) -> CommitId {
        CommitId::parse(&git(&self.state.path().join("remote"), &["rev-parse", "HEAD"])).expect("a commit")
    }

    /// A run that deploys the newest commit.
    pub fn next(&mut self) -> Bench {
        let commit = self.head();
        let ref_name = RefName::parse("refs/heads/main");
        self.bench(move |job| job.target = Target::Commit { commit: commit.clone(), ref_name: ref_name.clone() })
    }

    /// Deploys the newest commit, as the next run.
    pub fn deploy(&mut self) -> Ended {
        self.next().finish()
    }

    /// Commits and deploys, which must go well; gives the release.
    pub fn good(&mut self, files: &[(&str, &str)]) -> ReleaseName {
        self.commit(files);
        let ended = self.deploy();
        assert_eq!(ended.said(), ("succeeded", String::new()), "{:#?}", ended.whole_log());
        self.live().expect("something is live")
    }

    /// Goes back to this release, as the next run.
    pub fn go_back_to(&mut self, name: &ReleaseName) -> Ended {
        let release = self.record(name);
        let bench = self.bench(move |job| {
            job.trigger = Trigger::Rollback;
            let (name, commit) = (release.name.clone(), release.commit.clone());
            job.target = Target::Release { name, commit, reason: Some("it was slow".into()) };
        });
        bench.finish()
    }

    /// Adopts what stands at `current`, as the next run.
    pub fn adopt(&mut self) -> Ended {
        self.bench(|job| job.target = Target::Standing).finish()
    }

    fn bench(&mut self, job: impl Fn(&mut Job) + 'static) -> Bench {
        self.run += 1;
        let bench = Bench { state: Arc::clone(&self.state), hook: self.hook.clone(), ..running("true") };
        Bench { job: Box::new(job), ..bench.again(self.run) }
    }

    /// What is known of its releases.
    pub fn history(&self) -> History {
        History::read(&self.site()).expect("a readable record")
    }

    /// What is known of this release.
    pub fn record(&self, name: &ReleaseName) -> Release {
        self.history().find(name).expect("it is on record").clone()
    }

    /// The release that is live.
    pub fn live(&self) -> Option<ReleaseName> {
        self.history().live
    }

    /// A file of the live release, as a web server would find it.
    pub fn served(&self, name: &str) -> String {
        fs::read_to_string(self.site().current().join(name)).unwrap_or_default()
    }

    /// The names in a folder below the folder of releases.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// The steps of a run, in order, each once.
pub fn steps(ended: &Ended) -> Vec<RunStep> {
    let entries = ended.entries();
    let begun = entries.iter().filter_map(|it| match it {
        Entry::StepBegin { step, .. } => Some(*step),
        _ => None,
    });
    let mut steps: Vec<RunStep> = begun.collect();
    steps.dedup();
    steps
}

/// The text of a link.
pub fn link(path: &Path) -> String {
    fs::read_link(path).expect("a link").to_str().expect("plain").to_owned()
}
