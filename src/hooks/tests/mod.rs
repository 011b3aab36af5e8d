//! The promises of this room, on whole files.

mod examples;
mod landing;
mod limits;
mod problems;
mod reloads;

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use tempfile::TempDir;

use crate::hooks::{Environment, Loaded, Problem, Refused, load};

/// A folder with a hooks.yaml and a secret file in it.
struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    fn with(yaml: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::write(place.folder.path().join("secret"), "from a file\n").expect("a secret");
        fs::write(place.folder.path().join("blank"), "\n").expect("an empty secret");
        fs::write(place.file(), yaml).expect("a hooks.yaml");
        place.protect(0o600);
        place
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("hooks.yaml")
    }

    fn protect(&self, mode: u32) {
        fs::set_permissions(self.file(), fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn load(&self) -> Result<Loaded, Refused> {
        match load(&self.file(), &environment()) {
            Ok(mut loaded) => {
                loaded.warnings.retain(is_of_the_file);
                Ok(loaded)
            }
            Err(mut refused) => {
                refused.problems.retain(is_of_the_file);
                Err(refused)
            }
        }
    }

    /// What is warned of, on this machine.
    fn warnings(&self) -> Vec<Problem> {
        load(&self.file(), &environment()).expect("it loads").warnings
    }
}

/// Every variable that the examples name.
fn environment() -> Environment {
    let names = ["WEBSITE_SECRET", "ACME_SECRET", "ACME_SECRET_OLD", "SMTP_PASSWORD", "GITLAB_SECRET", "API_TOKEN"];
    let environment = names.iter().fold(Environment::default(), |it, name| it.with(name, "correct horse battery"));
    environment
        .with("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T/B/x")
        .with("SIGNING_TOKEN", "whsec_c2VjcmV0IGtleQ==")
        .with("EMPTY", "")
        .with("SHORT", "12345")
}

fn loads(yaml: &str) -> Loaded {
    Sandbox::with(yaml).load().unwrap_or_else(|err| panic!("{err}\n{yaml}"))
}

/// Warnings of the machine and of who checks, and not of the file alone; their own promises look for them.
const OF_THE_MACHINE: [&str; 3] = ["runs-as-root", "limits-not-held", "changed-by-others"];

fn is_of_the_file(problem: &Problem) -> bool {
    !OF_THE_MACHINE.contains(&problem.code)
}

/// `code@line:column` of everything that is wrong, in the order of the file.
fn found(yaml: &str) -> Vec<String> {
    let problems = match Sandbox::with(yaml).load() {
        Ok(loaded) => loaded.warnings,
        Err(refused) => refused.problems,
    };
    problems.iter().map(|it| format!("{}@{}:{}", it.code, it.line, it.column)).collect()
}

/// The file has exactly these problems.
fn finds(yaml: &str, expect: &[&str]) {
    assert_eq!(found(yaml), expect, "{yaml}");
}

/// A hook that is fine but for these lines, which begin in line 4 of the file and column 5.
fn hook(lines: &str) -> String {
    let lines: String = lines.lines().map(|it| format!("    {it}\n")).collect();
    format!("hooks:\n  website:\n    github: acme/website\n{lines}    secret: {{env: WEBSITE_SECRET}}\n")
}

/// A hook that runs something, with these lines as in [`hook`].
fn working(lines: &str) -> String {
    format!("{}    activate: ./restart\n", hook(lines))
}
