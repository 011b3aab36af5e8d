//! What a keeper is told about its run: `spec.json`, written by `work` before the keeper starts.
//!
//! Invariant: a spec says where secrets are, never what they are, and never changes once it is written.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    journal::{Unreadable, job},
    model::{
        job::Job,
        push::{CommitId, RefName},
        run::RunId,
    },
};

/// Raised when a reader of the old form would misunderstand the new one.
const VERSION: u32 = 1;

/// What a keeper is told about its run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The run.
    pub run: RunId,
    /// The word by which processes of this run are found again.
    pub token: RunToken,
    /// What is to be done.
    pub job: Job,
    /// The daemon's state folder; absolute.
    pub state: PathBuf,
    /// A page that shows the run.
    pub run_url: String,
    /// What was live when the run was claimed.
    pub live: Option<CommitId>,
    /// The ref that it came from; `None`: that is not known.
    pub live_ref: Option<RefName>,
    /// Whether a run since then may have changed what it deploys to, and did not succeed.
    pub is_disturbed: bool,
    /// Whether the folder holds the body of a delivery.
    pub has_payload: bool,
}

/// A word that stands in the environment of every process of one run and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunToken(String);

impl RunToken {
    /// The environment variable that carries it.
    pub const VARIABLE: &'static str = "LANDFALL_RUN_TOKEN";

    /// A word nobody can guess; the error is the operating system's.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// The word, if it is one: 32 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let is_token = text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit());
        is_token.then(|| Self(text.to_owned()))
    }

    /// The word as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A spec as JSON.
pub fn encode(spec: &Spec) -> String {
    let job = serde_json::from_str(&job::encode(&spec.job)).expect("an encoded job is JSON");
    let stored = Stored {
        version: VERSION,
        run: spec.run.0,
        token: spec.token.as_str().into(),
        job,
        state: spec.state.clone(),
        run_url: spec.run_url.clone(),
        live: spec.live.as_ref().map(CommitId::to_string),
        live_ref: spec.live_ref.as_ref().map(RefName::full),
        is_disturbed: spec.is_disturbed,
        has_payload: spec.has_payload,
    };
    serde_json::to_string_pretty(&stored).expect("a spec is strings and numbers")
}

/// The spec that [`encode`] wrote.
pub fn decode(text: &str) -> Result<Spec, Unreadable> {
    let damaged = |why: &dyn std::fmt::Display| Unreadable::new("spec", why);
    let version = serde_json::from_str::<Version>(text).map_err(|err| damaged(&err))?.version;
    if version > VERSION {
        return Err(Unreadable::Newer { what: "spec", version, known: VERSION });
    }
    let stored: Stored = serde_json::from_str(text).map_err(|err| damaged(&err))?;
    let live = match stored.live {
        None => None,
        Some(text) => Some(CommitId::parse(&text).ok_or_else(|| damaged(&format!("`{text}` is not a commit")))?),
    };
    Ok(Spec {
        run: RunId(stored.run),
        token: RunToken::parse(&stored.token).ok_or_else(|| damaged(&"its token is not 32 hex digits"))?,
        job: job::decode(&stored.job.to_string())?,
        state: stored.state,
        run_url: stored.run_url,
        live,
        live_ref: stored.live_ref.as_deref().and_then(RefName::parse),
        is_disturbed: stored.is_disturbed,
        has_payload: stored.has_payload,
    })
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    run: i64,
    token: String,
    job: Value,
    state: PathBuf,
    run_url: String,
    live: Option<String>,
    /// Missing in what an earlier release wrote.
    #[serde(default)]
    live_ref: Option<String>,
    is_disturbed: bool,
    has_payload: bool,
}

#[cfg(test)]
mod tests {
    use super::{RunToken, decode};
    use crate::journal::Unreadable;

    #[test]
    fn a_spec_of_a_newer_version_is_refused_as_such() {
        let err = decode(r#"{"version": 99, "shape": "unknown"}"#).expect_err("newer");
        assert!(matches!(err, Unreadable::Newer { version: 99, .. }), "{err}");
    }

    #[test]
    fn two_tokens_are_never_the_same() {
        let (one, other) = (RunToken::random().expect("random"), RunToken::random().expect("random"));
        assert_ne!(one, other);
        assert_eq!(RunToken::parse(one.as_str()), Some(one));
    }
}
