//! Reads `health`: what must answer well after a hook went live.
//!
//! Invariant: a probe that is read can be asked; each names exactly one thing.

use std::{ops::RangeInclusive, time::Duration};

use crate::{
    hooks::{
        keys,
        read::{Check, Field, Section},
        units,
    },
    model::health::{Probe, Question},
};

/// One probe, or a list of them.
pub(super) fn read(field: &Field, check: &mut Check) -> Option<Vec<Probe>> {
    field.each(check, probe)
}

fn probe(field: &Field, check: &mut Check) -> Option<Probe> {
    let section = field.section(check, keys::PROBE)?;
    let question = question(field, &section, check);
    let count = |it: &Field, check: &mut Check| it.number(check, 1..=10_000).and_then(|it| u32::try_from(it).ok());
    let seconds = Duration::from_secs;
    let attempts = section.read("attempts", check, 15, count);
    let stable = section.read("stable", check, 1, count);
    if stable > attempts {
        let help = "ask at least as often as it has to answer well in a row";
        let message = format!("can never answer well {stable} times in a row in {attempts} attempts");
        field.refuse(check, "bad-probe", message, help);
    }
    Some(Probe {
        attempts,
        interval: section.read("interval", check, seconds(2), Field::duration),
        timeout: section.read("timeout", check, seconds(5), Field::limit),
        start_after: section.read("start_after", check, Duration::ZERO, Field::duration),
        stable,
        question: question?,
    })
}

fn question(field: &Field, section: &Section, check: &mut Check) -> Option<Question> {
    let expect = section.read("expect", check, 200..=399, |it, check| it.parsed(check, "bad-number", statuses));
    let body = section.read("body", check, None, |it, check| it.text(check).map(|it| Some(it.to_owned())));
    let kinds: Vec<&Field> = ["http", "tcp", "command"].into_iter().filter_map(|it| section.get(it)).collect();
    let [kind] = kinds.as_slice() else {
        let help = "write exactly one of `http`, `tcp`, `command`";
        field.refuse(check, "bad-probe", "must name one thing to probe", help);
        return None;
    };
    if kind.key != "http" {
        for useless in ["expect", "body"].into_iter().filter_map(|it| section.get(it)) {
            let message = format!("`{}` does nothing beside `{}`", useless.path, kind.key);
            check.error(useless.key_place, "useless-key", message, "remove it; it goes with `http`");
        }
    }
    match kind.key {
        "http" => Some(Question::Http { url: kind.parsed(check, "bad-url", units::link)?, expect, body }),
        "tcp" => Some(Question::Tcp { address: kind.parsed(check, "bad-address", address)? }),
        _ => Some(Question::Command { script: kind.text(check)?.to_owned() }),
    }
}

fn address(text: &str) -> Result<String, &'static str> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_address { Ok(text.to_owned()) } else { Err("write `127.0.0.1:8080`") }
}

/// `200`, or `200-399`.
fn statuses(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|it| (100..600).contains(it));
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        _ => Err("write `200` or `200-399`"),
    }
}
