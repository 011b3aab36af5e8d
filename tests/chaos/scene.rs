//! Where a storm takes place: one folder with hooks.yaml, state, repositories and history.
//!
//! Invariant: everything that runs for a scene has `CHAOS_SCENE=<folder>` in its environment, or works in that folder, by
//! which its warden finds it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    clock::Clock,
    history::{self, Pen},
    rules::{Queue, RULES, Rule, Told},
};

/// The secret that all sources share with their forge.
pub const SECRET: &str = "a secret of the chaos harness";

/// The commits of a repository of a hook with a tree, in their order.
pub struct Repo {
    pub repo: &'static str,
    pub bare: PathBuf,
    pub commits: Vec<String>,
}

/// A scene.
pub struct Scene {
    pub folder: PathBuf,
    /// Where deliveries are received.
    pub address: SocketAddr,
    /// Of the program under test: what it is to do wrong.
    pub failpoints: Option<&'static str>,
    pub repos: Vec<Repo>,
    pub pen: Pen,
    pub clock: Clock,
    /// Why the disk cannot be filled; nothing if it can.
    pub no_full_disk: Option<String>,
    hooks_yaml: String,
}

impl Scene {
    /// A scene for a storm of so many seconds, its sinks at these ports. The folder is there already.
    pub fn set(folder: &Path, seconds: u64, sinks: (u16, u16), failpoints: Option<&'static str>) -> Self {
        fs::write(folder.join("job.sh"), include_str!("job.sh")).expect("written");
        let no_full_disk = mount(&folder.join("state"), seconds).err();
        // An address of its own, so that no other test takes the port while the daemon is down.
        let pid = std::process::id();
        let address = SocketAddr::from(([127, 83, (pid >> 8) as u8, pid as u8 | 1], 9000));
        let pen = Pen::open(&history::path(folder));
        let with_trees = RULES.iter().filter(|it| it.has_tree);
        let mut scene = Self {
            folder: folder.to_owned(),
            address,
            failpoints,
            repos: with_trees.map(|it| repo(folder, it.repo, seconds)).collect(),
            clock: Clock::at(folder, &pen),
            pen,
            no_full_disk,
            hooks_yaml: String::new(),
        };
        scene.hooks_yaml = scene.yaml(sinks);
        scene.write_hooks(0);
        scene
    }

    /// Writes hooks.yaml, the same in other words for every `edition`; by rename, as careful editors do.
    pub fn write_hooks(&self, edition: u64) {
        self.replace_hooks(&format!("# edition {edition}\n{}", self.hooks_yaml));
    }

    /// Writes a hooks.yaml that must not be taken.
    pub fn spoil_hooks(&self) {
        self.replace_hooks("hooks: {site: {github: acme/site, runn: 'rm -rf /'}}\n");
    }

    fn replace_hooks(&self, text: &str) {
        let draft = self.folder.join("hooks.yaml.new");
        fs::write(&draft, text).expect("written");
        fs::rename(draft, self.folder.join("hooks.yaml")).expect("renamed");
    }

    fn yaml(&self, (smtp, slack): (u16, u16)) -> String {
        let mut text = format!(
            "server: {{listen: '{}', admin: off, state: '{}', workers: 4, grace: 300ms}}
smtp: {{host: 127.0.0.1, port: {smtp}, tls: none, from: 'chaos <chaos@localhost>'}}
sources: {{acme: {{forge: github, secret: {{env: CHAOS_SECRET}}}}}}
defaults:
  pass_env: [CHAOS_SCENE, FAILPOINTS]
  retry: {{max: 2, on: [tempfail], backoff: 100ms}}
  kill_grace: 200ms
  timeout: 60s
hooks:
",
            self.address,
            self.state().display()
        );
        for rule in RULES {
            for line in self.lines_of(rule, slack) {
                text.push_str(&format!("    {line}\n"));
            }
            text = text.replace(&format!("    {}:\n", rule.name), &format!("  {}:\n", rule.name));
        }
        text
    }

    fn lines_of(&self, rule: &Rule, slack: u16) -> Vec<String> {
        let Rule { name, repo, lane, .. } = rule;
        let branches: Vec<String> = rule.branches.iter().map(|it| format!("'{it}'")).collect();
        let mut lines = vec![
            format!("{name}:"),
            if rule.is_shared {
                format!("source: acme\n    repo: {repo}")
            } else {
                format!("github: {repo}\n    secret: {{env: CHAOS_SECRET}}")
            },
            format!("on: {{push: [{}]}}", branches.join(", ")),
            format!("lane: {lane}"),
            format!("env: {{LANE: {lane}}}"),
            "run: sh $CHAOS_SCENE/job.sh".to_owned(),
            if rule.has_tree {
                let (tree, bare) = (self.folder.join("trees").join(name), bare(&self.folder, repo));
                format!("deploy: {{path: '{}', remote: '{}', min_free: 1MiB}}", tree.display(), bare.display())
            } else {
                "deploy: {strategy: none, min_free: 1MiB}".to_owned()
            },
        ];
        lines.extend(match rule.queue {
            Queue::All => Some("queue: all".to_owned()),
            Queue::CancelOfRef => Some("queue: cancel".to_owned()),
            Queue::LatestOfRef | Queue::LatestOfHook => None,
        });
        lines.extend(match rule.told {
            Told::Slack => Some(format!("notify: {{slack: 'http://127.0.0.1:{slack}/{name}', on: all}}")),
            Told::Mail => Some(format!("notify: {{email: {name}@localhost, on: all}}")),
            Told::Nobody => None,
        });
        lines.extend(rule.lines.lines().map(str::to_owned));
        lines
    }

    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Copies the database as it lies there, if there is one; no daemon has it open.
    pub fn copy_database(&self) -> bool {
        copy_database(&self.state(), &self.folder.join("copy"))
    }

