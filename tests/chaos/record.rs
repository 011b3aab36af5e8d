//! What the store tells at the end, as `--json` prints it: runs with their letters, and deliveries.
//!
//! Invariant: only what the checker asks about is read; whatever else the JSON holds may change.

use serde::Deserialize;

/// A run.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    pub id: i64,
    pub hook: String,
    pub lane: String,
    pub state: String,
    pub outcome: Option<String>,
    pub trigger: String,
    pub exit_code: Option<i32>,
    pub sha: Option<String>,
    #[serde(rename = "ref")]
    pub ref_name: Option<String>,
    pub reason: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    pub attempt: u32,
    pub retry_of: Option<i64>,
    /// The runs in whose place it stands, and those in whose place these stood.
    pub supersedes: Vec<i64>,
    /// Of its last claim; nothing if it never was claimed.
    pub fence: Option<i64>,
    pub letters: Vec<Letter>,
}

impl Run {
    /// Whether it ended so.
    pub fn ended(&self, outcome: &str) -> bool {
        self.outcome.as_deref() == Some(outcome)
    }

    /// Whether a remote was found to offer it.
    pub fn is_caught_up(&self) -> bool {
        self.trigger == "catch_up"
    }

    /// Whether a redelivery of its push may start another: it ended badly, or was cancelled.
    pub fn was_in_vain(&self) -> bool {
        ["failed", "timed_out", "interrupted", "cancelled"].iter().any(|it| self.ended(it))
    }
}

/// A letter.
#[derive(Clone, Debug, Deserialize)]
pub struct Letter {
    pub id: i64,
    pub occasion: String,
    pub state: String,
}

/// A delivery.
#[derive(Clone, Debug, Deserialize)]
pub struct Delivery {
    pub id: i64,
    pub delivery_id: Option<String>,
    pub path: String,
    pub result: String,
    pub runs: Vec<i64>,
}

/// All there is.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// By rising number.
    pub runs: Vec<Run>,
    /// By rising number.
    pub deliveries: Vec<Delivery>,
}

impl Record {
    /// The run of a number.
    pub fn run(&self, id: i64) -> Option<&Run> {
        self.runs.binary_search_by_key(&id, |it| it.id).ok().map(|at| &self.runs[at])
    }

    /// The place of a run in its lane, as the number of the run that was given it: a retry has the place of what it
    /// tries again, and a run that waits again has that of the run that had taken its place in vain.
    pub fn place(&self, id: i64) -> i64 {
        let Some(run) = self.run(id) else { return id };
        let Some(earlier) = run.retry_of.and_then(|it| self.run(it)) else { return id };
        let taker = self.runs.iter().find(|it| it.supersedes.contains(&earlier.id));
        match taker.filter(|_| earlier.ended("superseded")) {
            // Who had made room for it may have ended later; then the place was its own.
            Some(taker) if taker.finished_at >= earlier.finished_at => self.place(taker.id),
            Some(_) | None => self.place(earlier.id),
        }
    }

    /// The run by which the push of a run was accepted.
    pub fn origin(&self, id: i64) -> i64 {
        let mut origin = id;
        while let Some(earlier) = self.run(origin).and_then(|it| it.retry_of) {
            origin = earlier;
        }
        origin
    }

    /// The run, and those that try it again, in order.
    pub fn attempts(&self, id: i64) -> Vec<&Run> {
        let mut found: Vec<&Run> = self.run(id).into_iter().collect();
        while let Some(last) = found.last().map(|it| it.id)
            && let Some(next) = self.runs.iter().find(|it| it.retry_of == Some(last))
        {
            found.push(next);
        }
        found
    }
}
