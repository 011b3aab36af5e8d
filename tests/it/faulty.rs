//! What becomes of a run whose keeper cannot write its own files: the disk is full or broken at this very moment.

use std::{fs, os::unix::fs::MetadataExt};

use landfall::journal::{entries, progress};
use serde_json::{Value, json};

use crate::{
    keeper::root::is_root,
    world::{disk::SmallDisk, house::House, inbox::SlackSink, until},
};

/// A hook whose script leaves a line behind, and prints one.
const HOOK: &str = r#"on: {push: main}
deploy: {strategy: none}
run: echo "$DEPLOY_RUN_ID" >> "{folder}/ran"; echo hello
queue: all
pass_env: [FAILPOINTS]
notify: {slack: {env: SLACK}}"#;

/// The same on a small disk, with a script that waits until a file is there.
const GATED: &str = r#"on: {push: main}
deploy: {strategy: none, min_free: 1KiB}
run: echo "$DEPLOY_RUN_ID" >> "{folder}/ran"; echo hello; until [ -e "{folder}/gate" ]; do sleep 0.05; done; echo bye
queue: all
notify: {slack: {env: SLACK}}"#;

const FULL: (&str, &str) = ("ENOSPC", "No space left on device");
const BROKEN: (&str, &str) = ("EIO", "Input/output error");

struct Scene {
    house: House,
    sink: SlackSink,
    pushes: u32,
}

fn scene() -> Scene {
    let sink = SlackSink::open();
    let house = House::that_tells(&sink, HOOK);
    Scene { house, sink, pushes: 0 }
}

impl Scene {
    /// From here on keepers meet this fault.
    fn meets(&mut self, fault: &str) -> &mut Self {
        self.house.variables.push(("FAILPOINTS".into(), fault.into()));
        self.house.start();
        self
    }

    /// From here on they meet none.
    fn is_mended(&mut self) -> &mut Self {
        self.house.stop();
        self.house.variables.retain(|(name, _)| name != "FAILPOINTS");
        self.house.start();
        self
    }

    /// How many entries the journal of a run has in which nothing goes wrong.
    fn entries_of_a_good_run(&mut self) -> usize {
        self.house.start();
        let run = self.push();
        assert_eq!(self.house.ended(run)["outcome"], "succeeded");
        let count = entries::read(&self.house.run_dir(run)).expect("a journal").len();
        self.house.stop();
        count
    }

    /// A push that is like no other.
    fn push(&mut self) -> i64 {
        self.pushes += 1;
        self.house.queue(&format!("{:040x}", self.pushes))
    }

    /// How often the script of a run has run.
    fn times(&self, run: i64) -> usize {
        self.house.file("ran").lines().filter(|it| *it == run.to_string()).count()
    }

    /// People are told once, with these words, and the lane goes on with the next run.
    fn is_told_once_and_the_lane_goes_on(&mut self, words: &str) {
        until("people are told", || self.sink.messages().iter().any(|it| it.contains(words)).then_some(()));
        self.is_mended();
        let next = self.push();
        assert_eq!(self.house.ended(next)["outcome"], "succeeded", "{}", self.house.whole_log(next));
        assert_eq!(self.times(next), 1);
        let told = self.sink.messages();
        assert_eq!(told.iter().filter(|it| it.contains(words)).count(), 1, "{told:?}");
        let status = self.house.json(&["status"]);
        assert!(status["hooks"][0]["lane_stopped"].is_null(), "{status}");
    }
}

fn reason(view: &Value) -> &str {
    view["reason"].as_str().unwrap_or_default()
}

#[test]
fn a_begin_that_cannot_be_written_starts_nothing_and_the_run_waits_with_the_reason() {
    for (code, words) in [FULL, BROKEN] {
        let mut scene = scene();
        scene.meets(&format!("keeper-journal-write=return({code})"));
        let run = scene.push();
        let why = until("the run waits with the reason", || {
            let view = scene.house.run(run);
            reason(&view).contains("could not be started").then(|| reason(&view).to_owned())
        });
        assert!(why.contains("write down the begin") && why.contains(words), "{why}");
        assert_eq!(scene.times(run), 0);
        scene.is_mended();
        assert_eq!(scene.house.ended(run)["outcome"], "succeeded");
        assert_eq!(scene.times(run), 1);
        assert_eq!(scene.sink.messages(), [""; 0], "{code}");
    }
}

#[test]
fn a_begin_that_may_not_be_on_the_disk_interrupts_the_run_before_it_does_anything() {
    let mut scene = scene();
    scene.meets("keeper-journal-sync=return(EIO)");
    let run = scene.push();
    let view = scene.house.ended(run);
    assert_eq!(view["outcome"], "interrupted", "{view}");
    assert!(reason(&view).contains("cannot write down the begin: Input/output error"), "{view}");
    assert_eq!(scene.times(run), 0, "nothing was started");
    scene.is_told_once_and_the_lane_goes_on("cannot write down the begin");
    assert_eq!(scene.times(run), 0);
}

