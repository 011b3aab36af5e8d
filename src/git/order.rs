//! How an order and its answer are written down between a keeper and its git child.
//!
//! Invariant: both ends are the same program, so there is no version; a secret crosses only by this pipe.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Door, Fetch, Fetched, GitFailure, Order, Place, Stage, Staged,
    ancestry::{PipedAgainst, PipedVerdict},
    scope::PipedScope,
};
use crate::model::{
    deploy::{Clean, Dirty},
    job::Target,
    push::{CommitFacts, CommitId, RefName},
    run::FailureClass,
    secret::Secret,
};

/// The order as JSON, for the child's standard input. It holds the token, if there is one.
pub fn encode_order(order: &Order) -> String {
    serde_json::to_string(&PipedOrder::from(order)).expect("an order is strings, and its paths come from UTF-8")
}

/// The order that [`encode_order`] wrote.
pub(super) fn decode(text: &str) -> Result<Order, GitFailure> {
    let piped: PipedOrder =
        serde_json::from_str(text).map_err(|err| GitFailure::other(format!("cannot read the order: {err}")))?;
    Order::try_from(piped).map_err(|what| GitFailure::other(format!("cannot read the order: {what}")))
}

/// The answer to [`Order::Fetch`], as the child wrote it.
pub fn decode_fetched(answer: &[u8]) -> Result<Fetched, GitFailure> {
    let piped: PipedFetched = decode_answer(answer)?;
    let parts = (CommitId::parse(&piped.commit), piped.ref_name.as_deref().map(RefName::parse));
    let (Some(commit), None | Some(Some(_))) = parts else { return Err(no_answer("it names no commit")) };
    let facts = CommitFacts { subject: piped.subject, author: piped.author, author_email: piped.author_email };
    let ref_name = piped.ref_name.as_deref().and_then(RefName::parse);
    Ok(Fetched { commit, ref_name, facts, verdict: piped.verdict.into() })
}

/// The answer to [`Order::Stage`], as the child wrote it.
pub fn decode_staged(answer: &[u8]) -> Result<Staged, GitFailure> {
    let piped: PipedStaged = decode_answer(answer)?;
    Ok(Staged {
        previous: piped.previous.as_deref().and_then(CommitId::parse),
        patch_saved: piped.patch_saved,
        changed: piped.changed,
        commit_count: piped.commit_count,
    })
}

/// An answer, ready to be written.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) is_good: bool,
}

pub(super) fn encode_fetched(result: &Result<Fetched, GitFailure>) -> Answer {
    encode_answer(result.as_ref().map(|fetched| PipedFetched {
        commit: fetched.commit.to_string(),
        ref_name: fetched.ref_name.as_ref().map(RefName::full),
        subject: fetched.facts.subject.clone(),
        author: fetched.facts.author.clone(),
        author_email: fetched.facts.author_email.clone(),
        verdict: PipedVerdict::from(&fetched.verdict),
    }))
}

pub(super) fn encode_staged(result: &Result<Staged, GitFailure>) -> Answer {
    encode_answer(result.as_ref().map(|staged| PipedStaged {
        previous: staged.previous.as_ref().map(CommitId::to_string),
        patch_saved: staged.patch_saved,
        changed: staged.changed,
        commit_count: staged.commit_count,
    }))
}

pub(super) fn encode_failure(failure: &GitFailure) -> Answer {
    encode_answer::<()>(Err(failure))
}

fn encode_answer<T: Serialize>(result: Result<T, &GitFailure>) -> Answer {
    let is_good = result.is_ok();
    let piped = match result {
        Ok(value) => PipedAnswer::Done(value),
        Err(failure) => PipedAnswer::Failed { class: failure.class.into(), reason: failure.reason.clone() },
    };
    let mut text = serde_json::to_string(&piped).expect("an answer is strings and numbers");
    text.push('\n');
    Answer { text, is_good }
}

fn decode_answer<T: for<'a> Deserialize<'a>>(answer: &[u8]) -> Result<T, GitFailure> {
    if answer.is_empty() {
        return Err(no_answer("it was ended, or could not be started"));
    }
    match serde_json::from_slice(answer).map_err(|err| no_answer(&err.to_string()))? {
        PipedAnswer::Done(value) => Ok(value),
        PipedAnswer::Failed { class, reason } => Err(GitFailure { class: class.into(), reason }),
    }
}

