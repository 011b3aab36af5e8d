//! The promises of git work, kept against real git.
//!
//! Invariant: this file and `server` alone know how a room is set up; the others state input and expectation.

mod ancestry;

mod faults;

mod fetch;

mod filter;

mod fresh;

mod alike;

mod subst;

mod marked;

mod depth;

mod submodules;

mod modules;

mod strangers;

mod lfs;

mod https;

mod in_place;

mod kept;

mod habits;

mod kill;

mod large;

mod hostile;

mod unlucky;

mod damage;

mod silent;

mod words;

mod server;

mod ssh;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use self::ssh::SshRoom;
use crate::git::{
    Against, Answer, Fetch, Fetched, GitFailure, Into, Login, LoginProof, Order, Place, SILENCE, Scope, Stage, Staged,
    serve,
};
use crate::{
    model::{
        deploy::{Depth, Git},
        job::{Asked, Target},
        push::{CommitId, RefName},
        remote::WrittenRemote,
    },
    process::errand,
};

/// Waiting for anything longer than this is a failure.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for a state.
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "waited too long for {what}");
        thread::yield_now();
    }
}

/// A git command that nobody's configuration touches.
fn git_command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for (name, value) in [("NAME", "Ana"), ("EMAIL", "ana@example.org"), ("DATE", "1700000000 +0000")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command
}

/// Runs git and answers what it printed, without the newline at the end.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = git_command(folder).args(arguments).output().expect("git is installed");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "git {arguments:?} failed: {out}{err}");
    out.trim_end().to_owned()
}

/// Like [`git`], with something on standard input.
fn git_with_input(folder: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut command = git_command(folder);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git");
    child.stdin.take().expect("piped").write_all(input).expect("git reads its input");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "git {arguments:?} failed");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn id(text: &str) -> CommitId {
    CommitId::parse(text).expect("git prints ids")
}

fn main_branch() -> RefName {
    RefName::Branch("main".into())
}

/// A key of its own for ssh.
fn ssh_login(key: PathBuf, known_hosts: PathBuf) -> Vec<Login> {
    vec![Login { host: None, proof: LoginProof::SshKey { key, known_hosts: Some(known_hosts) } }]
}

/// A folder of its own with a repository `source`, and room for a mirror and trees.
struct Room {
    folder: TempDir,
    scope: Scope,
    /// Where it is fetched from: the source's folder, unless a test says otherwise.
    remote: String,
}

