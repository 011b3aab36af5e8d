//! What becomes of pushes when the database was put back, lost or emptied under its folders of runs.

use std::{fs, path::Path};

use landfall::journal::progress;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::world::{house::House, until};

const HOOK: &str = "on: {push: main}\nqueue: all\ndeploy: {strategy: none}\nrun: \"echo hello $DEPLOY_SHA\"";

/// A house in which runs 1 to 3 have ended, then a copy of the database was made, and then runs 4 to 6 have ended.
fn scene() -> (House, tempfile::TempDir) {
    let mut house = House::with_hook(HOOK);
    house.start();
    (1..=3).for_each(|number| said(&house, number));
    house.stop();
    let copy = tempfile::tempdir().expect("a folder");
    fs::copy(database(&house), copy.path().join("landfall.db")).expect("copied");
    house.start();
    (4..=6).for_each(|number| said(&house, number));
    house.stop();
    (house, copy)
}

fn database(house: &House) -> std::path::PathBuf {
    house.state().join("landfall.db")
}

/// The commit of the push of this number, which no other has.
fn commit(number: i64) -> String {
    format!("{number:040x}")
}

/// Pushes, and sees the run through that the answer names.
fn said(house: &House, number: i64) {
    let run = house.queue(&commit(number));
    let view = house.ended(run);
    assert_eq!(view["outcome"], "succeeded", "{view}");
    assert_eq!(view["sha"], commit(number), "{view}");
    assert_eq!(house.output(run), [format!("hello {}", commit(number))]);
}

fn remove_database(house: &House) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(house.state().join(format!("landfall.db{end}")));
    }
}

/// The folder of a lost run, as its keeper left it.
fn journal(house: &House, run: i64) -> String {
    fs::read_to_string(house.run_dir(run).journal()).expect("a journal")
}

fn loss(house: &House) -> Value {
    house.json(&["status"])["loss"].clone()
}