#[test]
fn an_end_that_cannot_be_written_is_an_interruption_that_is_told_once() {
    for (code, words) in [FULL, BROKEN] {
        let mut scene = scene();
        let good = scene.entries_of_a_good_run();
        scene.meets(&format!("keeper-journal-write={}*off->return({code})", good - 1));
        let run = scene.push();
        let view = scene.house.ended(run);
        assert_eq!(view["outcome"], "interrupted", "{view}");
        assert!(
            reason(&view).contains("cannot write down how the run ended") && reason(&view).contains(words),
            "{view}"
        );
        assert_eq!(scene.times(run), 1);
        scene.is_told_once_and_the_lane_goes_on("cannot write down how the run ended");
        assert_eq!(scene.times(run), 1);
    }
}

#[test]
fn an_end_that_was_written_counts_although_the_disk_did_not_confirm_it() {
    let mut scene = scene();
    let good = scene.entries_of_a_good_run();
    scene.meets(&format!("keeper-journal-sync={}*off->return(EIO)", good - 1));
    let run = scene.push();
    assert_eq!(scene.house.ended(run)["outcome"], "succeeded", "{}", scene.house.log());
    scene.is_mended();
    assert_eq!((scene.house.ended(run)["outcome"].clone(), scene.times(run)), (json!("succeeded"), 1));
    assert_eq!(scene.sink.messages(), [""; 0]);
}

#[test]
fn a_step_that_cannot_be_written_down_fails_the_run_and_the_end_stands_behind_the_torn_line() {
    for (code, words) in [FULL, BROKEN] {
        let mut scene = scene();
        // The first entry is `begin`; the next one fails, and from then on the disk takes what comes.
        scene.meets(&format!("keeper-journal-write=1*off->1*return({code})->off"));
        let run = scene.push();
        let view = scene.house.ended(run);
        assert_eq!(view["outcome"], "failed", "{view}\n{}", scene.house.log());
        assert!(reason(&view).contains("cannot write the run's journal") && reason(&view).contains(words), "{view}");
        assert_eq!(scene.times(run), 0);
        let read = progress::read(&scene.house.run_dir(run)).expect("a journal");
        assert!(read.end.is_some() && read.damage.is_none(), "{read:?}");
        scene.is_told_once_and_the_lane_goes_on("cannot write the run's journal");
    }
}

#[test]
fn a_log_that_cannot_be_written_interrupts_the_run_with_the_systems_words() {
    for (code, words) in [FULL, BROKEN] {
        let mut scene = scene();
        scene.meets(&format!("keeper-log-write=1*off->return({code})"));
        let run = scene.push();
        let view = scene.house.ended(run);
        assert_eq!(view["outcome"], "interrupted", "{view}\n{}", scene.house.log());
        assert!(reason(&view).contains(&format!("cannot write the log: {words}")), "{view}");
        scene.is_told_once_and_the_lane_goes_on("cannot write the log");
    }
}

#[test]
fn what_was_reserved_for_the_end_of_a_run_is_given_back_with_it() {
    let mut scene = scene();
    scene.house.start();
    let good = scene.push();
    scene.house.ended(good);
    scene.house.stop();
    scene.meets("keeper-journal-write=3*off->return(EIO)");
    let interrupted = scene.push();
    assert_eq!(scene.house.ended(interrupted)["outcome"], "interrupted");
    for run in [good, interrupted] {
        let folder = scene.house.run_dir(run);
        let taken = |it: fs::DirEntry| it.metadata().expect("a file").blocks() * 512;
        let files = fs::read_dir(folder.path()).expect("a folder").map(|it| it.expect("an entry"));
        let bytes: u64 = files.map(taken).sum();
        assert!(bytes < 64 * 1024, "run {run} takes {bytes} bytes");
    }
}

#[test]
fn as_root_a_disk_that_turns_read_only_in_mid_run_is_answered_with_503_and_nothing_accepted_is_lost() {
    if !is_root("as_root_a_disk_that_turns_read_only_in_mid_run_is_answered_with_503_and_nothing_accepted_is_lost") {
        return;
    }
    let mut scene = scene();
    let image = scene.house.folder.path().join("image");
    let disk = SmallDisk::that_can_break(&scene.house.state(), &image);
    scene.house.write_hooks("", GATED);
    scene.house.start();
    let running = scene.push();
    until("the script says hello", || (scene.house.output(running) == ["hello"]).then_some(()));
    let waiting = scene.push();
    disk.breaks();
    let (status, answer) = scene.house.deliver(&"c".repeat(40));
    assert_eq!((status, &answer["error"]), (503, &json!("unavailable")), "{answer}");
    assert!(scene.house.landfall(&["status"]).status.success(), "looking is still possible");
    fs::write(scene.house.folder.path().join("gate"), "").expect("opened");
    let folder = scene.house.run_dir(running);
    until("the keeper has ended", || {
        let begin = progress::read(&folder).expect("a journal").begin.expect("it has begun");
        (!landfall::keeper::is_alive(&begin)).then_some(())
    });
    scene.house.kill();
    disk.is_mended(&image);
    scene.house.start();
    let view = scene.house.ended(running);
    assert_eq!(view["outcome"], "interrupted", "{view}");
    assert!(reason(&view).contains("its keeper died"), "{view}");
    assert_eq!(scene.house.ended(waiting)["outcome"], "succeeded", "{}", scene.house.log());
    assert_eq!((scene.times(running), scene.times(waiting)), (1, 1));
    let later = scene.push();
    assert_eq!(scene.house.ended(later)["outcome"], "succeeded");
    until("people are told", || scene.sink.messages().iter().any(|it| it.contains("its keeper died")).then_some(()));
    scene.house.stop();
}