impl Room {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::create_dir(folder.path().join("source")).expect("a folder");
        git(&folder.path().join("source"), &["init", "-q", "-b", "main"]);
        let remote = folder.path().join("source").display().to_string();
        let git = Git::plain(WrittenRemote::parse("/x").expect("a folder"));
        let scope = Scope { depth: Depth::All, ..Scope::of(&git) };
        Self { folder, scope, remote }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self) -> PathBuf {
        self.path("source")
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.source(), arguments)
    }

    /// Writes files into the source; `None` removes one.
    fn write(&self, files: &[(&str, Option<&[u8]>)]) {
        write_files(&self.source(), files);
    }

    /// Commits these files and everything else that changed.
    fn commit(&self, files: &[(&str, &str)]) -> CommitId {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, Some(text.as_bytes()))).collect();
        self.write(&files);
        self.git(&["add", "-A", "-f"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "change things"]);
        self.head()
    }

    fn head(&self) -> CommitId {
        id(&self.git(&["rev-parse", "HEAD"]))
    }

    fn order(&self, remote: &str, logins: Vec<Login>, target: Target) -> Fetch {
        let (against, scope) = (Against::nothing(Asked::Push), self.scope.clone());
        let (into, mirrors) = (Into::Mirror(self.path("mirror.git")), self.folder.path().to_owned());
        Fetch { into, mirrors, remote: remote.into(), logins, target, scope, against, silence: SILENCE }
    }

    fn fetch_from(&self, remote: &str, logins: Vec<Login>, target: Target) -> Result<Fetched, GitFailure> {
        super::bring::fetch(&self.order(remote, logins, target))
    }

    fn fetch(&self, target: Target) -> Result<Fetched, GitFailure> {
        self.fetch_from(&self.remote, Vec::new(), target)
    }

    /// Fetches into the repository of a working tree.
    fn fetch_into(&self, path: &Path, target: Target) -> Result<Fetched, GitFailure> {
        let into = Into::WorkTree(path.to_owned());
        super::bring::fetch(&Fetch { into, ..self.order(&self.remote, Vec::new(), target) })
    }

    /// The order that writes a tree into a new folder.
    fn fresh(&self, tree: &Path) -> Place {
        Place::Fresh { mirror: self.path("mirror.git"), tree: tree.to_owned(), ref_name: Some(main_branch()) }
    }

    fn fetch_commit(&self, commit: &CommitId) -> Result<Fetched, GitFailure> {
        self.fetch(Target::Commit { commit: commit.clone(), ref_name: Some(main_branch()) })
    }

    /// Stages a commit; in place it is fetched first, as a run does it.
    fn stage(&self, commit: &CommitId, place: Place, previous: Option<&CommitId>) -> Result<Staged, GitFailure> {
        if let Place::InPlace { path, ref_name, .. } = &place {
            let target = Target::Commit { commit: commit.clone(), ref_name: ref_name.clone() };
            self.fetch_into(path, target)?;
        }
        super::stage::stage(&Stage {
            remote: self.remote.clone(),
            commit: commit.clone(),
            place,
            scope: self.scope.clone(),
            previous: previous.cloned(),
            changed_files: self.path("changed-files"),
        })
    }

    /// Fetches a commit and stages it into the fresh folder `name`.
    fn stage_fresh(&self, commit: &CommitId, name: &str) -> Result<PathBuf, GitFailure> {
        let tree = self.path(name);
        self.fetch_commit(commit)?;
        self.stage(commit, self.fresh(&tree), None)?;
        Ok(tree)
    }

    /// Starts a child that does the order, and reads its answer from standard input to the end.
    fn start_child(&self, order: &Order, environment: &[(&str, &OsStr)]) -> Child {
        self.start_child_by(
            Command::new(std::env::current_exe().expect("a test knows its program")),
            order,
            environment,
        )
    }

    /// Starts a child by a command that ends with its program.
    fn start_child_by(&self, mut command: Command, order: &Order, environment: &[(&str, &OsStr)]) -> Child {
        let name = "git::tests::a_child_does_one_order_and_answers_on_standard_output";
        command.args(["--exact", name, "--nocapture"]).env(SERVE, "1").env("HOME", self.folder.path());
        command.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a test can start itself");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(errand::encode(order).as_bytes()).expect("the child reads its order");
        child
    }

    /// Fetches by a child, and answers what it said to people, too.
    fn fetch_by_child(&self, order: Fetch, environment: &[(&str, &OsStr)]) -> (Result<Fetched, GitFailure>, String) {
        let child = self.start_child(&Order::Fetch(order), environment);
        let output = child.wait_with_output().expect("the child ends");
        (
            errand::decode(answer(&output)).and_then(Answer::fetched),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }
}

/// Tells a test that it is a child.
const SERVE: &str = "LANDFALL_TEST_SERVE";

/// The answer without what the test harness printed before.
fn answer(output: &Output) -> &[u8] {
    let begin = output.stdout.iter().position(|it| *it == b'{').unwrap_or(output.stdout.len());
    &output.stdout[begin..]
}

#[test]
fn a_child_does_one_order_and_answers_on_standard_output() {
    if std::env::var_os(SERVE).is_some() {
        let code = serve();
        std::process::exit(i32::from(code != ExitCode::SUCCESS));
    }
    let room = Room::new();
    let commit = room.commit(&[("a", "1")]);
    let target = Target::Ref(main_branch());
    let order = room.order(&room.source().display().to_string(), Vec::new(), target);
    let (fetched, said) = room.fetch_by_child(order, &[]);
    let fetched = fetched.expect("fetched");
    assert_eq!((&fetched.commit, &fetched.ref_name), (&commit, &Some(main_branch())));
    assert!(said.contains("fetching ") && said.contains("received 3 objects"), "{said}");
}

fn write_files(folder: &Path, files: &[(&str, Option<&[u8]>)]) {
    for (path, content) in files {
        let whole = folder.join(path);
        fs::create_dir_all(whole.parent().expect("below a folder")).expect("a folder");
        match content {
            Some(content) => File::create(&whole).and_then(|mut it| it.write_all(content)).expect("a file"),
            None => fs::remove_file(&whole).expect("a file to remove"),
        }
    }
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
}

/// Everything below a folder but git's own data: mode, and content or link target.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            let relative = path.strip_prefix(folder).expect("below").to_owned();
            if relative == Path::new(".git") {
                continue;
            }
            let metadata = path.symlink_metadata().expect("metadata");
            let content = if metadata.is_symlink() {
                path.read_link().expect("a link").into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                open.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).expect("a file")
            };
            found.insert(relative, (metadata.mode(), content));
        }
    }
    found
}
