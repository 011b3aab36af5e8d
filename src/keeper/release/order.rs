//! How an errand and its answer are written down between a keeper and its child.
//!
//! Invariant: both ends are the same program, so there is no version.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Answer, Errand, Looked, Order, Trouble};
use crate::{
    journal::releases::{self, Release},
    model::{
        deploy::SharedPath,
        name::HookName,
        push::CommitId,
        release::{ReleaseName, Verdict},
        run::{FailureClass, RunId},
    },
};

/// The errand as JSON, for the child's standard input.
pub fn encode_errand(errand: &Errand) -> String {
    let piped = PipedErrand { root: errand.root.clone(), order: PipedOrder::from(&errand.order) };
    serde_json::to_string(&piped).expect("an errand is strings and numbers, and its paths come from UTF-8")
}

/// The errand that [`encode_errand`] wrote.
pub(super) fn decode_errand(text: &str) -> Result<Errand, Trouble> {
    let unreadable = |why: String| Trouble::other(format!("cannot read the errand: {why}"));
    let piped: PipedErrand = serde_json::from_str(text).map_err(|err| unreadable(err.to_string()))?;
    Ok(Errand { root: piped.root, order: Order::try_from(piped.order).map_err(unreadable)? })
}

/// An answer, ready to be written.
pub(super) fn encode_answer(answer: &Result<Answer, Trouble>) -> String {
    let encode = |it: &Option<Release>| it.as_ref().map(releases::encode);
    let piped = match answer {
        Ok(Answer::Done) => PipedAnswer::Done,
        Ok(Answer::Looked(it)) => {
            PipedAnswer::Looked { link: it.link.clone(), live: encode(&it.live), wanted: encode(&it.wanted) }
        }
        Ok(Answer::Adopted(release)) => PipedAnswer::Adopted(releases::encode(release)),
        Ok(Answer::Tidied(notes)) => PipedAnswer::Tidied(notes.clone()),
        Err(trouble) => {
            let is_permanent = trouble.class == FailureClass::Permanent;
            PipedAnswer::Failed { is_permanent, reason: trouble.reason.clone() }
        }
    };
    // A link's text that is not UTF-8 cannot be told, and is then told to be none.
    serde_json::to_string(&piped).unwrap_or_else(|_| {
        serde_json::to_string(&PipedAnswer::Failed { is_permanent: true, reason: "`current` is not UTF-8".into() })
            .expect("two plain values")
    })
}

/// The answer, as the child wrote it.
pub fn decode_answer(answer: &[u8]) -> Result<Answer, Trouble> {
    let no_answer = |why: String| Trouble::other(format!("the work on releases gave no answer: {why}"));
    let decode = |line: Option<String>| line.map(|it| releases::decode(&it)).transpose();
    let piped = serde_json::from_slice(answer).map_err(|err| no_answer(err.to_string()))?;
    Ok(match piped {
        PipedAnswer::Done => Answer::Done,
        PipedAnswer::Looked { link, live, wanted } => {
            Answer::Looked(Looked { link, live: decode(live)?, wanted: decode(wanted)? })
        }
        PipedAnswer::Adopted(release) => Answer::Adopted(releases::decode(&release)?),
        PipedAnswer::Tidied(notes) => Answer::Tidied(notes),
        PipedAnswer::Failed { is_permanent, reason } => {
            let class = if is_permanent { FailureClass::Permanent } else { FailureClass::Other };
            return Err(Trouble { class, reason });
        }
    })
}

#[derive(Serialize, Deserialize)]
struct PipedErrand {
    root: PathBuf,
    order: PipedOrder,
}

/// A release is written as in the record.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PipedOrder {
    Look { hook: String, shared: Vec<PipedShared>, wanted: Option<String> },
    Prepare { run: i64 },
    Furnish { run: i64, commit: String, shared: Vec<PipedShared> },
    Seal { release: String },
    Switch { run: i64, link: PathBuf },
    Judge { name: String, verdict: String, note: Option<String> },
    Adopt { release: String },
    Tidy { run: i64, good: usize, failed: usize, spared: Vec<String> },
}

