//! Reads how the jobs of a hook wait: its lane, their order, what a newer one does, and when a bad end is tried again.
//!
//! Invariant: what is read is bounded, so that no sum of waits overflows.

use std::time::Duration;

use crate::{
    hooks::{
        keys,
        read::{Check, Field, Section},
    },
    model::{
        hook::{QueuePolicy, Retry},
        name::{HookName, LaneName},
        run::RetryClass,
    },
};

/// How the jobs of a hook wait.
pub(super) struct Waiting {
    pub(super) retry: Retry,
    pub(super) queue: QueuePolicy,
    pub(super) lane: LaneName,
    pub(super) priority: i8,
    pub(super) debounce: Duration,
    pub(super) min_interval: Duration,
}

/// Reads it all.
pub(super) fn read(section: &Section, name: &HookName, check: &mut Check) -> Waiting {
    Waiting {
        retry: section.read("retry", check, default_retry(), retry),
        queue: section.read("queue", check, QueuePolicy::Latest, queue),
        lane: section.read("lane", check, name.own_lane(), lane),
        priority: section
            .read("priority", check, 0, |it, check| it.number(check, -100..=100).and_then(|it| i8::try_from(it).ok())),
        debounce: section.read("debounce", check, Duration::ZERO, Field::duration),
        min_interval: section.read("min_interval", check, Duration::ZERO, Field::duration),
    }
}

fn default_retry() -> Retry {
    Retry { max: 2, on: vec![RetryClass::Tempfail, RetryClass::Fetch], backoff: Duration::from_secs(10) }
}

fn retry(field: &Field, check: &mut Check) -> Option<Retry> {
    let section = field.section(check, keys::RETRY)?;
    let default = default_retry();
    let classes = RetryClass::ALL.map(|it| (it.word(), it));
    Some(Retry {
        max: section.read("max", check, default.max, |it, check| {
            it.number(check, 0..=100).and_then(|it| u32::try_from(it).ok())
        }),
        on: section.read("on", check, default.on, |it, check| it.each(check, |it, check| it.choice(check, &classes))),
        backoff: section.read("backoff", check, default.backoff, Field::duration),
    })
}

fn queue(field: &Field, check: &mut Check) -> Option<QueuePolicy> {
    let words: Vec<_> = QueuePolicy::ALL.iter().map(|it| (it.word(), *it)).collect();
    field.choice(check, &words)
}

fn lane(field: &Field, check: &mut Check) -> Option<LaneName> {
    field.parsed(check, "bad-name", |text| {
        LaneName::parse(text).ok_or("up to 63 of a-z, 0-9, `.`, `_` and `-`, beginning with a letter or digit")
    })
}
