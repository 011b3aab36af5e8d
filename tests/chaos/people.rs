//! People: one looks at the runs again and again and remembers what was said, one cancels what has not ended.
//!
//! Invariant: neither waits for the other, and what a stopped daemon does not answer is not waited for in the plan.

use std::{
    collections::HashMap,
    process::Child,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{daemon::Daemon, dice::Dice, history::Event, pause::Ending, scene::Scene};

/// Remembers every outcome that was told, each time it is another.
pub fn witness(scene: &Scene, daemon: &Daemon, ending: &Ending) {
    let mut told: HashMap<i64, String> = HashMap::new();
    while !ending.comes_within(Duration::from_millis(300)) {
        for run in daemon.ask::<Vec<Value>>("/v1/runs?limit=200&state=finished").into_iter().flatten() {
            let (Some(id), Some(outcome)) = (run["id"].as_i64(), run["outcome"].as_str()) else { continue };
            if told.get(&id).is_none_or(|it| it != outcome) {
                told.insert(id, outcome.to_owned());
                scene.pen.note(Event::Seen { run: id, outcome: outcome.to_owned() });
            }
        }
    }
}

/// Cancels a run now and then, by the command line.
pub fn cancel(scene: &Scene, daemon: &Daemon, seed: u64, ending: &Ending) {
    let mut dice = Dice::of(seed, "person");
    let mut commands: Vec<Child> = Vec::new();
    while !ending.comes_within(dice.millis(1500, 4500)) {
        commands.retain_mut(|it| it.try_wait().expect("a child").is_none());
        let lot = dice.draw();
        let Ok(runs) = daemon.ask::<Vec<Value>>("/v1/runs?limit=50") else { continue };
        let open: Vec<i64> =
            runs.iter().filter(|it| it["state"] != "finished").filter_map(|it| it["id"].as_i64()).collect();
        if !open.is_empty() {
            let run = open[(lot % open.len() as u64) as usize];
            scene.pen.note(Event::Cancelled { run });
            // Whether it was in time, the run tells.
            let mut command = scene.command(&["cancel", &run.to_string()]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            commands.push(command.spawn().expect("it runs"));
        }
    }
    let until = Instant::now() + Duration::from_secs(5);
    for mut command in commands {
        while command.try_wait().expect("a child").is_none() {
            if Instant::now() > until {
                command.kill().expect("killed");
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}