#[derive(Serialize, Deserialize)]
struct PipedShared {
    path: PathBuf,
    required: bool,
    seed: Option<PathBuf>,
    mode: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PipedAnswer {
    Done,
    Looked { link: Option<PathBuf>, live: Option<String>, wanted: Option<String> },
    Adopted(String),
    Tidied(Vec<String>),
    Failed { is_permanent: bool, reason: String },
}

impl From<&Order> for PipedOrder {
    fn from(order: &Order) -> Self {
        match order {
            Order::Look { hook, shared, wanted } => Self::Look {
                hook: hook.to_string(),
                shared: piped_shared(shared),
                wanted: wanted.as_ref().map(ReleaseName::to_string),
            },
            Order::Prepare { run } => Self::Prepare { run: run.0 },
            Order::Furnish { run, commit, shared } => {
                Self::Furnish { run: run.0, commit: commit.to_string(), shared: piped_shared(shared) }
            }
            Order::Seal { release } => Self::Seal { release: releases::encode(release) },
            Order::Switch { run, link } => Self::Switch { run: run.0, link: link.clone() },
            Order::Judge { name, verdict, note } => {
                Self::Judge { name: name.to_string(), verdict: verdict.word().into(), note: note.clone() }
            }
            Order::Adopt { release } => Self::Adopt { release: releases::encode(release) },
            Order::Tidy { run, good, failed, spared } => {
                let spared = spared.iter().map(ToString::to_string).collect();
                Self::Tidy { run: run.0, good: *good, failed: *failed, spared }
            }
        }
    }
}

impl TryFrom<PipedOrder> for Order {
    type Error = String;

    fn try_from(piped: PipedOrder) -> Result<Self, String> {
        let name = |text: &str| ReleaseName::parse(text).ok_or_else(|| format!("`{text}` is not a release's name"));
        let release = |text: &str| releases::decode(text).map_err(|err| err.to_string());
        Ok(match piped {
            PipedOrder::Look { hook, shared, wanted } => Self::Look {
                hook: HookName::parse(&hook).ok_or_else(|| format!("`{hook}` is not a hook's name"))?,
                shared: plain_shared(shared),
                wanted: wanted.as_deref().map(name).transpose()?,
            },
            PipedOrder::Prepare { run } => Self::Prepare { run: RunId(run) },
            PipedOrder::Furnish { run, commit, shared } => Self::Furnish {
                run: RunId(run),
                commit: CommitId::parse(&commit).ok_or_else(|| format!("`{commit}` is not a commit"))?,
                shared: plain_shared(shared),
            },
            PipedOrder::Seal { release: text } => Self::Seal { release: release(&text)? },
            PipedOrder::Switch { run, link } => Self::Switch { run: RunId(run), link },
            PipedOrder::Judge { name: text, verdict, note } => Self::Judge {
                name: name(&text)?,
                verdict: Verdict::parse(&verdict).ok_or_else(|| format!("`{verdict}` is not a verdict"))?,
                note,
            },
            PipedOrder::Adopt { release: text } => Self::Adopt { release: release(&text)? },
            PipedOrder::Tidy { run, good, failed, spared } => {
                let spared = spared.iter().map(|it| name(it)).collect::<Result<_, _>>()?;
                Self::Tidy { run: RunId(run), good, failed, spared }
            }
        })
    }
}

fn piped_shared(shared: &[SharedPath]) -> Vec<PipedShared> {
    let piped = |SharedPath { path, required, seed, mode }| PipedShared { path, required, seed, mode };
    shared.iter().cloned().map(piped).collect()
}

fn plain_shared(shared: Vec<PipedShared>) -> Vec<SharedPath> {
    let plain = |PipedShared { path, required, seed, mode }| SharedPath { path, required, seed, mode };
    shared.into_iter().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::{decode_answer, decode_errand, encode_answer, encode_errand};
    use crate::{
        keeper::release::{Answer, Errand, Order, Trouble},
        model::{deploy::SharedPath, release::ReleaseName},
    };

    #[test]
    fn an_errand_and_its_answer_come_over_as_they_were_given() {
        let shared = SharedPath { path: "a".into(), required: true, seed: Some("b".into()), mode: Some(0o640) };
        let (hook, wanted) = (crate::model::name::HookName::parse("site").expect("a name"), ReleaseName::parse("x-r1"));
        let errand = Errand { root: "/srv/x".into(), order: Order::Look { hook, shared: vec![shared], wanted } };
        assert_eq!(decode_errand(&encode_errand(&errand)), Ok(errand));
        for answer in [Ok(Answer::Tidied(vec!["a".into()])), Err(Trouble::permanent("no")), Err(Trouble::other("yes"))]
        {
            assert_eq!(decode_answer(encode_answer(&answer).as_bytes()), answer);
        }
        assert!(decode_answer(b"").expect_err("silence").reason.contains("no answer"));
    }
}
