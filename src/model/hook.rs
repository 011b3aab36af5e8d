//! A hook: one entry of hooks.yaml, checked and complete.
//!
//! Invariant: nothing is left to a default any more; an `Option` here means "there is none".

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use globset::{GlobBuilder, GlobMatcher};

use crate::model::{
    deploy::Deploy,
    health::Probe,
    letter::Notification,
    limits::RunLimits,
    name::{HookName, LaneName, SourceName},
    push::{Push, RefChange, RefName, RepoName},
    run::RetryClass,
    secret::SecretRef,
    source::Forge,
    word::words,
};

/// One entry of hooks.yaml.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its name.
    pub name: HookName,
    /// The forge its repository lives at.
    pub forge: Forge,
    /// The source its pushes come from: its own, or a shared one.
    pub source: SourceName,
    /// Its repository.
    pub repo: RepoName,
    /// Which pushes start it.
    pub on: On,
    /// The files of which at least one must have changed since what is live; `None`: any will do.
    pub paths: Option<Patterns>,
    /// Words of which every new commit must carry one for nothing to run.
    pub skip_markers: Vec<String>,
    /// When its remote is asked for pushes that no delivery brought.
    pub poll: Poll,
    /// `false`: deliveries are stored and nothing runs.
    pub enabled: bool,
    /// Where and how the code lands.
    pub deploy: Deploy,
    /// Steps before going live.
    pub run: Vec<Step>,
    /// Steps after going live.
    pub activate: Vec<Step>,
    /// What must answer well after going live.
    pub health: Vec<Probe>,
    /// Steps after a failed run; they cannot change the outcome.
    pub on_failure: Vec<Step>,
    /// Steps after any run; they cannot change the outcome.
    pub finally: Vec<Step>,
    /// Values for all steps.
    pub env: BTreeMap<String, String>,
    /// Names of the daemon's own environment that steps get too.
    pub pass_env: Vec<String>,
    /// Secrets exported to all steps, and masked in their output.
    pub secrets: BTreeMap<String, SecretRef>,
    /// The user steps and git work run as; `None` is the daemon's own.
    pub user: Option<String>,
    /// Limit of the whole run.
    pub timeout: Duration,
    /// Limit of the time without a line of output.
    pub idle_timeout: Duration,
    /// Time between TERM and KILL.
    pub kill_grace: Duration,
    /// What one run may have of the machine.
    pub limits: RunLimits,
    /// When and how often a run that ended badly is tried again.
    pub retry: Retry,
    /// What a newer job does to a waiting one.
    pub queue: QueuePolicy,
    /// The line its jobs wait in.
    pub lane: LaneName,
    /// Higher comes first among waiting lanes; -100 to 100.
    pub priority: i8,
    /// How long it must have been quiet after a push before it runs.
    pub debounce: Duration,
    /// The least time between the starts of two runs.
    pub min_interval: Duration,
    /// Whom to tell.
    pub notify: Vec<Notification>,
    /// What people call the place it deploys to.
    pub environment: String,
    /// Where that place can be looked at.
    pub url: Option<String>,
    /// Bytes of log a run may keep; the middle is cut beyond it.
    pub max_log_bytes: u64,
}

/// One script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What people call it; by default its first line, shortened.
    pub name: String,
    /// Its text.
    pub script: String,
    /// The program that runs it and that program's arguments; the text follows after `-c`.
    pub shell: Vec<String>,
    /// Its own limit, within the run's.
    pub timeout: Option<Duration>,
    /// Values for this step only.
    pub env: BTreeMap<String, String>,
    /// The user it runs as, if not the hook's.
    pub user: Option<String>,
    /// Where it runs: relative to the tree, or absolute; `None` is the tree itself.
    pub cwd: Option<PathBuf>,
}

/// When and how often a run that ended badly is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How many times after the first.
    pub max: u32,
    /// After which kinds of end.
    pub on: Vec<RetryClass>,
    /// The wait before the first retry; it doubles with each.
    pub backoff: Duration,
}

words! {
    /// What a newer job does to a waiting one.
    QueuePolicy {
        /// The waiting one is superseded; a running one goes on.
        Latest = "latest",
        /// Both run, in order.
        All = "all",
        /// The waiting one is superseded, and a running one is stopped.
        Cancel = "cancel",
    }
}

/// When the remote of a hook is asked for pushes that no delivery brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Never.
    Off,
    /// When the daemon starts.
    AtStart,
    /// Then, and so often.
    Every(Duration),
}

