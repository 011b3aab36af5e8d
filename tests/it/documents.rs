//! What the documents show is true: every YAML block of the README and the example hooks.yaml load, the unit file is
//! one that systemd takes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use landfall::hooks::{self, Environment};

#[test]
fn every_yaml_block_of_the_readme_loads() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let blocks: Vec<&str> = readme.split("```yaml\n").skip(1).filter_map(|it| it.split("```").next()).collect();
    assert!(blocks.len() >= 3, "the README shows hooks.yaml");
    for block in blocks {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hooks.yaml");
        let token = folder.path().join("npm-token");
        fs::write(&token, "a-token-of-npm").expect("written");
        let text = block.replace("/etc/landfall/npm-token", token.to_str().expect("plain"));
        // The users of the examples do not exist here; whether one exists is another promise's subject.
        fs::write(&file, text.replace("user: shop ", "user: root ")).expect("written");
        loads(&file);
    }
}

#[test]
fn the_example_hooks_yaml_loads() {
    loads(&root().join("hooks.yaml"));
}

#[test]
fn systemd_takes_the_unit_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let unit = fs::read_to_string(root().join("systemd/landfall.service")).expect("the unit file");
    for promise in ["KillMode=process", "Delegate=yes", "OOMPolicy=continue", "Type=notify"] {
        assert!(unit.lines().any(|it| it == promise), "the unit lacks {promise}");
    }
    let file = folder.path().join("landfall.service");
    fs::write(&file, unit.replace("/usr/local/bin/landfall", env!("CARGO_BIN_EXE_landfall"))).expect("written");
    let socket = folder.path().join("landfall.socket");
    fs::copy(root().join("systemd/landfall.socket"), &socket).expect("copied");
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args([&file, &socket]).output();
    let output = output.expect("systemd-analyze is installed by scripts/test");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|it| it.contains("landfall.")).collect();
    assert!(ours.is_empty(), "{}", ours.join("\n"));
}

/// The file loads where every variable that it names for a secret is set.
fn loads(file: &Path) {
    let text = fs::read_to_string(file).expect("a file");
    let named = text.split("{env: ").skip(1).filter_map(|rest| rest.split('}').next());
    let environment = named.fold(Environment::default(), |it, name| it.with(name, value_of(name)));
    if let Err(refused) = hooks::load(file, &environment) {
        panic!("{}", hooks::problem::render(&refused.problems, &refused.text, false));
    }
}

/// A value that could be one.
fn value_of(name: &str) -> &'static str {
    match name {
        name if name.contains("SIGNING_TOKEN") => "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
        name if name.contains("SLACK") => "https://hooks.slack.com/services/T0/B0/x",
        _ => "long-enough-to-be-one",
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
