//! Git over ssh, by the OpenSSH program, so that people's own ssh configuration counts.
//!
//! Invariant: nothing of a remote is read as an option or by a shell, and an unknown host key is never accepted.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, Read},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::unistd::{Uid, User};

use super::{child_stream::ChildStream, journey::Journey};
use crate::git::{
    GitFailure, LoginProof,
    remote::Remote,
    shell::{path_word, quoted, word},
};

/// Until the connection stands.
const CONNECT: Duration = Duration::from_secs(30);

/// Starts what speaks for the remote of a journey.
pub(in crate::git) fn connect(journey: &Journey) -> Result<ChildStream, GitFailure> {
    let Remote::Ssh { path, .. } = &journey.remote else {
        return Err(GitFailure::other("this remote is not one for ssh"));
    };
    start(journey, &format!("git-upload-pack {}", quoted(path)))
}

/// Runs a command on the far side. What it prints is read from the answer; trouble on the way is noted in the journey.
pub(in crate::git) fn ask(journey: &Journey, command: &str) -> Result<impl Read + use<>, GitFailure> {
    let mut stream = start(journey, command)?;
    stream.close_input();
    Ok(stream)
}

fn start(journey: &Journey, command_there: &str) -> Result<ChildStream, GitFailure> {
    let Remote::Ssh { user, host, port, .. } = &journey.remote else {
        return Err(GitFailure::other("this remote is not one for ssh"));
    };
    let mut command = Command::new("ssh");
    command.args(options(journey)).args(port.iter().flat_map(|it| ["-p".to_owned(), it.to_string()]));
    let address = user.as_ref().map_or_else(|| host.clone(), |user| format!("{user}@{host}"));
    // ssh hands this one text to the far side's shell.
    command.arg("--").arg(address).arg(command_there);
    ChildStream::start(command, "ssh", journey, meaning).map_err(|err| match err.kind() {
        io::ErrorKind::NotFound => GitFailure::permanent(
            "the program `ssh` is not installed, and this remote needs it (on Debian: apt install openssh-client)",
        ),
        _ => GitFailure::other(format!("cannot start ssh: {err}")),
    })
}

fn options(journey: &Journey) -> Vec<OsString> {
    let mut options: Vec<OsString> = vec!["-T".into()];
    let mut set = |value: OsString| options.extend(["-o".into(), value]);
    // A shared connection would leave a process behind that holds our pipes. Whatever a person's own configuration
    // hands on to hosts they trust, a host that a repository names must not get.
    let fixed = ["BatchMode=yes", "ControlMaster=no", "ControlPath=none", "ClearAllForwardings=yes"];
    let more = ["ForwardAgent=no", "ForwardX11=no", "GSSAPIDelegateCredentials=no", "PermitLocalCommand=no"];
    for value in fixed.into_iter().chain(more) {
        set(value.into());
    }
    // In whole seconds, and none would be no limit.
    set(format!("ConnectTimeout={}", CONNECT.min(journey.silence).as_secs().max(1)).into());
    match &journey.proof {
        Some(LoginProof::SshKey { key, known_hosts }) => {
            set(file_option("IdentityFile", key));
            set("IdentitiesOnly=yes".into());
            if let Some(known_hosts) = known_hosts {
                set(file_option("UserKnownHostsFile", known_hosts));
                set("GlobalKnownHostsFile=/dev/null".into());
                set("StrictHostKeyChecking=yes".into());
            }
        }
        Some(LoginProof::Token { .. }) | None => (),
    }
    options
}

/// A file name as ssh_config has it: quoted, and with `%` standing for itself.
fn file_option(name: &str, path: &Path) -> OsString {
    let path = path.to_string_lossy().replace('%', "%%").replace('\\', r"\\").replace('"', "\\\"");
    format!("{name}=\"{path}\"").into()
}