/// Which pushes start a hook.
#[derive(Clone, Debug)]
pub struct On {
    /// Pushes to branches.
    pub push: BranchFilter,
    /// Pushes of tags; `None`: no tag does.
    pub tag: Option<Patterns>,
}

/// Which branches start a hook.
#[derive(Clone, Debug)]
pub enum BranchFilter {
    /// None at all.
    Never,
    /// The repository's default branch, as the forge names it in the push.
    DefaultBranch,
    /// Those that match.
    Matching(Patterns),
}

/// Globs over names: a name fits if it matches one of them and none that begins with `!`.
///
/// `*` does not cross a `/`, `**` does. Only excluding patterns: everything else fits.
#[derive(Clone, Debug)]
pub struct Patterns {
    texts: Vec<String>,
    included: Vec<GlobMatcher>,
    excluded: Vec<GlobMatcher>,
}

impl Patterns {
    /// Compiles the globs; the error names the one that is malformed, and why.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        Self::compile(texts, |glob| vec![glob.to_owned()])
    }

    /// Compiles globs over paths of files. The bare name of a folder is all below it, too.
    pub fn of_files(texts: &[String]) -> Result<Self, String> {
        Self::compile(texts, Self::of_one_file)
    }

    /// The globs that one about files stands for.
    pub fn of_one_file(glob: &str) -> Vec<String> {
        let name = glob.strip_suffix('/').unwrap_or(glob);
        match has_signs(name) {
            true => vec![glob.to_owned()],
            false => vec![name.to_owned(), format!("{name}/**")],
        }
    }

    /// Compiles what each glob stands for.
    fn compile(texts: &[String], stands_for: impl Fn(&str) -> Vec<String>) -> Result<Self, String> {
        let (mut included, mut excluded) = (Vec::new(), Vec::new());
        for text in texts {
            let (glob, list) = match text.strip_prefix('!') {
                Some(rest) => (rest, &mut excluded),
                None => (text.as_str(), &mut included),
            };
            if glob.is_empty() {
                return Err(format!("`{text}` is empty"));
            }
            for glob in stands_for(glob) {
                let glob = GlobBuilder::new(&glob).literal_separator(true).build();
                list.push(glob.map_err(|err| format!("`{text}` is not a glob: {}", err.kind()))?.compile_matcher());
            }
        }
        Ok(Self { texts: texts.to_vec(), included, excluded })
    }

    /// Whether the name fits.
    pub fn match_name(&self, name: &str) -> bool {
        let is_included = self.included.is_empty() || self.included.iter().any(|it| it.is_match(name));
        is_included && !self.excluded.iter().any(|it| it.is_match(name))
    }

    /// The globs as they were written.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The same for people: each between quotes, so that a comma in one is seen to be that.
    pub fn shown(&self) -> String {
        let quoted: Vec<_> = self.texts.iter().map(|it| format!("`{it}`")).collect();
        format!("[{}]", quoted.join(", "))
    }

    /// The one name that fits, if there is just one glob and it is no pattern.
    pub fn single_name(&self) -> Option<&str> {
        match self.texts.as_slice() {
            [only] if is_name(only) => Some(only),
            _ => None,
        }
    }

    /// Whether this very name is written there, not only a pattern that it matches.
    pub fn spell_out(&self, name: &str) -> bool {
        self.texts.iter().any(|it| it == name && is_name(it))
    }

    /// Whether some name fits that is not written there.
    pub fn are_open(&self) -> bool {
        self.included.is_empty() || !self.texts.iter().all(|it| it.starts_with('!') || is_name(it))
    }
}

/// Whether a glob is a plain name.
fn is_name(glob: &str) -> bool {
    !has_signs(glob) && !glob.starts_with('!')
}

/// Whether anything in a glob stands for something else than itself.
fn has_signs(glob: &str) -> bool {
    glob.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// Whether a push starts a hook, and if not, the rule that said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It does.
    Yes,
    /// It does not; the sentence names the rule.
    No(String),
}

