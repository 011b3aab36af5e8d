//! What survives `kill -9` of the daemon or of a keeper at any moment: pushes, lines, scripts, letters.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
};

use landfall::journal::{entries::Begin, progress};
use nix::{
    fcntl::OFlag,
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use rustix::fs::{FlockOperation, flock};

use crate::{
    keeper::cgroup::{DAEMONISES, has_group},
    world::{house::House, inbox::SlackSink, until},
};

/// A hook whose script prints 200 lines, waits at a gate, and prints 200 more.
const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: ./deploy.sh
env: {GATE: "{folder}/gate", DONE: "{folder}/done"}
notify: {slack: {env: SLACK}, on: all}"#;

const DEPLOY_SH: &str = "#!/bin/sh
seq 1 200
read -r word < $GATE
seq 201 400
echo \"$DEPLOY_RUN_ID\" >> $DONE
";

struct Scene {
    house: House,
    sink: SlackSink,
    commit: String,
}

fn scene() -> Scene {
    let mut scene = quiet_scene();
    scene.house.start();
    scene
}

/// The same, before the daemon is started.
fn quiet_scene() -> Scene {
    let sink = SlackSink::open();
    let house = House::that_tells(&sink, HOOK);
    mkfifo(&gate(&house), Mode::S_IRWXU).expect("a fifo");
    let commit = house.repo.commit(&[("deploy.sh", DEPLOY_SH), ("index.html", "one")]);
    Scene { house, sink, commit }
}

impl Scene {
    /// The run went well, exactly once, no line is missing, and people were told of its start and its end once each.
    fn went_well_once(&self, run: i64) {
        let view = self.house.ended(run);
        assert_eq!(view["outcome"], "succeeded", "{view}\n{}", self.house.whole_log(run));
        let expected: Vec<String> = (1..=400).map(|it| it.to_string()).collect();
        assert_eq!(self.house.output(run), expected);
        assert_eq!(self.house.file("done"), format!("{run}\n"));
        assert_eq!(self.house.json(&["runs"]).as_array().expect("an array").len(), 1);
        until("both letters are sent", || {
            let letters = self.house.run(run)["letters"].clone();
            let letters = letters.as_array().expect("an array");
            (letters.len() == 2 && letters.iter().all(|it| it["state"] == "sent")).then_some(())
        });
        let told = |word: &str| self.sink.messages().iter().filter(|it| it.contains(word)).count();
        assert_eq!(self.sink.messages().len(), 2, "{:?}", self.sink.messages());
        assert!(told(&format!("run {run}")) == 2, "{:?}", self.sink.messages());
    }
}

#[test]
fn a_daemon_killed_right_after_its_202_loses_no_push() {
    let Scene { mut house, sink, commit } = scene();
    let run = house.queue(&commit);
    house.kill().start();
    open_gate(&house);
    Scene { house, sink, commit }.went_well_once(run);
}

#[test]
fn a_daemon_killed_while_a_script_prints_loses_no_line_and_ends_no_script() {
    let Scene { mut house, sink, commit } = scene();
    let run = house.queue(&commit);
    until_gate(&house, run);
    house.kill().start();
    assert_eq!(house.run_once(run, "running")["step"], "run");
    open_gate(&house);
    Scene { house, sink, commit }.went_well_once(run);
}

#[test]
fn a_run_that_ended_while_no_daemon_was_there_is_recorded_and_told_once() {
    let Scene { mut house, sink, commit } = scene();
    let run = house.queue(&commit);
    until_gate(&house, run);
    house.kill();
    open_gate(&house);
    let folder = house.run_dir(run);
    until("the keeper has written the end", || progress::read(&folder).expect("a journal").end.map(drop));
    house.start();
    let scene = Scene { house, sink, commit };
    scene.went_well_once(run);
    assert_eq!(scene.house.deliver(&scene.commit).1["result"], "duplicate", "the same body is the same delivery");
}

#[cfg(feature = "failpoints")]
#[test]
fn a_daemon_that_crashes_before_or_after_it_stores_an_outcome_stores_it_once_and_tells_once() {
    for moment in ["work-before-storing-an-end", "work-after-storing-an-end"] {
        let Scene { mut house, sink, commit } = quiet_scene();
        house.variables.push(("FAILPOINTS".into(), format!("{moment}=return")));
        house.start();
        let run = house.queue(&commit);
        open_gate(&house);
        house.crashed();
        assert!(progress::read(&house.run_dir(run)).expect("a journal").end.is_some(), "the script ended before");
        house.variables.pop();
        house.start();
        Scene { house, sink, commit }.went_well_once(run);
    }
}

#[test]
fn a_daemon_killed_during_a_fetch_leaves_the_fetch_to_its_keeper() {
    let Scene { mut house, sink, commit } = scene();
    let first = house.queue(&commit);
    open_gate(&house);
    assert_eq!(house.ended(first)["outcome"], "succeeded");
    let lock = fetch_lock(&house.live());
    flock(&lock, FlockOperation::LockExclusive).expect("locked");
    let commit = house.repo.commit(&[("index.html", "two")]);
    let run = house.queue(&commit);
    until("the run is at its fetch", || (house.run(run)["step"] == "fetch").then_some(()));
    house.kill().start();
    assert_eq!(house.run(run)["step"], "fetch");
    flock(&lock, FlockOperation::Unlock).expect("unlocked");
    open_gate(&house);
    assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
    assert_eq!(fs::read_to_string(house.live().join("index.html")).expect("deployed"), "two");
    assert_eq!(house.file("done"), format!("{first}\n{run}\n"));
    drop((sink, commit));
}

#[test]
fn a_run_whose_keeper_was_killed_is_interrupted_and_nothing_of_it_goes_on() {
    let Scene { mut house, sink, .. } = scene();
    let script = "#!/bin/sh
sleep 1000 &
echo $! > $DONE.pid
setsid sh -c 'sleep 1000' &
read -r word < $GATE
";
    let commit = house.repo.commit(&[("deploy.sh", script)]);
    let run = house.queue(&commit);
    let pid = until("the script has started", || house.file("done.pid").trim().parse::<i32>().ok());
    let begin = progress::read(&house.run_dir(run)).expect("a journal").begin.expect("it has begun");
    kill_keeper(&begin);
    let view = house.ended(run);
    assert_eq!(view["outcome"], "interrupted", "{view}");
    assert_eq!(view["step"], "run");
    assert!(!Path::new(&format!("/proc/{pid}")).exists() || is_zombie(pid), "what the script left goes on");
    until("people are told", || sink.messages().iter().any(|it| it.contains("interrupted")).then_some(()));
    house.stop();
}

#[test]
fn a_run_from_before_a_reboot_is_interrupted_and_whoever_has_its_numbers_now_is_left_alone() {
    let Scene { mut house, sink, commit } = scene();
    let run = house.queue(&commit);
    until_gate(&house, run);
    house.kill();
    let begin = progress::read(&house.run_dir(run)).expect("a journal").begin.expect("it has begun");
    kill_keeper(&begin);
    // The script goes on in the same group, with the token of its run: in the eyes of the next boot, somebody else.
    let journal = house.run_dir(run).journal();
    let entries = fs::read_to_string(&journal).expect("a journal");
    let another_boot = "00000000-0000-4000-8000-000000000000";
    fs::write(&journal, entries.replace(&begin.boot_id, another_boot)).expect("written");
    house.start();
    let view = house.ended(run);
    assert_eq!((&view["outcome"], &view["step"]), (&"interrupted".into(), &"run".into()), "{view}");
    let reason = view["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("the machine was restarted at step run"), "{reason}");
    until("people are told", || sink.messages().iter().any(|it| it.contains("interrupted")).then_some(()));
    open_gate(&house);
    until("the script has come to its end", || (house.file("done") == format!("{run}\n")).then_some(()));
    house.stop();
}

#[test]
fn under_a_control_group_a_daemon_that_hides_does_not_outlive_a_run_whose_keeper_was_killed() {
    if !has_group("under_a_control_group_a_daemon_that_hides_does_not_outlive_a_run_whose_keeper_was_killed") {
        return;
    }
    let Scene { mut house, .. } = scene();
    let commit = house.repo.commit(&[("deploy.sh", &format!("#!/bin/sh\n{DAEMONISES}\nread -r word < $GATE\n"))]);
    let run = house.queue(&commit);
    let daemon = house.live().join("daemon");
    let pid = until("the daemon has started", || fs::read_to_string(&daemon).ok()?.trim().parse::<i32>().ok());
    let begin = progress::read(&house.run_dir(run)).expect("a journal").begin.expect("it has begun");
    kill_keeper(&begin);
    let view = house.ended(run);
    assert_eq!(view["outcome"], "interrupted", "{view}");
    assert!(view["reason"].as_str().is_some_and(|it| it.contains(&format!("`sh` ({pid})"))), "{view}");
    assert!(!Path::new(&format!("/proc/{pid}")).exists() || is_zombie(pid), "the daemon goes on");
    assert!(!begin.cgroup.expect("a group").exists());
    house.stop();
}

#[cfg(feature = "failpoints")]
#[test]
fn under_a_control_group_a_keeper_that_dies_before_its_run_has_begun_leaves_no_group_behind() {
    if !has_group("under_a_control_group_a_keeper_that_dies_before_its_run_has_begun_leaves_no_group_behind") {
        return;
    }
    let mut house = House::with_hook(&format!("{HOOK}\npass_env: FAILPOINTS"));
    house.variables.push(("SLACK".into(), "http://127.0.0.1:9/none".into()));
    house.variables.push(("FAILPOINTS".into(), "keeper-before-begin=return".into()));
    let commit = house.repo.commit(&[("deploy.sh", DEPLOY_SH)]);
    house.start();
    let run = house.queue(&commit);
    until("it is put off", || house.log().contains("its keeper ended before it began").then_some(()));
    let token = house.run_dir(run).read_spec().expect("a spec").token;
    let group = landfall::keeper::probe_cgroup().expect("a group").join(format!("landfall-{}", token.as_str()));
    assert!(!group.exists(), "{}", group.display());
    house.stop();
}

fn until_gate(house: &House, run: i64) {
    until("the script waits at the gate", || (house.output(run).len() == 200).then_some(()));
}

fn kill_keeper(begin: &Begin) {
    kill(Pid::from_raw(begin.pid), Signal::SIGKILL).expect("killed");
}

/// Lets one script through the gate, as soon as it is there.
fn open_gate(house: &House) {
    let path = gate(house);
    let mut gate = until("a script waits at the gate", || {
        fs::File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path).ok()
    });
    gate.write_all(b"go\n").expect("the gate opens");
    thread::yield_now();
}

fn gate(house: &House) -> PathBuf {
    house.folder.path().join("gate")
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|it| it.contains(") Z "))
}

/// The file by which fetches into the working tree keep out of each other's way.
fn fetch_lock(tree: &Path) -> fs::File {
    let lock = tree.join(".git/landfall/fetch.lock");
    fs::File::options().read(true).write(true).open(lock).expect("opened")
}
