//! Looks at everything that an operator has set up, and says what is in order and what to do about the rest.
//!
//! Invariant: nothing is changed, no secret is looked up, and nobody outside of this machine is asked.

mod apart;
mod ground;
mod holding;
mod hook;
mod records;
mod secret;
mod unit;

use std::{fmt, fs, os::unix::fs::MetadataExt, path::Path};

use crate::{
    hooks::{Environment, Outline, Problem, Refused, Server, Severity, outline},
    process::user::Account,
    store,
    web::views::{HookStatus, Status},
};

pub use self::unit::Unit;

/// What to do where only root or the daemon's user could look.
const AS_WHOM: &str = "run `landfall doctor` as the daemon's user, or as root";

/// More hooks than these are only counted where they are in order.
const HOOKS_SHOWN_MAX: usize = 12;

/// How something was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// In order.
    Ok,
    /// It works, or will; somebody should look.
    Warn,
    /// Something does not work.
    Fail,
}

impl Verdict {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at: `state`, `hook website`.
    pub subject: String,
    /// What was seen, in one sentence without a full stop.
    pub message: String,
    /// What to do about it; there is something unless it is in order.
    pub help: Option<String>,
}

impl Finding {
    fn ok(subject: &str, message: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, subject: subject.into(), message: message.into(), help: None }
    }

    fn warn(subject: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { verdict: Verdict::Warn, subject: subject.into(), message: message.into(), help }
    }

    fn fail(subject: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { verdict: Verdict::Fail, subject: subject.into(), message: message.into(), help }
    }
}

/// What is known of the daemon before anything is looked at.
#[derive(Debug)]
pub enum Daemon {
    /// It answers, and this is what it says of itself.
    Answers(Box<Status>),
    /// It does not, for this reason.
    Silent(String),
}

/// All that was found.
#[derive(Debug)]
pub struct Checkup {
    /// In the order in which a push meets these things.
    pub findings: Vec<Finding>,
    /// Whether hooks.yaml would be taken.
    pub is_config_good: bool,
}

/// Looks at everything. `state` is where the daemon keeps its state, as far as that is known.
pub fn look(
    file: &Path,
    environment: &Environment,
    state: Option<&Path>,
    daemon: &Daemon,
    unit: Option<&Unit>,
) -> Checkup {
    let outlined = outline(file, environment);
    let mut findings = read_file(file, &outlined);
    findings.push(daemon_finding(file, state, daemon));
    let needed = outlined.as_ref().map_or(0, ground::room_needed);
    let account = account(state, daemon);
    if let (Some(state), Ok(account)) = (state, &account) {
        findings.extend(ground::look(state, account, needed));
        findings.extend(records::look(state));
    }
    findings.extend(holding::look(daemon));
    findings.extend(renamed(daemon));
    let known = outlined.as_ref().ok().map(|it| &it.hooks);
    findings.extend(unit.into_iter().flat_map(|it| unit::look(it, known)));
    if let Ok(outline) = &outlined {
        findings.extend(address(&outline.server));
        findings.extend(secret::look(&outline.secrets));
        match &account {
            Ok(account) => {
                findings.extend(hooks(outline, state, account));
                findings.extend(apart::look(outline, account));
            }
            Err(why) => findings.push(Finding::fail("daemon", why.as_str(), "give the daemon a user of this machine")),
        }
    }
    Checkup { findings, is_config_good: outlined.is_ok() }
}

