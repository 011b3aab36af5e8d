//! What becomes of runs when the machine does not do its part: no room to start one, files pulled away from under it.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, thread};

use landfall::journal::progress;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    keeper::root::is_root,
    world::{disk::SmallDisk, house::House, inbox::SlackSink, until},
};

/// A hook whose script says hello, waits until a file is there, and says good-bye.
const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: ./deploy.sh
env: {GATE: "{folder}/gate"}
queue: all
notify: {slack: {env: SLACK}}"#;

const DEPLOY_SH: &str = "#!/bin/sh\necho hello\nuntil [ -e $GATE ]; do sleep 0.05; done\necho good-bye\n";

struct Scene {
    house: House,
    sink: SlackSink,
    commit: String,
}

fn scene() -> Scene {
    let sink = SlackSink::open();
    let house = House::that_tells(&sink, HOOK);
    let commit = house.repo.commit(&[("deploy.sh", DEPLOY_SH)]);
    Scene { house, sink, commit }
}

impl Scene {
    fn open_gate(&self) {
        fs::write(self.house.folder.path().join("gate"), "").expect("opened");
    }

    /// The run succeeds, and its script has said all it has to say, once.
    fn goes_well(&self, run: i64) {
        assert_eq!(self.house.ended(run)["outcome"], "succeeded", "{}", self.house.whole_log(run));
        assert_eq!(self.house.output(run), ["hello", "good-bye"]);
    }

    /// A run whose script has said hello.
    fn under_way(&self) -> i64 {
        let run = self.house.queue(&self.commit);
        until("the script says hello", || (self.house.output(run) == ["hello"]).then_some(()));
        run
    }

    fn kill_keeper(&self, run: i64) {
        let begin = progress::read(&self.house.run_dir(run)).expect("a journal").begin.expect("it has begun");
        kill(Pid::from_raw(begin.pid), Signal::SIGKILL).expect("killed");
    }

    fn hook_status(&self) -> Value {
        self.house.json(&["status"])["hooks"][0].clone()
    }

    fn runs_folder(&self) -> PathBuf {
        self.house.state().join("runs")
    }
}

#[test]
fn a_run_that_cannot_be_started_is_queued_again_and_says_why_until_it_can() {
    let mut scene = scene();
    scene.house.start();
    scene.open_gate();
    fs::write(scene.runs_folder(), "no folder").expect("a file in the way");
    let run = scene.house.queue(&scene.commit);
    let reason = until("the run says why it waits", || scene.house.run(run)["reason"].as_str().map(str::to_owned));
    assert!(reason.contains("could not be started: cannot make the run's folder"), "{reason}");
    assert_eq!(scene.house.run(run)["state"], "queued");
    fs::remove_file(scene.runs_folder()).expect("removed");
    scene.goes_well(run);
    scene.house.stop();
}

#[test]
fn a_journal_in_which_no_run_has_begun_keeps_none_from_beginning() {
    let mut scene = scene();
    scene.house.start();
    scene.open_gate();
    let folder = scene.house.run_dir(1);
    folder.create().expect("a folder");
    fs::write(folder.journal(), "{\"entry\":\"begin\",\"for").expect("a torn entry");
    let run = scene.house.queue(&scene.commit);
    assert_eq!(run, 1);
    assert_eq!(scene.house.ended(run)["outcome"], "succeeded", "{}", scene.house.log());
    scene.house.stop();
}

#[test]
fn where_something_of_a_run_may_go_on_the_lane_is_stopped_and_people_are_told() {
    let mut scene = scene();
    scene.house.start();
    let run = scene.under_way();
    scene.house.kill();
    scene.kill_keeper(run);
    // The word by which its processes are known stands in both.
    let folder = scene.house.run_dir(run);
    fs::write(folder.spec(), "damaged").expect("written");
    fs::remove_file(folder.journal()).expect("removed");
    scene.house.start();
    let view = scene.house.ended(run);
    assert_eq!(view["outcome"], "interrupted", "{view}");
    until("people are told", || {
        scene.sink.messages().iter().any(|it| it.contains("its lane is stopped")).then_some(())
    });
    let next = scene.house.queue(&scene.house.repo.commit(&[("page", "two")]));
    for _ in 0..2 {
        assert!(scene.hook_status()["lane_stopped"].as_str().is_some_and(|it| it.contains("may go on")));
        assert_eq!(scene.house.run(next)["state"], "queued");
        scene.house.stop().start();
    }
    scene.open_gate();
    scene.house.stop();
}