fn is_noticed(mut house: House, words: &str) {
    let lost: Vec<String> = (4..=6).map(|run| journal(&house, run)).collect();
    house.start();
    // The number of no lost run is given away, and each push is carried out.
    let run = house.queue(&commit(7));
    assert_eq!(run, 7);
    house.ended(run);
    assert_eq!(house.output(run), [format!("hello {}", commit(7))]);
    said(&house, 8);
    assert_eq!((4..=6).map(|run| journal(&house, run)).collect::<Vec<_>>(), lost);
    // It is said, also after the next start.
    assert!(house.log().contains(words), "{}", house.log());
    house.stop().start();
    assert!(loss(&house)["message"].as_str().is_some_and(|it| it.contains(words)), "{}", loss(&house));
    let status = house.landfall(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains(words));
    let doctor = house.landfall(&["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains(words), "{}", String::from_utf8_lossy(&doctor.stdout));
}

#[test]
fn pushes_after_an_older_database_was_put_back_are_carried_out_and_the_loss_is_said() {
    let (house, copy) = scene();
    remove_database(&house);
    fs::copy(copy.path().join("landfall.db"), database(&house)).expect("put back");
    is_noticed(house, "the store knew runs up to 3, and there were folders of runs up to 6");
}

#[test]
fn pushes_after_the_database_was_lost_or_emptied_are_carried_out_and_the_loss_is_said() {
    for empties in [false, true] {
        let (house, _copy) = scene();
        remove_database(&house);
        if empties {
            fs::write(database(&house), "").expect("emptied");
        }
        is_noticed(house, "the store was empty, and there were folders of runs up to 6");
    }
}

#[test]
fn a_run_that_waits_in_a_database_that_was_put_back_and_has_been_carried_out_is_not_carried_out_again() {
    let mut house = House::with_hook(
        &format!("{HOOK}\nenv: {{DONE: \"{{folder}}/done\"}}")
            .replace("\"echo hello $DEPLOY_SHA\"", "\"echo $DEPLOY_RUN_ID >> $DONE\""),
    );
    house.start();
    house.landfall(&["hold", "site", "--reason", "a copy is made"]);
    let run = house.queue(&commit(1));
    house.stop();
    let copy = fs::read(database(&house)).expect("a copy");
    house.start();
    house.landfall(&["resume", "site"]);
    house.ended(run);
    house.stop();
    remove_database(&house);
    fs::write(database(&house), copy).expect("put back");
    house.start();
    house.landfall(&["resume", "site"]);
    assert_eq!(house.ended(run)["outcome"], "succeeded");
    assert_eq!(house.file("done"), format!("{run}\n"));
    assert!(house.log().contains("has begun before"), "{}", house.log());
}

#[test]
fn what_a_forgotten_run_left_behind_is_ended_before_its_lane_moves_on() {
    let mut house =
        House::with_hook(&format!("{HOOK}\nkill_grace: 100ms\nenv: {{PIDS: \"{{folder}}/pids\"}}").replace(
            "\"echo hello $DEPLOY_SHA\"",
            "\"[ -e $PIDS ] || { setsid sleep 1000 & echo $! > $PIDS.new; mv $PIDS.new $PIDS; wait; }\"",
        ));
    house.start();
    house.stop();
    let copy = fs::read(database(&house)).expect("a copy");
    house.start();
    let forgotten = house.queue(&commit(1));
    let pids = house.folder.path().join("pids");
    let left: i32 = until("the script has left something", || fs::read_to_string(&pids).ok()?.trim().parse().ok());
    house.kill();
    let begin = progress::read(&house.run_dir(forgotten)).expect("a journal").begin.expect("it has begun");
    kill(Pid::from_raw(begin.pid), Signal::SIGKILL).expect("killed");
    remove_database(&house);
    fs::write(database(&house), copy).expect("put back");
    house.start();
    let run = house.queue(&commit(2));
    assert_ne!(run, forgotten);
    assert_eq!(house.ended(run)["outcome"], "succeeded");
    let is_alive = fs::read_to_string(format!("/proc/{left}/stat")).is_ok_and(|it| !it.contains(") Z "));
    assert!(!is_alive, "{}", house.log());
    let words = format!("run {forgotten}, which the store does not know, was not seen to its end by its keeper; ended");
    assert!(house.log().contains(&words), "{}", house.log());
}

#[test]
fn a_folder_of_another_run_of_the_same_number_is_kept_aside() {
    let (mut house, _copy) = scene();
    // Somebody moves the folders into a state folder that has a history of its own.
    let other = House::with_hook(HOOK);
    house.start();
    let run = house.queue(&commit(7));
    house.ended(run);
    house.stop();
    let theirs = journal(&house, run);
    let mut other = other;
    other.start();
    (1..run).for_each(|number| said(&other, number));
    copy_folder(house.run_dir(run).path(), other.run_dir(run).path());
    assert_eq!(other.queue(&commit(8)), run);
    until("it is carried out", || (other.run(run)["state"] == "finished").then_some(()));
    assert_eq!(other.output(run), [format!("hello {}", commit(8))]);
    let aside = other.run_dir(run).path().with_extension("aside-1").join("journal.jsonl");
    assert_eq!(fs::read_to_string(aside).expect("kept"), theirs);
    assert!(other.log().contains("there was a folder of another run"), "{}", other.log());
}

#[test]
fn from_the_first_sign_of_damage_on_pushes_are_answered_with_503_and_it_is_said() {
    type Spoil = fn(&House);
    let cut: Spoil = |house| fs::write(house.state().join("landfall.db-wal"), "").expect("cut short");
    let garbage: Spoil = |house| {
        let log = house.state().join("landfall.db-wal");
        let length = fs::metadata(&log).expect("a log").len();
        let noise = (0..length).map(|it| (it * 31 % 251) as u8).collect::<Vec<u8>>();
        let mut file = fs::File::options().write(true).open(log).expect("a log");
        std::io::Write::write_all(&mut file, &noise).expect("spoilt");
        // Whoever looks next has to read what is there.
        let _ = house.landfall(&["runs"]);
        let _ = house.landfall(&["runs"]);
    };
    for (name, spoil) in [("cut", cut), ("garbage", garbage)] {
        let mut house = House::with_hook(HOOK);
        house.start();
        (1..=3).for_each(|number| said(&house, number));
        let listen = house.listen();
        spoil(&house);
        let answers = until("a push is answered with 503", || {
            let answer = house.post_to(&listen, &commit(4));
            (answer.0 == 503).then_some(answer)
        });
        assert_eq!(answers.1["error"], "unavailable", "{name}: {answers:?}");
        assert!(house.log().contains("the database is damaged, and nothing is accepted any more"), "{}", house.log());
        let status = house.landfall(&["status"]);
        let said = String::from_utf8_lossy(&status.stdout);
        assert!(said.contains("the database is damaged") || !status.status.success(), "{name}: {said}");
        house.kill();
    }
}

#[test]
fn a_damaged_database_that_was_left_open_is_noticed_after_the_start() {
    let mut house = House::with_hook(HOOK);
    house.start();
    (1..=3).for_each(|number| said(&house, number));
    house.stop();
    // Of an index that no push reads or writes.
    let mut bytes = fs::read(database(&house)).expect("a database");
    let root = {
        let connection = rusqlite::Connection::open(database(&house)).expect("a database");
        let find = "SELECT rootpage FROM sqlite_schema WHERE name = 'delivery_of_forge_id'";
        connection.query_row(find, [], |row| row.get::<_, i64>(0)).expect("a table")
    };
    let begin = (usize::try_from(root).expect("a page") - 1) * 4096;
    bytes[begin..begin + 4096].fill(0xa5);
    fs::write(database(&house), bytes).expect("spoilt");
    // As a daemon leaves it that was killed.
    house.start();
    let _ = house.post_to(&house.listen(), &commit(4));
    house.kill();
    house.start();
    let listen = house.listen();
    let mut numbers = 5..;
    let mut push = || house.post_to(&listen, &commit(numbers.next().expect("a number"))).0;
    until("a push is answered with 503", || (push() == 503).then_some(()));
    assert!(house.log().contains("the database is damaged"), "{}", house.log());
    house.kill();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}
