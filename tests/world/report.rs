//! What worlds complain of, sorted by what was checked.
//!
//! Invariant: each complaint has the seed of its world.

use std::{collections::BTreeMap, sync::Mutex, time::Instant};

/// Something is not as git has it.
#[derive(Clone, Debug)]
struct Complaint {
    seed: u64,
    /// The place, and where in its history.
    place: String,
    detail: String,
}

/// All complaints, and what was looked at.
pub struct Report {
    began: Instant,
    /// Places are judged by several threads at once.
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    worlds: u64,
    deploys: u64,
    kills: u64,
    complaints: BTreeMap<String, Vec<Complaint>>,
}

impl Report {
    pub fn begin() -> Self {
        Self { began: Instant::now(), found: Mutex::default() }
    }

    pub fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    pub fn count_world(&self, seed: u64, began: Instant) {
        println!("world {seed}: {:.1} s", began.elapsed().as_secs_f64());
        self.found.lock().expect("no panic").worlds += 1;
    }

    pub fn count_deploy(&self) {
        self.found.lock().expect("no panic").deploys += 1;
    }

    pub fn count_kill(&self) {
        self.found.lock().expect("no panic").kills += 1;
    }

    /// The number of kills that met somebody at work.
    pub fn kills(&self) -> u64 {
        self.found.lock().expect("no panic").kills
    }

    /// Takes a complaint down.
    pub fn complain(&self, check: &str, seed: u64, place: &str, detail: &str) {
        let complaint = Complaint { seed, place: place.to_owned(), detail: detail.chars().take(600).collect() };
        self.found.lock().expect("no panic").complaints.entry(check.to_owned()).or_default().push(complaint);
    }

    /// Prints what was done, and fails if anything was wrong.
    ///
    /// # Panics
    /// If there is a complaint. `again` says how to meet a seed once more.
    pub fn conclude(&self, again: impl Fn(u64) -> String) {
        let found = self.found.lock().expect("no panic");
        let Found { worlds, deploys, kills, complaints } = &*found;
        let seconds = self.began.elapsed().as_secs_f64();
        println!("{worlds} worlds, {deploys} deploys, {kills} kills in {seconds:.1} s");
        for (check, complaints) in complaints {
            let mut seeds: Vec<u64> = complaints.iter().map(|it| it.seed).collect();
            seeds.dedup();
            println!("\n{check}: {} times, seeds {:?}", complaints.len(), &seeds[..seeds.len().min(20)]);
            for Complaint { seed, place, detail } in complaints.iter().take(4) {
                println!("  seed {seed}, {place}: {detail}");
            }
            println!("  again: {}", again(complaints[0].seed));
        }
        let checks: Vec<&String> = complaints.keys().collect();
        let is_clean = checks.is_empty();
        drop(found);
        assert!(is_clean, "a deploy was not what git makes of it; see above");
    }
}
