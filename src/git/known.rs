//! Whether ssh would know the host that a remote lives at, and take the key that a hook names.
//!
//! Invariant: OpenSSH itself is asked, as the user who will fetch, and no host is.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::fs::Access;

use super::{
    remote::{self, Remote},
    shell::{path_word, word},
};
use crate::{
    model::deploy::{Git, RemoteProof},
    process::{
        environment,
        user::{Account, Tried},
    },
};

/// Whether the host key of a remote is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKey {
    /// The remote is not reached by ssh.
    NotNeeded,
    /// It is, or ssh is told to take any.
    Known,
    /// It is not.
    Unknown {
        /// The host, as known_hosts files have it.
        host: String,
        /// The command that makes it known.
        command: String,
    },
    /// There is no ssh at all.
    NoProgram,
    /// Only root can ask as that user.
    Untold,
}

/// Whether the host key of this remote is known to this user.
pub fn host_key(git: &Git, account: &Account) -> HostKey {
    let Ok(Remote::Ssh { host, port, .. }) = remote::parse(git.remote.as_str()) else { return HostKey::NotNeeded };
    if environment::program("ssh").is_none() {
        return HostKey::NoProgram;
    }
    let named = match git.own_credential().map(|it| &it.proof) {
        Some(RemoteProof::SshKey { known_hosts: Some(file), .. }) => Some(file),
        Some(RemoteProof::SshKey { known_hosts: None, .. } | RemoteProof::Token { .. }) | None => None,
    };
    let Some(settings) = Settings::ask(&host, port, account) else { return HostKey::Untold };
    if named.is_none() && settings.takes_any {
        return HostKey::Known;
    }
    let files = named.map_or(settings.files, |it| vec![it.clone()]);
    let is_known = |file: &PathBuf| {
        let found = command("ssh-keygen", account).args(["-F", &settings.name, "-f"]).arg(file).status();
        found.is_ok_and(|it| it.success())
    };
    if files.iter().any(is_known) {
        return HostKey::Known;
    }
    let file = files.first().map_or_else(|| "~/.ssh/known_hosts".to_owned(), |it| path_word(it));
    let option = if settings.port == "22" { String::new() } else { format!("-p {} ", word(&settings.port)) };
    let command = format!("`ssh-keyscan {option}{} >> {file}`", word(&settings.host));
    HostKey::Unknown { host: settings.name, command }
}

/// Whether ssh would take this key from this user; the error is a sentence.
pub fn judge_key(key: &Path, account: &Account) -> Result<(), String> {
    let shown = key.display();
    let metadata = fs::metadata(key).map_err(|err| format!("ssh key {shown} cannot be seen: {err}"))?;
    if let Tried::Refused(err) = account.tries(key, Access::READ_OK) {
        return Err(format!("`{}` may not read ssh key {shown}: {err}", account.name));
    }
    if metadata.uid() == account.uid.as_raw() && metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "ssh key {shown} is open to others (mode {:03o}), and ssh refuses it",
            metadata.mode() & 0o777
        ));
    }
    Ok(())
}

/// What ssh's own configuration makes of a host.
struct Settings {
    host: String,
    port: String,
    /// What the key is filed under.
    name: String,
    files: Vec<PathBuf>,
    takes_any: bool,
}

impl Settings {
    /// `None`: it cannot be asked as that user.
    fn ask(host: &str, port: Option<u16>, account: &Account) -> Option<Self> {
        let mut ssh = command("ssh", account);
        // Looking a name up to make it canonical would leave this machine.
        ssh.args(["-G", "-o", "CanonicalizeHostname=no"])
            .args(port.iter().flat_map(|it| ["-p".to_owned(), it.to_string()]));
        let output = ssh.arg("--").arg(host).stdout(Stdio::piped()).output().ok().filter(|it| it.status.success())?;
        Some(Self::read(&String::from_utf8_lossy(&output.stdout), host))
    }

    /// Reads `ssh -G`: a line for each setting.
    fn read(text: &str, asked: &str) -> Self {
        let setting = |name: &str| {
            let lines = text.lines().filter_map(|it| it.split_once(' '));
            lines.filter(|(it, _)| *it == name).map(|(_, value)| value).next()
        };
        let (host, port) = (setting("hostname").unwrap_or(asked), setting("port").unwrap_or("22"));
        let name = match (setting("hostkeyalias"), port) {
            (Some(alias), _) => alias.to_owned(),
            (None, "22") => host.to_owned(),
            (None, port) => format!("[{host}]:{port}"),
        };
        let files = ["userknownhostsfile", "globalknownhostsfile"].into_iter().filter_map(setting);
        let files = files.flat_map(str::split_ascii_whitespace).map(PathBuf::from).collect();
        let takes_any = matches!(setting("stricthostkeychecking"), Some("accept-new" | "off" | "no" | "false"));
        Self { host: host.to_owned(), port: port.to_owned(), name, files, takes_any }
    }
}

/// A program, as this user, in the environment of git work; it prints nothing.
fn command(program: &str, account: &Account) -> Command {
    let mut command = Command::new(environment::program(program).unwrap_or_else(|| program.into()));
    command.env_clear().envs(environment::of_user(account)).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !account.is_own() {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command
}

#[cfg(test)]
mod tests {
    use super::Settings;

    #[test]
    fn a_host_key_is_looked_for_under_the_name_that_ssh_files_it_under() {
        let files = "userknownhostsfile /h/.ssh/known_hosts /h/.ssh/known_hosts2\nglobalknownhostsfile /etc/k";
        for (said, name) in [
            ("hostname git.example.org\nport 22", "git.example.org"),
            ("hostname git.example.org\nport 2222", "[git.example.org]:2222"),
            ("hostname 10.0.0.1\nport 22\nhostkeyalias git", "git"),
            ("", "asked"),
        ] {
            assert_eq!(Settings::read(&format!("{said}\n{files}\n"), "asked").name, name);
        }
        let settings = Settings::read(&format!("{files}\nstricthostkeychecking ask\n"), "asked");
        assert!(settings.files.len() == 3 && !settings.takes_any);
        assert!(Settings::read("stricthostkeychecking accept-new\n", "asked").takes_any);
    }
}
