//! Real git, without the configuration of whoever runs the tests.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

/// How git reaches a remote: what `GIT_SSH_COMMAND` is.
#[derive(Clone, Debug, Default)]
pub struct Reach(pub String);

/// Settings that hold for each call: nothing runs in the background, and submodules may come from this machine.
const SETTINGS: [(&str, &str); 8] = [
    ("safe.directory", "*"),
    ("protocol.file.allow", "always"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("receive.autogc", "false"),
    ("advice.detachedHead", "false"),
    ("pull.ff", "only"),
    ("init.defaultBranch", "main"),
];

/// A git command in a folder.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).stdin(Stdio::null()).env("LC_ALL", "C");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_COUNT", SETTINGS.len().to_string());
    for (number, (key, value)) in SETTINGS.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    for (name, value) in [("NAME", "Ana"), ("EMAIL", "ana@example.org")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command
}

/// What git answers, or what it complains of.
pub fn ask(reach: &Reach, folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = command(folder, arguments);
    command.env("GIT_SSH_COMMAND", &reach.0);
    said(arguments, command.output().expect("git is installed by scripts/test"))
}

/// What git answers, which must be something good: it is the harness that asks.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let answer = ask(&Reach::default(), folder, arguments);
    String::from_utf8_lossy(&answer.unwrap_or_else(|why| panic!("in {}: {why}", folder.display()))).trim().to_owned()
}

/// The same, with something to read.
pub fn feed(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = command(folder, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("git is installed by scripts/test");
    let mut pipe = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        // It stops to read where it finds something wrong, which its end tells.
        scope.spawn(move || pipe.write_all(input));
        child.wait_with_output().expect("it ends")
    });
    said(arguments, output).unwrap_or_else(|why| panic!("in {}: {why}", folder.display()))
}

fn said(arguments: &[&str], output: Output) -> Result<Vec<u8>, String> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    // What is wrong is on both: `git fsck` prints what is missing, and complains of the rest.
    let words = [output.stderr.as_slice(), &output.stdout].concat();
    let words = String::from_utf8_lossy(&words);
    let is_said = |it: &&str| !["hint:", "warning: core.", "notice:"].iter().any(|word| it.starts_with(word));
    let first = words.lines().filter(is_said).take(6).collect::<Vec<_>>().join(" | ");
    Err(format!("git {}: {}: {first}", arguments.join(" "), output.status))
}