    /// Puts the copy in its place, if there is one; no daemon has it open.
    pub fn put_back(&self) -> bool {
        copy_database(&self.folder.join("copy"), &self.state())
    }

    /// Of each hook with a tree the commit that its remote offers.
    pub fn offers(&self) -> BTreeMap<&'static str, String> {
        let tip = |it: &Repo| git(&it.bare, &["rev-parse", "main"], "").trim().to_owned();
        self.repos.iter().map(|it| (it.repo, tip(it))).collect()
    }

    /// A command of the program under test.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
        command.current_dir(&self.folder).args(arguments).stdin(Stdio::null());
        command.env_remove("LANDFALL_SOCKET").env_remove("STATE_DIRECTORY").env_remove("RUNTIME_DIRECTORY");
        command.env_remove("FAILPOINTS").env("CHAOS_SCENE", &self.folder).env("CHAOS_SECRET", SECRET);
        if let Some(failpoints) = self.failpoints {
            command.env("FAILPOINTS", failpoints);
        }
        command
    }

    /// Makes the state's disk as large as what is on it, so that nothing more fits.
    pub fn fill_disk(&self) {
        let stat = rustix::fs::statvfs(self.state()).expect("a mount");
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
        // More may have been written since; then it is not quite full, or full a moment later.
        let _ = remount(&self.state(), used);
    }

    /// Gives the state's disk its room back.
    pub fn free_disk(&self, seconds: u64) {
        remount(&self.state(), room(seconds)).expect("a larger disk");
    }
}

/// With what was not yet written into it; a file of the place that the copy does not have goes.
fn copy_database(from: &Path, to: &Path) -> bool {
    if !from.join("landfall.db").exists() {
        return false;
    }
    fs::create_dir_all(to).expect("a folder");
    for name in ["landfall.db", "landfall.db-wal", "landfall.db-shm"] {
        let (source, place) = (from.join(name), to.join(name));
        if source.exists() && name != "landfall.db-shm" {
            fs::copy(source, place).expect("a copy");
        } else if place.exists() {
            fs::remove_file(place).expect("removed");
        }
    }
    true
}

/// The disk of a storm of so many seconds, in bytes. It is memory only as far as it is used.
fn room(seconds: u64) -> u64 {
    (256 << 20) + seconds * (2 << 20)
}

/// Puts the state on a disk of its own, which can be filled without harm to others.
fn mount(state: &Path, seconds: u64) -> Result<(), String> {
    fs::create_dir(state).expect("a folder");
    let size = format!("size={},mode=0700", room(seconds));
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "chaos"]).arg(state).output();
    match mount {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("no tmpfs").to_owned()),
        Err(err) => Err(err.to_string()),
    }
}

fn remount(state: &Path, bytes: u64) -> Result<(), String> {
    let size = format!("remount,size={bytes}");
    let output = Command::new("mount").args(["-o", &size]).arg(state).output().map_err(|err| err.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn bare(folder: &Path, repo: &str) -> PathBuf {
    folder.join(format!("{}.git", repo.replace('/', "-")))
}

/// A repository with more commits than will be pushed; its branch is at the first of them.
fn repo(folder: &Path, name: &'static str, seconds: u64) -> Repo {
    let bare = bare(folder, name);
    git(folder, &["init", "--quiet", "--bare", "--initial-branch=main", bare.to_str().expect("plain")], "");
    let mut stream = String::new();
    for number in 1..=40 + seconds * 4 {
        let serial = format!("{name}-{number}\n");
        let page = format!("{}\n", number * 7).repeat(50);
        stream.push_str(&format!(
            "commit refs/heads/main\ncommitter Ana <ana@example.org> {} +0000\ndata 8\na commit\n\
             M 100644 inline serial\ndata {}\n{serial}\nM 100644 inline page\ndata {}\n{page}\n",
            1_700_000_000 + number,
            serial.len(),
            page.len()
        ));
    }
    git(&bare, &["fast-import", "--quiet"], &stream);
    let commits: Vec<_> = git(&bare, &["rev-list", "--reverse", "main"], "").lines().map(str::to_owned).collect();
    let repo = Repo { repo: name, bare, commits };
    repo.point_at(0);
    repo
}

impl Repo {
    /// What the file `serial` of that commit says.
    pub fn serial(&self, number: usize) -> String {
        format!("{}-{}", self.repo, number + 1)
    }

    /// Moves the branch to a commit, as a push would.
    pub fn point_at(&self, number: usize) {
        git(&self.bare, &["update-ref", "refs/heads/main", &self.commits[number]], "");
    }
}

fn git(folder: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let mut child = command.spawn().expect("git is installed by scripts/test");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("git reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "git {arguments:?} in {}", folder.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}
