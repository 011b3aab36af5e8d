//! What may end a step before it ends by itself: limits of time, a person, and a log that cannot be written.
//!
//! Invariant: limits are measured on the monotonic clock, so setting the machine's time changes none of them.

use std::{fmt, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{journal::folder::RunDir, model::run::RunId};

/// The limits of one step.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When the time of the run, or of its last steps, is over, and how much that was.
    pub whole: Limit,
    /// When the step's own time is over, if it has any.
    pub step: Option<Limit>,
    /// How long it may be silent.
    pub silence: Duration,
    /// Between TERM and KILL.
    pub grace: Duration,
}

/// A moment, and the span people know it by.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The moment.
    pub at: Instant,
    /// The span that ends there.
    pub span: Duration,
}

impl Limit {
    /// The limit of a span that begins now.
    pub fn from_now(span: Duration) -> Self {
        let now = Instant::now();
        // A span beyond what the clock can express is no limit in practice.
        let far = Duration::from_secs(60 * 60 * 24 * 365);
        Self { at: now.checked_add(span).unwrap_or(now + far), span }
    }
}

/// Why a step was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// A person wants the run to end.
    Cancelled,
    /// The whole run took too long.
    WholeTime(Duration),
    /// The step took too long.
    StepTime(Duration),
    /// The step printed nothing for too long.
    Silence(Duration),
    /// What it prints cannot be kept, or what it answers is no answer; the sentence says why.
    Trouble(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => out.write_str("the run was cancelled"),
            Self::WholeTime(span) => write!(out, "the whole run took longer than its `timeout` of {}", spell(*span)),
            Self::StepTime(span) => write!(out, "the step took longer than its own `timeout` of {}", spell(*span)),
            Self::Silence(span) => write!(out, "it printed nothing for its `idle_timeout` of {}", spell(*span)),
            Self::Trouble(why) => out.write_str(why),
        }
    }
}

/// Wishes that the run should end: one TERM each. The run's folder says whose wish it is, and the same wish counts once,
/// since a daemon that is started in between passes on what it cannot know to be known.
#[derive(Debug)]
pub struct Cancel {
    signal: Signal,
    dir: RunDir,
    /// What the folder said at the last wish that it says anything about.
    heard: Option<(Option<String>, Option<RunId>)>,
    /// A push that came too late, until somebody has said so in the log.
    turned_down: Option<RunId>,
    is_going_live: bool,
}

impl Cancel {
    /// Listens from now on; before, a TERM would end the keeper.
    pub fn listen(dir: &RunDir) -> std::io::Result<Self> {
        let signal = signal(SignalKind::terminate())?;
        Ok(Self { signal, dir: dir.clone(), heard: None, turned_down: None, is_going_live: false })
    }

    /// From here on only a person ends the run: half a switch is worse than a late one.
    pub fn go_live(&mut self) {
        self.is_going_live = true;
    }

    /// Waits for the next wish that counts.
    pub async fn asked(&mut self) {
        loop {
            if self.signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
            let said = (self.dir.read_cancel(), self.dir.read_yield());
            if said != (None, None) && self.heard.as_ref() == Some(&said) {
                continue;
            }
            self.heard = Some(said.clone());
            match said {
                (None, Some(to)) if self.is_going_live => self.turned_down = Some(to),
                (Some(_), _) | (None, _) => return,
            }
        }
    }

    /// The newer run that was turned down since this was last asked.
    pub fn take_turned_down(&mut self) -> Option<RunId> {
        self.turned_down.take()
    }
}

/// A span as people write it: `1h 30m`, `90s` as `1m 30s`, `1.5s`.
pub fn spell(span: Duration) -> String {
    let seconds = span.as_secs();
    if span.subsec_millis() > 0 && seconds < 60 {
        return format!("{}s", span.as_secs_f64());
    }
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let words: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect();
    if words.is_empty() { "0s".to_owned() } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::spell;

    #[test]
    fn spans_read_as_people_write_them() {
        for (millis, text) in [(0, "0s"), (1_500, "1.5s"), (90_000, "1m 30s"), (1_800_000, "30m"), (3_601_000, "1h 1s")]
        {
            assert_eq!(spell(Duration::from_millis(millis)), text);
        }
    }
}