/// What ssh's last lines mean for people, and whether another try may help.
fn meaning(words: &VecDeque<String>, journey: &Journey) -> GitFailure {
    let said = |what: &str| words.iter().any(|line| line.to_ascii_lowercase().contains(what));
    let shown = journey.remote.shown();
    let last = words.back().cloned().unwrap_or_else(|| "ssh said nothing".to_owned());
    if said("host identification has changed") {
        return GitFailure::permanent(format!(
            "the host key of `{shown}` is not the one we know: someone may be in between. If the host did change it, \
             check the new one and replace the old: {}",
            known_hosts_commands(journey, true)
        ));
    }
    if said("host key verification failed") || said("host key is known for") {
        return GitFailure::permanent(format!(
            "the host key of `{shown}` is not known: run {}, and compare the key with what the host publishes",
            known_hosts_commands(journey, false)
        ));
    }
    let permanent = [
        "permission denied",
        "no such identity",
        "does not appear to be a git repository",
        "repository not found",
        "no such file or directory",
        "not a git repository",
        "bad configuration option",
        "access denied",
    ];
    if said("no route to host") || said("connection refused") || said("timed out") || said("could not resolve") {
        return GitFailure::fetch(format!("cannot reach `{shown}`: {last}"));
    }
    match permanent.into_iter().find(|it| said(it)) {
        Some(what) => {
            let quoted = words.iter().find(|line| line.to_ascii_lowercase().contains(what)).unwrap_or(&last);
            let is_absent = what.contains("repository");
            let clause = if is_absent { "has no repository there for us" } else { "does not let us in" };
            GitFailure::permanent(format!("`{shown}` {clause}: {quoted}"))
        }
        None => GitFailure::fetch(format!("ssh to `{shown}` ended: {last}")),
    }
}

/// The commands that make a host key known.
fn known_hosts_commands(journey: &Journey, is_known: bool) -> String {
    let Remote::Ssh { host, port, .. } = &journey.remote else { return String::new() };
    let file = match &journey.proof {
        Some(LoginProof::SshKey { known_hosts: Some(file), .. }) => file.clone(),
        // Written out, as the person who reads this may be somebody else. ssh, too, goes by the user's entry.
        Some(LoginProof::SshKey { known_hosts: None, .. } | LoginProof::Token { .. }) | None => {
            let user = User::from_uid(Uid::current()).ok().flatten();
            user.map_or_else(|| PathBuf::from("~"), |it| it.dir).join(".ssh/known_hosts")
        }
    };
    let folder = file.parent().filter(|it| !it.exists() && !it.starts_with("~"));
    // A shell finds somebody's home only where the `~` is in no quotes.
    let shown = |path: &Path| match path.strip_prefix("~") {
        Ok(below) => format!("~/{}", path_word(below)),
        Err(_) => path_word(path),
    };
    let make = folder.map(|it| format!("mkdir -p -m 700 {} && ", shown(it))).unwrap_or_default();
    let file = shown(&file);
    let (option, name) = match port {
        Some(port) => (format!("-p {port} "), format!("[{host}]:{port}")),
        None => (String::new(), host.clone()),
    };
    let scan = format!("`{make}ssh-keyscan {option}{} >> {file}`", word(host));
    match is_known {
        true => format!("`ssh-keygen -R {} -f {file}`, then {scan}", quoted(&name)),
        false => scan,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::{file_option, meaning};
    use crate::{
        git::{
            SILENCE,
            progress::Meter,
            remote::Remote,
            transport::journey::{Journey, NamedBy, Trouble},
        },
        model::run::FailureClass,
    };

    fn means(line: &str) -> (FailureClass, String) {
        let remote = Remote::parse("ssh://git@git.example.org:2222/acme/site").expect("ssh");
        let (trouble, meter) = (Trouble::default(), Meter::new());
        let journey = Journey {
            remote,
            proof: None,
            named_by: NamedBy::Hook,
            is_vouched_for: true,
            silence: SILENCE,
            trouble,
            indexed_into: None,
            meter,
        };
        let failure = meaning(&VecDeque::from([line.to_owned()]), &journey);
        (failure.class, failure.reason)
    }

    #[test]
    fn what_ssh_says_decides_whether_another_try_may_help() {
        for passes in ["ssh: connect to host x port 22: Connection refused", "kex_exchange_identification: reset", ""] {
            assert_eq!(means(passes).0, FailureClass::Fetch, "{passes}");
        }
        for stays in ["git@x: Permission denied (publickey).", "ERROR: Repository not found."] {
            assert_eq!(means(stays).0, FailureClass::Permanent, "{stays}");
        }
        let (class, reason) = means("Host key verification failed.");
        assert_eq!(class, FailureClass::Permanent);
        let (begin, end) = ("ssh-keyscan -p 2222 git.example.org >> /", "/.ssh/known_hosts`");
        assert!(reason.contains(begin) && reason.contains(end), "{reason}");
    }

    #[test]
    fn a_file_name_is_one_word_for_ssh() {
        assert_eq!(file_option("IdentityFile", "/a b/%h".as_ref()), "IdentityFile=\"/a b/%%h\"");
    }
}