#[test]
fn a_journal_that_cannot_be_read_stops_the_lane_and_never_starts_the_run_again() {
    let mut scene = scene();
    scene.house.start();
    let run = scene.under_way();
    scene.house.kill();
    let folder = scene.house.run_dir(run);
    scene.open_gate();
    until("the keeper has written the end", || progress::read(&folder).expect("a journal").end.map(drop));
    // What it wrote last is how it ended.
    let good = fs::read_to_string(folder.journal()).expect("a journal");
    let before = good.trim_end().rsplit_once('\n').expect("many lines").0;
    fs::write(folder.journal(), format!("{before}\nnonsense\n")).expect("written");
    scene.house.start();
    let view = scene.house.ended(run);
    assert_eq!(view["outcome"], "interrupted", "{view}");
    assert!(view["reason"].as_str().is_some_and(|it| it.contains(&folder.journal().display().to_string())), "{view}");
    assert!(scene.hook_status()["lane_stopped"].as_str().is_some_and(|it| it.contains("journal")));
    assert_eq!(scene.house.output(run), ["hello", "good-bye"], "it ran once");
    scene.house.stop();
}

#[test]
fn a_run_that_has_begun_and_lost_its_folder_is_interrupted_and_not_started_again() {
    let mut scene = scene();
    scene.house.start();
    let run = scene.under_way();
    scene.house.run_once(run, "running");
    scene.house.kill();
    scene.kill_keeper(run);
    scene.house.run_dir(run).remove().expect("removed");
    scene.open_gate();
    scene.house.start();
    assert_eq!(scene.house.ended(run)["outcome"], "interrupted", "{}", scene.house.log());
    assert!(scene.hook_status()["lane_stopped"].is_string());
    scene.house.stop();
}

#[test]
fn a_lock_file_removed_from_under_a_keeper_changes_nothing() {
    let mut scene = scene();
    scene.house.start();
    let run = scene.under_way();
    for restarts in [false, true] {
        fs::remove_dir_all(scene.house.state().join("lanes")).expect("removed");
        if restarts {
            scene.house.kill().start();
        }
        until("the lane has been looked at", || scene.house.state().join("lanes/site.lock").exists().then_some(()));
        assert_eq!(scene.house.run(run)["state"], "running");
    }
    scene.open_gate();
    scene.goes_well(run);
    scene.house.stop();
}