fn no_answer(why: &str) -> GitFailure {
    GitFailure::other(format!("the git process gave no answer: {why}"))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PipedAnswer<T> {
    Done(T),
    Failed { class: PipedClass, reason: String },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PipedClass {
    Tempfail,
    Fetch,
    Other,
    Permanent,
}

impl From<FailureClass> for PipedClass {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Tempfail => Self::Tempfail,
            FailureClass::Fetch => Self::Fetch,
            FailureClass::Other => Self::Other,
            FailureClass::Permanent => Self::Permanent,
        }
    }
}

impl From<PipedClass> for FailureClass {
    fn from(class: PipedClass) -> Self {
        match class {
            PipedClass::Tempfail => Self::Tempfail,
            PipedClass::Fetch => Self::Fetch,
            PipedClass::Other => Self::Other,
            PipedClass::Permanent => Self::Permanent,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct PipedFetched {
    commit: String,
    ref_name: Option<String>,
    subject: String,
    author: String,
    author_email: String,
    verdict: PipedVerdict,
}

#[derive(Serialize, Deserialize)]
struct PipedStaged {
    previous: Option<String>,
    patch_saved: bool,
    changed: u64,
    commit_count: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PipedOrder {
    Fetch {
        mirror: PathBuf,
        remote: String,
        door: PipedDoor,
        target: PipedTarget,
        scope: PipedScope,
        against: PipedAgainst,
        silence_ms: u64,
    },
    Stage {
        mirror: PathBuf,
        remote: String,
        commit: String,
        place: PipedPlace,
        scope: PipedScope,
        previous: Option<String>,
        changed_files: PathBuf,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PipedDoor {
    Open,
    Token { username: String, token: String },
    SshKey { key: PathBuf, known_hosts: Option<PathBuf> },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PipedTarget {
    Commit { commit: String, ref_name: Option<String> },
    Ref(String),
    DefaultBranch,
    Nothing,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PipedPlace {
    Fresh { tree: PathBuf },
    InPlace { path: PathBuf, ref_name: Option<String>, dirty: String, clean: String, patch: PathBuf },
}

impl From<&Order> for PipedOrder {
    fn from(order: &Order) -> Self {
        match order {
            Order::Fetch(order) => Self::Fetch {
                mirror: order.mirror.clone(),
                remote: order.remote.clone(),
                door: match &order.door {
                    Door::Open => PipedDoor::Open,
                    Door::Token { username, token } => {
                        PipedDoor::Token { username: username.clone(), token: token.expose().to_owned() }
                    }
                    Door::SshKey { key, known_hosts } => {
                        PipedDoor::SshKey { key: key.clone(), known_hosts: known_hosts.clone() }
                    }
                },
                target: match &order.target {
                    Target::Commit { commit, ref_name } => PipedTarget::Commit {
                        commit: commit.to_string(),
                        ref_name: ref_name.as_ref().map(RefName::full),
                    },
                    Target::Ref(ref_name) => PipedTarget::Ref(ref_name.full()),
                    Target::DefaultBranch => PipedTarget::DefaultBranch,
                    Target::Release { .. } | Target::Standing => PipedTarget::Nothing,
                },
                scope: (&order.scope).into(),
                against: PipedAgainst::from(&order.against),
                silence_ms: u64::try_from(order.silence.as_millis()).unwrap_or(u64::MAX),
            },
            Order::Stage(order) => Self::Stage {
                mirror: order.mirror.clone(),
                remote: order.remote.clone(),
                commit: order.commit.to_string(),
                place: PipedPlace::from(&order.place),
                scope: (&order.scope).into(),
                previous: order.previous.as_ref().map(CommitId::to_string),
                changed_files: order.changed_files.clone(),
            },
        }
    }
}

impl From<&Place> for PipedPlace {
    fn from(place: &Place) -> Self {
        match place {
            Place::Fresh { tree } => Self::Fresh { tree: tree.clone() },
            Place::InPlace { path, ref_name, dirty, clean, patch } => Self::InPlace {
                path: path.clone(),
                ref_name: ref_name.as_ref().map(RefName::full),
                dirty: dirty.word().into(),
                clean: clean.word().into(),
                patch: patch.clone(),
            },
        }
    }
}

impl TryFrom<PipedOrder> for Order {
    type Error = String;

    fn try_from(piped: PipedOrder) -> Result<Self, String> {
        Ok(match piped {
            PipedOrder::Fetch { mirror, remote, door, target, scope, against, silence_ms } => {
                let target = match target {
                    PipedTarget::Commit { commit, ref_name } => Target::Commit {
                        commit: commit_id(&commit)?,
                        ref_name: ref_name.as_deref().map(full_ref).transpose()?,
                    },
                    PipedTarget::Ref(ref_name) => Target::Ref(full_ref(&ref_name)?),
                    PipedTarget::DefaultBranch => Target::DefaultBranch,
                    PipedTarget::Nothing => return Err("what stands already is not fetched".into()),
                };
                let door = match door {
                    PipedDoor::Open => Door::Open,
                    PipedDoor::Token { username, token } => {
                        Door::Token { username, token: Secret::new(token).ok_or("the token is empty")? }
                    }
                    PipedDoor::SshKey { key, known_hosts } => Door::SshKey { key, known_hosts },
                };
                let (scope, against) = (scope.try_into()?, against.try_into()?);
                let silence = Duration::from_millis(silence_ms);
                Self::Fetch(Fetch { mirror, remote, door, target, scope, against, silence })
            }
            PipedOrder::Stage { mirror, remote, commit, place, scope, previous, changed_files } => Self::Stage(Stage {
                mirror,
                remote,
                commit: commit_id(&commit)?,
                place: place.try_into()?,
                scope: scope.try_into()?,
                previous: previous.as_deref().map(commit_id).transpose()?,
                changed_files,
            }),
        })
    }
}

impl TryFrom<PipedPlace> for Place {
    type Error = String;

    fn try_from(piped: PipedPlace) -> Result<Self, String> {
        Ok(match piped {
            PipedPlace::Fresh { tree } => Self::Fresh { tree },
            PipedPlace::InPlace { path, ref_name, dirty, clean, patch } => Self::InPlace {
                path,
                ref_name: ref_name.as_deref().map(full_ref).transpose()?,
                dirty: word(&dirty, Dirty::parse)?,
                clean: word(&clean, Clean::parse)?,
                patch,
            },
        })
    }
}

pub(super) fn word<T>(text: &str, parse: fn(&str) -> Option<T>) -> Result<T, String> {
    parse(text).ok_or_else(|| format!("`{text}` is no word of ours"))
}

fn commit_id(text: &str) -> Result<CommitId, String> {
    CommitId::parse(text).ok_or_else(|| format!("`{text}` is not a commit id"))
}

fn full_ref(text: &str) -> Result<RefName, String> {
    RefName::parse(text).ok_or_else(|| format!("`{text}` is neither a branch nor a tag"))
}

#[cfg(test)]
mod tests {
    use super::{decode_fetched, encode_failure, encode_fetched};
    use crate::{
        git::{Fetched, GitFailure, Verdict},
        model::push::{CommitFacts, CommitId, RefName},
    };

    #[test]
    fn an_answer_comes_back_as_it_was_given_and_silence_is_a_failure() {
        let facts = CommitFacts { subject: "fix".into(), author: "Ana".into(), author_email: "ana@example.org".into() };
        let commit = CommitId::parse(&"a1".repeat(20)).expect("hex");
        let verdict = Verdict::GoAhead { remark: Some("a force push".into()) };
        let fetched = Fetched { commit, ref_name: Some(RefName::Tag("v1".into())), facts, verdict };
        assert_eq!(decode_fetched(encode_fetched(&Ok(fetched.clone())).text.as_bytes()), Ok(fetched));

        let failure = GitFailure::permanent("gone");
        assert_eq!(decode_fetched(encode_failure(&failure).text.as_bytes()), Err(failure));
        assert!(decode_fetched(b"").expect_err("silence").reason.contains("no answer"));
        assert!(decode_fetched(b"{").is_err());
    }
}
