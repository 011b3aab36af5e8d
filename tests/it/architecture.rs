//! The shape of the house, as a test: layers, sizes, names, and who may know what.
//!
//! A rule that only a document holds is broken within a month.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the ground up. A room may use rooms of a lower layer, never of its own or a higher one.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["process"],
    &["forge", "hooks", "journal"],
    &["route", "git"],
    &["store", "keeper"],
    &["web", "work", "notify", "catch_up"],
    &["daemon", "checkup"],
    &["cli"],
];

const LINES_MAX: usize = 500;

const VAGUE: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager", "types", "handlers"];

/// A word, and the only places that may say it.
const SECRETS_OF_A_ROOM: &[(&str, &[&str])] = &[
    ("git2::", &["src/git"]),
    ("lettre::", &["src/notify/email"]),
    ("rusqlite::", &["src/store/sqlite"]),
    ("granit_parser", &["src/hooks/yaml"]),
    ("serde_saphyr", &["src/hooks/yaml"]),
    // What we answer with is known to `reply` alone; what others answer is read where it comes in.
    ("StatusCode", &["src/web/reply.rs", "src/notify/slack.rs", "src/git/transport/https.rs"]),
    ("anyhow::", &["src/cli", "src/main.rs"]),
];

#[test]
fn imports_point_down() {
    for file in sources() {
        let from = file.room();
        let Some(floor) = layer(&from) else { continue };
        let mut is_in_block = false;
        for (number, line) in file.code() {
            is_in_block = line.starts_with("use crate::{") || (is_in_block && !line.starts_with('}'));
            for used in rooms_used(line, is_in_block) {
                let is_below = layer(&used).is_some_and(|it| it < floor);
                assert!(used == from || is_below, "{}:{number}: `{from}` must not use `{used}`", file.path);
            }
        }
    }
}

#[test]
fn super_stays_inside_its_room() {
    for file in sources() {
        let is_root = file.path.matches('/').count() == 1
            || file.path.matches('/').count() == 2 && file.path.ends_with("/mod.rs");
        let forbidden = if is_root { "super::" } else { "super::super::super::" };
        for (number, line) in file.code() {
            assert!(!line.contains(forbidden), "{}:{number}: climbs out of its room", file.path);
        }
    }
}

#[test]
fn every_room_has_a_layer() {
    for file in sources() {
        let room = file.room();
        assert!(["lib", "main"].contains(&room.as_str()) || layer(&room).is_some(), "`{room}` has no layer");
    }
}

#[test]
fn every_file_fits_in_one_sitting_and_says_what_it_answers_for() {
    for file in sources().into_iter().chain(files_under("tests")) {
        let count = file.text.lines().count();
        assert!(count <= LINES_MAX, "{} has {count} lines", file.path);
        assert!(file.text.starts_with("//! "), "{} has no module doc", file.path);
        let stem = Path::new(&file.path).file_stem().and_then(|it| it.to_str()).expect("a name");
        assert!(!VAGUE.contains(&stem), "{}: the name says nothing about the content", file.path);
    }
}

#[test]
fn every_file_of_the_product_states_what_others_may_lean_on() {
    for file in sources() {
        let doc = file.text.lines().take_while(|line| line.starts_with("//!"));
        let states_it = doc.clone().any(|line| line.starts_with("//! Invariant: "));
        let is_exempt = ["src/lib.rs", "src/main.rs"].contains(&file.path.as_str()) || file.is_test();
        assert!(states_it || is_exempt, "{} states no invariant", file.path);
    }
}

#[test]
fn each_library_is_known_to_one_room() {
    for file in sources() {
        for (word, places) in SECRETS_OF_A_ROOM {
            let is_at_home = places.iter().any(|place| file.path.starts_with(place));
            for (number, line) in file.code() {
                assert!(is_at_home || !line.contains(word), "{}:{number}: says `{word}`", file.path);
            }
        }
    }
}

#[test]
fn nothing_is_left_open() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("to", "do!("), concat!("unimpl", "emented!(")];
    for file in sources().into_iter().chain(files_under("tests")) {
        for (index, line) in file.text.lines().enumerate() {
            assert!(!words.iter().any(|it| line.contains(it)), "{}:{}: is left open", file.path, index + 1);
            assert!(!line.contains(concat!("#[ig", "nore")), "{}:{}: a test is left out", file.path, index + 1);
        }
    }
}

#[test]
fn tests_wait_for_states_and_never_sleep() {
    let sleeps = [concat!("thread::", "sleep"), concat!("time::", "sleep("), concat!(" sleep", "(Duration")];
    for file in files_under("tests") {
        for (index, line) in file.text.lines().enumerate() {
            assert!(!sleeps.iter().any(|it| line.contains(it)), "{}:{}: sleeps", file.path, index + 1);
        }
    }
}

struct Source {
    /// Below the project's folder.
    path: String,
    text: String,
}

impl Source {
    /// The first component below `src`: `src/forge/github.rs` belongs to `forge`.
    fn room(&self) -> String {
        self.path.split('/').nth(1).expect("a file below src").trim_end_matches(".rs").to_owned()
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The numbered lines before the unit tests, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = if self.is_test() { "" } else { self.text.as_str() };
        let lines = lines.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().enumerate();
        lines.map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }
}

fn sources() -> Vec<Source> {
    let found = files_under("src");
    assert!(found.len() > 20, "the product was not found");
    found
}

fn files_under(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut found, mut folders) = (Vec::new(), vec![root.join(folder)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path: PathBuf = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).expect("a readable file");
                let path = path.strip_prefix(root).expect("below the root").to_str().expect("a plain name").to_owned();
                found.push(Source { path, text });
            }
        }
    }
    found
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// Rooms that a line mentions as `crate::room`, or at the top of a `use crate::{` block.
fn rooms_used(line: &str, is_in_block: bool) -> Vec<String> {
    let rooms = LAYERS.iter().flat_map(|rooms| rooms.iter());
    let is_mentioned = |room: &&&str| {
        let rest = line.split(&format!("crate::{room}")).nth(1);
        let is_absolute = rest.is_some_and(|it| !it.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        let top = line.strip_prefix("    ").filter(|it| is_in_block && !it.starts_with(' ')).unwrap_or_default();
        let inline = line.strip_prefix("use crate::{").unwrap_or_default();
        let names = top.split(", ").chain(inline.split(", "));
        let mut names = names.map(|it| it.split("::").next().unwrap_or_default().trim_end_matches([',', ';', '}']));
        is_absolute || names.any(|it| it == **room)
    };
    rooms.filter(is_mentioned).map(|room| (*room).to_owned()).collect()
}
