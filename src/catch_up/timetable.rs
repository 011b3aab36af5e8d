//! When the remote of which hook is asked next.
//!
//! Invariant: it goes by the monotonic clock, and a hook that is being looked at is not due.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::Instant;

use super::group;
use crate::{
    hooks::Hooks,
    model::{
        hook::{Hook, Poll},
        name::HookName,
    },
};

/// At the start, so many remotes are asked within a second.
const A_SECOND: u32 = 4;

/// However many there are, the first look at each begins within this time.
const FIRST_LOOKS: Duration = Duration::from_secs(300);

/// The first wait after a remote could not be asked, or it was not decided what was missed; it doubles with each failure.
const AFTER_TROUBLE: Duration = Duration::from_secs(30);

/// The longest of these waits, unless the hook polls more rarely than that.
const AFTER_TROUBLE_MAX: Duration = Duration::from_secs(3600);

/// A look that has ended.
pub(super) struct Ended {
    /// The hooks it was for.
    pub(super) hooks: Vec<HookName>,
    /// Why the remote could not be asked, if it could not.
    pub(super) trouble: Option<String>,
    /// Whether it is known by now what was missed.
    pub(super) is_settled: bool,
}

/// The next look of each hook.
#[derive(Default)]
pub(super) struct Timetable {
    turns: HashMap<HookName, Turn>,
}

struct Turn {
    /// What is looked for, and how often: whoever changes that is looked at anew.
    plan: String,
    poll: Poll,
    /// A part of a whole, by which the looks at different remotes are spread.
    share: f64,
    /// `None`: a look is under way, or none is to come.
    due: Option<Instant>,
    failures: u32,
}

impl Timetable {
    /// Takes up the hooks of now: new ones and changed ones have their first look.
    pub(super) fn follow(&mut self, hooks: &Hooks, now: Instant) {
        let looking: Vec<&Hook> = hooks.hooks.values().map(AsRef::as_ref).filter(|it| looks(it)).collect();
        let kept: HashSet<&HookName> = looking.iter().map(|it| &it.name).collect();
        self.turns.retain(|name, _| kept.contains(name));
        let changed: Vec<(&Hook, String)> = looking
            .into_iter()
            .map(|it| (it, format!("{} {:?}", group::looked_for(it), it.poll)))
            .filter(|(hook, plan)| self.turns.get(&hook.name).is_none_or(|it| it.plan != *plan))
            .collect();
        let remotes: HashSet<&str> = changed.iter().map(|(hook, _)| remote(hook)).collect();
        let beyond = u32::try_from(remotes.len()).unwrap_or(u32::MAX).saturating_sub(A_SECOND);
        let window = (Duration::from_secs(1) / A_SECOND).saturating_mul(beyond).min(FIRST_LOOKS);
        for (hook, plan) in changed {
            let share = share(remote(hook));
            let due = Some(now + window.mul_f64(share));
            self.turns.insert(hook.name.clone(), Turn { plan, poll: hook.poll, share, due, failures: 0 });
        }
    }

    /// The hooks that are due; until their look has ended, they are not.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<HookName> {
        let due = self.turns.iter_mut().filter(|(_, turn)| turn.due.is_some_and(|it| it <= now));
        due.map(|(name, turn)| {
            turn.due = None;
            name.clone()
        })
        .collect()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.turns.values().filter_map(|it| it.due).min()
    }

    /// Sets the next look after one has ended. Whether that is news: it failed for the first time, or no longer does.
    pub(super) fn ended(&mut self, ended: &Ended, now: Instant) -> bool {
        let mut is_news = false;
        for name in &ended.hooks {
            let Some(turn) = self.turns.get_mut(name) else { continue };
            let failed = turn.failures;
            turn.failures = if ended.trouble.is_some() { failed.saturating_add(1) } else { 0 };
            is_news |= (failed == 0) != (turn.failures == 0);
            turn.due = turn.wait(ended.is_settled).map(|it| now + it);
        }
        is_news
    }

    /// Sets the next look where one broke off.
    pub(super) fn free_all(&mut self, now: Instant) {
        for turn in self.turns.values_mut().filter(|it| it.due.is_none()) {
            turn.due = Some(now + AFTER_TROUBLE);
        }
    }
}

impl Turn {
    fn wait(&self, is_settled: bool) -> Option<Duration> {
        let spread = |it: Duration| it + it.mul_f64(self.share / 10.0);
        let after_trouble = AFTER_TROUBLE.saturating_mul(2_u32.saturating_pow(self.failures.saturating_sub(1)));
        match (self.poll, self.failures) {
            (Poll::Off, _) => None,
            (Poll::AtStart, 0) => (!is_settled).then_some(AFTER_TROUBLE),
            (Poll::AtStart, _) => Some(spread(after_trouble.min(AFTER_TROUBLE_MAX))),
            (Poll::Every(interval), 0) => Some(spread(interval)),
            (Poll::Every(interval), _) => Some(spread(after_trouble.min(AFTER_TROUBLE_MAX).max(interval))),
        }
    }
}

/// Whether the remote of a hook is ever asked.
fn looks(hook: &Hook) -> bool {
    hook.enabled && hook.poll != Poll::Off && hook.deploy.strategy.git().is_some()
}

fn remote(hook: &Hook) -> &str {
    hook.deploy.strategy.git().map_or("", |it| it.remote.as_str())
}

/// The same for all hooks of a remote, from 0 to 1.
fn share(remote: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    remote.hash(&mut hasher);
    f64::from(u16::try_from(hasher.finish() & 0xffff).unwrap_or(0)) / 65_536.0
}
