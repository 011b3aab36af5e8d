//! What the documents show is true: every YAML block of the README and the example hooks.yaml load, the unit files are
//! such that systemd takes them, and as closed as they promise.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
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

const UNITS: [&str; 2] = ["landfall.service", "landfall-unprivileged.service"];

#[test]
fn systemd_takes_the_unit_files() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in UNITS {
        let unit = fs::read_to_string(root().join("systemd").join(name)).expect("the unit file");
        for promise in ["KillMode=process", "Delegate=yes", "OOMPolicy=continue", "Type=notify"] {
            assert!(unit.lines().any(|it| it == promise), "{name} lacks {promise}");
        }
        let file = folder.path().join(name);
        fs::write(&file, unit.replace("/usr/local/bin/landfall", env!("CARGO_BIN_EXE_landfall"))).expect("written");
        let output = analyze(&["verify", "--man=no"], &file);
        let said = String::from_utf8_lossy(&output.stderr);
        // Before 254 systemd did not know this key, and says so.
        let ours: Vec<&str> =
            said.lines().filter(|it| it.contains(name) && !it.contains("'DelegateSubgroup'")).collect();
        assert!(ours.is_empty(), "{}", ours.join("\n"));
    }
    let [service, socket] = ["landfall.service", "landfall.socket"].map(|it| folder.path().join(it));
    fs::copy(root().join("systemd/landfall.socket"), &socket).expect("copied");
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args([&service, &socket]).output();
    let output = output.expect("systemd-analyze is installed by scripts/test");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|it| it.contains("landfall.socket")).collect();
    assert!(ours.is_empty(), "{}", ours.join("\n"));
}

#[test]
fn the_units_are_as_closed_as_they_promise() {
    for (name, exposure) in UNITS.into_iter().zip(["40", "20"]) {
        let file = root().join("systemd").join(name);
        let output = analyze(&["security", "--offline=true", "--no-pager", "--threshold", exposure], &file);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {}", said.lines().last().unwrap_or_default());
    }
}

#[test]
fn nothing_is_opened_by_the_drop_in_as_it_is() {
    let text = fs::read_to_string(root().join("systemd/widen.conf")).expect("the drop-in");
    let lines: Vec<&str> = text.lines().filter(|it| !it.is_empty() && !it.starts_with('#')).collect();
    assert_eq!(lines, ["[Service]"]);
    // With each of its lines it is one that systemd takes.
    let folder = tempfile::tempdir().expect("a folder");
    let opened =
        text.lines().filter_map(|it| it.strip_prefix('#').filter(|it| !it.starts_with(' ') && it.contains('=')));
    let opened: Vec<&str> = opened.collect();
    assert!(opened.len() > 5, "{opened:?}");
    let unit = format!("[Service]\nExecStart=/bin/true\n{}\n", opened.join("\n"));
    let file = folder.path().join("widened.service");
    fs::write(&file, unit).expect("written");
    let output = analyze(&["verify", "--man=no"], &file);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("widened.service"), "{said}");
}

fn analyze(args: &[&str], file: &Path) -> Output {
    let output = Command::new("systemd-analyze").args(args).arg(file).output();
    output.expect("systemd-analyze is installed by scripts/test")
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
