//! What a push means: the table in ARCHITECTURE.md, walked row by row with the real program.

use std::fs;

use serde_json::Value;

use crate::world::house::{House, signed};

const HOOK: &str = r#"on: {push: [main, next], tag: "*"}
deploy: {path: "{live}", remote: "{remote}"}
run: "true""#;

/// One row of the table.
#[derive(Debug)]
struct Row {
    event: String,
    live: String,
    waiting: String,
    happens: String,
}

/// A push on its way to the program.
struct Push {
    commit: String,
    ref_name: &'static str,
    /// Whether the ref was there before.
    is_new: bool,
}

fn table() -> Vec<Row> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md")).expect("readable");
    let rows = text.lines().skip_while(|it| !it.starts_with("| event | live | waiting |")).skip(2);
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|it| it.trim().to_owned()).collect();
        let [event, live, waiting, happens] = <[String; 4]>::try_from(cells).expect("four cells");
        Row { event, live, waiting, happens }
    };
    rows.take_while(|it| it.starts_with('|')).map(row).collect()
}

/// Sends the push, in a body that is like no other.
fn send(house: &House, push: &Push, number: usize) -> i64 {
    let mut body = house.push_of(&push.commit, push.ref_name).replace("\"a commit\"", &format!("\"push {number}\""));
    if !push.is_new {
        body = body.replace(&"0".repeat(40), &"e".repeat(40));
    }
    let (status, answer) = house.post("/hooks/site", signed(body));
    assert_eq!(status, 202, "{answer}\n{}", house.log());
    answer["runs"][0]["id"].as_i64().expect("a run")
}

fn git(house: &House, arguments: &[&str]) {
    house.repo.git(arguments);
}

/// Makes this live, of three commits on `main` the second one.
fn make_live(house: &House, live: &str) -> [String; 2] {
    let commits = ["one", "two"].map(|page| house.repo.commit(&[("page", page)]));
    git(house, &["tag", "v1"]);
    git(house, &["push", "--quiet", "origin", "v1"]);
    let ref_name = match live {
        "`main`" => "refs/heads/main",
        "tag `v1`" => "refs/tags/v1",
        other => panic!("unknown: live {other}"),
    };
    let run = send(house, &Push { commit: commits[1].clone(), ref_name, is_new: true }, 0);
    assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
    commits
}

/// Does in the repository what a row's event says, and gives the push of it.
fn happen(house: &House, event: &str, [older, live]: &[String; 2]) -> Push {
    let tagged = |name: &'static str, commit: &str| {
        git(house, &["tag", "--force", name, commit]);
        git(house, &["push", "--quiet", "--force", "origin", name]);
    };
    let written = |file: &str, message: &str| {
        fs::write(house.repo.work.join(file), "three").expect("written");
        git(house, &["add", "--all"]);
        git(house, &["commit", "--quiet", "-m", message]);
        git(house, &["push", "--quiet", "origin", "HEAD:main"]);
        house.repo.head()
    };
    let (main, v0) = ("refs/heads/main", "refs/tags/v0");
    let (commit, ref_name, is_new) = match event {
        "`main` moves forward" => (written("page", "more"), main, false),
        "`main` once more, as it is" => (live.clone(), main, false),
        "late push of an older `main`" => (older.clone(), main, false),
        "`main` moves back, by force" => {
            git(house, &["push", "--quiet", "--force", "origin", &format!("{older}:main")]);
            (older.clone(), main, false)
        }
        "new branch on the live commit" => {
            git(house, &["push", "--quiet", "origin", "HEAD:refs/heads/next"]);
            (live.clone(), "refs/heads/next", true)
        }
        "new tag on the live commit" => {
            tagged("v0", live);
            (live.clone(), v0, true)
        }
        "tag `v1` once more, as it is" => (live.clone(), "refs/tags/v1", false),
        "new tag on an older commit" => {
            tagged("v0", older);
            (older.clone(), v0, true)
        }
        "tag moved to an older commit" => {
            tagged("v1", older);
            (older.clone(), "refs/tags/v1", false)
        }
        "new tag on another line" => {
            git(house, &["checkout", "--quiet", "--detach", older]);
            git(house, &["commit", "--quiet", "--allow-empty", "-m", "aside"]);
            let aside = house.repo.head();
            tagged("v0", &aside);
            (aside, v0, true)
        }
        "`main`, outside of `paths`" => (written("docs", "words"), main, false),
        "`main`, with a skip marker" => (written("page", "words [skip deploy]"), main, false),
        "new tag, outside of `paths`" | "new tag, with a skip marker" => {
            let is_marked = event.contains("marker");
            let (file, message) = if is_marked { ("page", "words [skip deploy]") } else { ("docs", "words") };
            let commit = written(file, message);
            tagged("v0", &commit);
            (commit, v0, true)
        }
        other => panic!("unknown: event {other}"),
    };
    Push { commit, ref_name, is_new }
}

fn house_for(event: &str) -> House {
    let lines = if event.contains("`paths`") { format!("{HOOK}\npaths: [page]") } else { HOOK.to_owned() };
    let mut house = House::with_hook(&lines);
    house.start();
    house
}

/// Holds the row against what the program does with a push while something is live.
fn judge(row: &Row) {
    let house = house_for(&row.event);
    let commits = make_live(&house, &row.live);
    let run = send(&house, &happen(&house, &row.event, &commits), 1);
    let (word, said) = row.happens.split_once(": ").unwrap_or((&row.happens, ""));
    let view = house.ended(run);
    let log = house.whole_log(run);
    assert_eq!(format!("`{}`", view["outcome"].as_str().expect("a word")), word, "{row:?}\n{view}\n{log}");
    let reason = view["reason"].as_str().unwrap_or_default();
    assert!(reason.contains(said) || log.contains(said), "{row:?}\n{reason}\n{log}");
}

/// Holds the row against what the queue does with a push while another one waits.
fn queue(row: &Row) {
    let house = house_for(&row.event);
    assert!(house.landfall(&["hold", "site", "--reason", "a test"]).status.success());
    let named = |text: &str| match text.trim_start_matches("push of ") {
        "`main`" => "refs/heads/main",
        "`next`" => "refs/heads/next",
        "tag `v1`" => "refs/tags/v1",
        "tag `v2`" => "refs/tags/v2",
        other => panic!("unknown: {other}"),
    };
    let push = |text: &str, digit: &str| Push { commit: digit.repeat(40), ref_name: named(text), is_new: true };
    let (older, newer) = (send(&house, &push(&row.waiting, "a"), 0), send(&house, &push(&row.event, "b"), 1));
    let view: Value = house.run(older);
    let expected = match row.happens.as_str() {
        "takes its place" => format!("superseded by run {newer}"),
        "both wait" => "queued".to_owned(),
        other => panic!("unknown: {other}"),
    };
    let shown = if view["state"] == "finished" { &view["reason"] } else { &view["state"] };
    assert_eq!(*shown, expected, "{row:?} {view}");
}

#[test]
fn each_row_of_the_table_in_architecture_is_what_happens() {
    let rows = table();
    assert!(rows.len() >= 20, "the table is gone");
    for row in &rows {
        if row.waiting.is_empty() { judge(row) } else { queue(row) }
    }
}