#[test]
fn a_run_that_waits_for_somebody_elses_keeper_can_be_cancelled() {
    let mut scene = scene();
    scene.house.start();
    let lanes = scene.house.state().join("lanes");
    fs::create_dir_all(&lanes).expect("made");
    let lock = fs::File::create(lanes.join("site.lock")).expect("a lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let run = scene.house.queue(&scene.commit);
    until("the run waits for the lane", || scene.house.log().contains("another keeper holds lane").then_some(()));
    assert!(scene.house.landfall(&["cancel", &run.to_string()]).status.success());
    assert_eq!(scene.house.ended(run)["outcome"], "cancelled");
    drop(lock);
    scene.house.stop();
}

#[test]
fn a_state_folder_that_is_taken_away_is_answered_with_503_until_it_is_back() {
    let mut scene = scene();
    scene.house.start();
    scene.open_gate();
    let listen = scene.house.listen();
    let (state, aside) = (scene.house.state(), scene.house.folder.path().join("aside"));
    fs::rename(&state, &aside).expect("moved");
    let (status, answer) = scene.house.post_to(&listen, &scene.commit);
    assert_eq!((status, &answer["error"]), (503, &json!("unavailable")), "{answer}");
    assert!(scene.house.log().contains("removed or moved away"), "{}", scene.house.log());
    let _ = fs::remove_dir_all(&state);
    fs::rename(&aside, &state).expect("moved back");
    let run = scene.house.queue(&scene.commit);
    assert_eq!(scene.house.ended(run)["outcome"], "succeeded");
    scene.house.stop();
}

#[test]
fn as_root_a_full_disk_is_answered_with_503_until_there_is_room_and_loses_nothing() {
    if !is_root("as_root_a_full_disk_is_answered_with_503_until_there_is_room_and_loses_nothing") {
        return;
    }
    let Scene { house, sink, .. } = scene();
    let disk = SmallDisk::at(&house.state());
    let hook = HOOK.replace("{live}\"", "{live}\", min_free: 1KiB");
    house.write_hooks("", &hook);
    let deploy = format!("{DEPLOY_SH}seq 1 100000\n");
    let commit = house.repo.commit(&[("deploy.sh", &deploy)]);
    let mut scene = Scene { house, sink, commit };
    scene.house.start();
    let running = scene.under_way();
    disk.fill();
    scene.open_gate();
    let mut accepted = Vec::new();
    // What is left in the store's own files takes a few more.
    let refused = until("the disk is full for the store too", || {
        let commit = format!("{:040x}", accepted.len() + 1);
        let (status, answer) = scene.house.deliver(&commit);
        if status == 202 {
            accepted.push(answer["runs"][0]["id"].as_i64().expect("a run"));
        }
        (status != 202).then_some((status, answer))
    });
    assert_eq!((refused.0, &refused.1["error"]), (503, &json!("unavailable")), "{}", refused.1);
    assert!(scene.house.landfall(&["status"]).status.success(), "looking is still possible");
    scene.house.kill().start();
    let (status, answer) = scene.house.deliver(&"e".repeat(40));
    assert_eq!(
        (status, &answer["error"]),
        (503, &json!("unavailable")),
        "a daemon that starts on a full disk: {answer}"
    );
    let folder = scene.house.run_dir(running);
    until("the keeper has written the end", || progress::read(&folder).expect("a journal").end.map(drop));
    disk.make_room();
    let view = scene.house.ended(running);
    assert_eq!(view["outcome"], "interrupted", "{view}");
    assert!(view["reason"].as_str().is_some_and(|it| it.contains("No space left on device")), "{view}");
    let later = scene.house.queue(&"f".repeat(40));
    for run in accepted.into_iter().chain([later]) {
        let view = scene.house.ended(run);
        assert_eq!((&view["outcome"], &view["step"]), (&json!("failed"), &json!("fetch")), "no such commit: {view}");
    }
    until("people are told of the first", || {
        scene.sink.messages().iter().any(|it| it.contains("No space left")).then_some(())
    });
    scene.house.stop();
}

#[test]
fn under_a_limit_of_memory_pushes_are_stored_or_put_off_and_the_daemon_lives_on() {
    let mut scene = scene();
    let program = scene.house.folder.path().join("limited");
    let binary = scene.house.program.display();
    let script = format!("#!/bin/sh\n[ \"$1\" != serve ] || ulimit -v 307200\nexec {binary} \"$@\"\n");
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    scene.house.program = program;
    // Each thread takes address space.
    scene.house.variables.push(("TOKIO_WORKER_THREADS".into(), "2".into()));
    scene.house.start();
    scene.open_gate();
    let (pid, listen) = (scene.house.pid(), scene.house.listen());
    let (house, listen) = (&scene.house, listen.as_str());
    let push = |number: usize| {
        let (commit, padding) = (format!("{:040x}", number + 1), "x".repeat([100, 2 << 20, 20 << 20][number % 3]));
        let body =
            house.push_of(&commit, "refs/heads/main").replacen('{', &format!("{{\"padding\": \"{padding}\","), 1);
        house.post_body_to(listen, body)
    };
    let answers: Vec<(u16, Value)> = thread::scope(|scope| {
        let senders: Vec<_> = (0..10).map(|number| scope.spawn(move || push(number))).collect();
        senders.into_iter().map(|it| it.join().expect("an answer")).collect()
    });
    for (status, answer) in &answers {
        let is_fine =
            *status == 202 || (*status == 503 && ["busy", "unavailable"].iter().any(|it| answer["error"] == **it));
        assert!(is_fine, "{status} {answer}\n{}", scene.house.log());
    }
    assert!(answers.iter().any(|(status, _)| *status == 202) && answers.iter().any(|(status, _)| *status == 503));
    assert_eq!(scene.house.json(&["status"])["pid"], pid, "it is the same daemon");
    let run = scene.house.queue(&scene.commit);
    scene.goes_well(run);
    scene.house.stop();
}

#[test]
fn a_log_that_somebody_has_removed_is_not_said_to_be_put_away() {
    let mut scene = scene();
    scene.house.start();
    let run = scene.under_way();
    fs::remove_file(scene.house.run_dir(run).log()).expect("removed");
    let said = |scene: &Scene| {
        let output = scene.house.landfall(&["log", &run.to_string()]);
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    assert_eq!(scene.house.run(run)["log"], "missing");
    assert!(said(&scene).contains("something other than Landfall has removed it from"), "{}", said(&scene));
    scene.open_gate();
    scene.house.ended(run);
    assert!(said(&scene).contains("something other than Landfall has removed it from"), "{}", said(&scene));
    // Retention removes the oldest logs.
    scene.house.write_hooks("server: {listen: \"127.0.0.1:0\", keep_logs: 1s}", HOOK);
    until("a start finds it old enough", || {
        scene.house.stop().start();
        said(&scene).contains("no longer kept (`server.keep_logs`)").then_some(())
    });
    scene.house.stop();
}