impl Hook {
    /// All of its steps, in the order in which they may run.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        [&self.run, &self.activate, &self.on_failure, &self.finally].into_iter().flatten()
    }

    /// Whether this push starts this hook. The repository is the caller's to compare.
    pub fn wants(&self, push: &Push) -> Wanted {
        if !self.enabled {
            return Wanted::No(format!("hook `{}` is not enabled", self.name));
        }
        let (kind, name, fits) = match &push.ref_name {
            RefName::Branch(name) => ("branch", name, self.wants_branch(name, push.default_branch.as_deref())),
            RefName::Tag(name) => ("tag", name, self.wants_tag(name)),
        };
        match (fits, &push.change) {
            (Wanted::Yes, RefChange::Deleted) => {
                Wanted::No(format!("{kind} `{name}` was deleted, and a deletion deploys nothing"))
            }
            (fits, RefChange::Moved(_) | RefChange::Deleted) => fits,
        }
    }

    /// Whether hooks.yaml spells this ref out. One that only matches a pattern may start the hook without ever having been
    /// pushed to before.
    pub fn spells_out(&self, name: &RefName) -> bool {
        match (name, &self.on.push, &self.on.tag) {
            (RefName::Branch(name), BranchFilter::Matching(patterns), _) | (RefName::Tag(name), _, Some(patterns)) => {
                patterns.spell_out(name)
            }
            (RefName::Branch(_), BranchFilter::DefaultBranch | BranchFilter::Never, _) | (RefName::Tag(_), _, None) => {
                true
            }
        }
    }

    /// Whether a ref that hooks.yaml does not spell out may start it: one that matches a pattern.
    pub fn is_open(&self) -> bool {
        let branches = match &self.on.push {
            BranchFilter::Matching(patterns) => patterns.are_open(),
            BranchFilter::DefaultBranch | BranchFilter::Never => false,
        };
        branches || self.on.tag.as_ref().is_some_and(Patterns::are_open)
    }

    fn wants_branch(&self, name: &str, default_branch: Option<&str>) -> Wanted {
        match &self.on.push {
            BranchFilter::Never => Wanted::No(format!("hook `{}` does not listen to branches", self.name)),
            BranchFilter::DefaultBranch => match default_branch {
                Some(default) if default == name => Wanted::Yes,
                Some(default) => Wanted::No(format!("branch `{name}` is not the default branch `{default}`")),
                None => Wanted::No("the delivery does not name the default branch; set `on: {push: ...}`".into()),
            },
            BranchFilter::Matching(patterns) => verdict("branch", name, patterns),
        }
    }

    fn wants_tag(&self, name: &str) -> Wanted {
        match &self.on.tag {
            None => Wanted::No(format!("hook `{}` does not listen to tags", self.name)),
            Some(patterns) => verdict("tag", name, patterns),
        }
    }
}

fn verdict(kind: &str, name: &str, patterns: &Patterns) -> Wanted {
    if patterns.match_name(name) {
        Wanted::Yes
    } else {
        Wanted::No(format!("{kind} `{name}` is not in {}", patterns.shown()))
    }
}

#[cfg(test)]
mod tests {
    use super::Patterns;

    #[test]
    fn a_star_stays_within_one_component_and_an_exclusion_always_wins() {
        let texts = ["main", "release/*", "!release/old"].map(str::to_owned);
        let patterns = Patterns::parse(&texts).expect("good globs");
        for fits in ["main", "release/2"] {
            assert!(patterns.match_name(fits), "{fits}");
        }
        for misses in ["dev", "release/1/2", "release/old", "mainly"] {
            assert!(!patterns.match_name(misses), "{misses}");
        }
        let all_but = Patterns::parse(&["!dev".to_owned()]).expect("good glob");
        assert!(all_but.match_name("main") && !all_but.match_name("dev"));
        assert!(Patterns::parse(&["a[".to_owned()]).is_err());
        assert_eq!(patterns.shown(), "[`main`, `release/*`, `!release/old`]");
    }

    #[test]
    fn the_bare_name_of_a_folder_is_all_below_it_where_files_are_meant() {
        let files = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|it| (*it).to_owned()).collect();
            Patterns::of_files(&texts).expect("good globs")
        };
        let patterns = files(&["web", "lib/js/", "docs/*", "!web/old"]);
        for fits in ["web", "web/a", "web/a/b", "lib/js/x", "docs/a"] {
            assert!(patterns.match_name(fits), "{fits}");
        }
        for misses in ["website", "lib/x", "docs/a/b", "web/old", "web/old/x", "x/web"] {
            assert!(!patterns.match_name(misses), "{misses}");
        }
        assert_eq!(patterns.texts()[1], "lib/js/", "as it was written");
        assert!(!Patterns::parse(&["web".to_owned()]).expect("a glob").match_name("web/a"), "branches have no folders");
    }
}