/// What the system says, without its number.
fn plain(err: impl fmt::Display) -> String {
    let text = err.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Who the daemon is or will be: by its process, else by whose the state folder is, else whoever asks.
fn account(state: Option<&Path>, daemon: &Daemon) -> Result<Account, String> {
    let owner = |path: &Path| fs::metadata(path).ok().map(|it| it.uid());
    let found = match daemon {
        Daemon::Answers(status) => user_of_process(status.pid),
        Daemon::Silent(_) => state.and_then(owner),
    };
    found.map_or_else(|| Account::find(None), Account::numbered)
}

/// Whose a process is. Its folder in /proc would be root's, as it hides what it knows.
fn user_of_process(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    // Real, effective, saved, and that for files.
    status.lines().find_map(|it| it.strip_prefix("Uid:"))?.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn read_file(file: &Path, outlined: &Result<Outline, Refused>) -> Vec<Finding> {
    let subject = "hooks.yaml";
    let found = |it: &Problem| {
        let message = format!("{}:{}:{}: {}", it.file.display(), it.line, it.column, it.message);
        let help = it.help.clone().unwrap_or_else(|| "see `landfall check`".into());
        match it.severity {
            Severity::Error => Finding::fail(subject, message, help),
            Severity::Warning => Finding::warn(subject, message, help),
        }
    };
    match outlined {
        Err(refused) => refused.problems.iter().map(found).collect(),
        Ok(outline) => {
            let count = outline.hooks.len();
            let hooks = if count == 1 { "1 hook".to_owned() } else { format!("{count} hooks") };
            let good = Finding::ok(subject, format!("{}: {hooks}, no errors", file.display()));
            std::iter::once(good).chain(outline.warnings.iter().map(found)).collect()
        }
    }
}

fn daemon_finding(file: &Path, state: Option<&Path>, daemon: &Daemon) -> Finding {
    let subject = "daemon";
    let own = env!("CARGO_PKG_VERSION");
    let is_same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => one == other,
    };
    match daemon {
        Daemon::Answers(status) => {
            let said = format!("landfall {} answers, process {}", status.version, status.pid);
            if let Some(trouble) = &status.config_trouble {
                let first = trouble.lines().next().unwrap_or_default();
                let message =
                    format!("{said}, and follows an earlier hooks.yaml, since it could not take this one: {first}");
                return Finding::fail(subject, message, "mend hooks.yaml; it is taken as soon as it is good");
            }
            if !is_same(Path::new(&status.config), file) {
                let message = format!("{said}, and follows {}, not {}", status.config, file.display());
                return Finding::warn(
                    subject,
                    message,
                    format!("look at that one: `landfall doctor --config {}`", status.config),
                );
            }
            if let Some(damage) = &status.damage {
                let message = format!("{said}, and answers every push with 503: the database is damaged: {damage}");
                return Finding::fail(subject, message, "stop it, keep a copy of the state folder, and look once more");
            }
            if let Some(loss) = &status.loss {
                let message = format!("{said}; at its start at {}, {}", loss.at, loss.message);
                return Finding::warn(subject, message, "`landfall deploy HOOK` brings a hook to what its branch has");
            }
            if status.version != own {
                let message = format!("{said}, and this program is landfall {own}");
                return Finding::warn(subject, message, "restart the daemon; deploys under way go on");
            }
            Finding::ok(subject, said)
        }
        Daemon::Silent(why) => match state.map(store::is_in_use) {
            Some(true) => Finding::fail(
                subject,
                format!("one is at work on the state folder and cannot be asked: {why}"),
                "ask as its user or as root; if it hangs, restart it: deploys under way go on",
            ),
            Some(false) | None => {
                Finding::warn(subject, "none is running", "start it: `landfall serve`, or `systemctl start landfall`")
            }
        },
    }
}

/// Whether forges can reach us by the address that people enter there.
fn address(server: &Server) -> Option<Finding> {
    let url = &server.public_url;
    if !server.is_public_url_loopback() {
        return Some(Finding::ok("public_url", format!("payload URLs begin with {url}")));
    }
    let help = "set `server.public_url` to the address by which forges reach you";
    Some(Finding::warn("public_url", format!("{url} leads to this machine alone, and no forge is on it"), help))
}

/// The hooks whose repository has another name at its forge than in hooks.yaml.
fn renamed(daemon: &Daemon) -> Vec<Finding> {
    let Daemon::Answers(status) = daemon else { return Vec::new() };
    let of_hook = |hook: &HookStatus| {
        let new = hook.renamed_to.as_ref()?;
        let message = format!("the forge now calls `{}` `{new}`, so its pushes start nothing", hook.repo);
        Some(Finding::fail(&format!("hook {}", hook.hook), message, format!("write `{new}` in hooks.yaml")))
    };
    status.hooks.iter().filter_map(of_hook).collect()
}

fn hooks(outline: &Outline, state: Option<&Path>, daemon: &Account) -> Vec<Finding> {
    let all: Vec<Vec<Finding>> = outline.hooks.values().map(|it| hook::look(it, state, daemon)).collect();
    if all.len() <= HOOKS_SHOWN_MAX {
        return all.into_iter().flatten().collect();
    }
    let is_good = |it: &Finding| it.verdict == Verdict::Ok;
    let good = all.iter().filter(|it| it.iter().all(is_good)).count();
    let counted = Finding::ok("hooks", format!("{good} of {} hooks have their user, folder and room", all.len()));
    std::iter::once(counted).chain(all.into_iter().flatten().filter(|it| !is_good(it))).collect()
}
