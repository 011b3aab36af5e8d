//! Signed test deliveries, as each forge would send them.
//!
//! Invariant: what is made here passes the checks of this room because it is signed with the source's own secret.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;

use crate::model::{
    hook::Hook,
    push::{CommitId, RefName},
    secret::FoundSecret,
    source::{Forge, Proof, Source},
};

/// A request that is ready to be posted.
#[derive(Debug)]
pub struct Rehearsal {
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: String,
}

impl Rehearsal {
    /// A made-up push, signed.
    pub fn of_push(source: &Source, push: &PushBody, now: Timestamp) -> Self {
        Self::of_body(source, push.body.clone(), Some(push.event), now)
    }

    /// A given body under a given event's name (by default a push of a branch), signed.
    pub fn of_body(source: &Source, body: String, event: Option<&str>, now: Timestamp) -> Self {
        let id = format!("landfall-test-{}", now.as_nanosecond());
        let mut headers = vec![("content-type", "application/json".to_owned()), ("user-agent", "Landfall test".into())];
        match source.forge() {
            Forge::GitHub => {
                headers.push(("x-github-event", event.unwrap_or("push").to_owned()));
                headers.push(("x-github-delivery", id.clone()));
            }
            Forge::GitLab => {
                headers.push(("x-gitlab-event", event.unwrap_or("Push Hook").to_owned()));
                headers.push(("idempotency-key", id.clone()));
            }
        }
        headers.extend(proof(source, &id, now, body.as_bytes()));
        Self { headers, body }
    }
}

/// The body of a made-up push and the event's name that goes with it.
#[derive(Debug)]
pub struct PushBody {
    event: &'static str,
    body: String,
}

/// A push of `commit` to `ref_name` of the hook's repository, as its forge would tell it.
pub fn push_body(hook: &Hook, ref_name: &RefName, commit: &CommitId, now: Timestamp) -> PushBody {
    let repo = hook.repo.as_str();
    let (owner, name) = repo.rsplit_once('/').unwrap_or(("", repo));
    let none = "0".repeat(commit.as_str().len());
    let branch = match ref_name {
        RefName::Branch(branch) => branch.as_str(),
        RefName::Tag(_) => "main",
    };
    let message = "Test delivery made by landfall send";
    match hook.forge {
        Forge::GitHub => PushBody {
            event: "push",
            body: json!({
                "ref": ref_name.full(), "before": none, "after": commit.as_str(),
                "created": false, "deleted": false, "forced": false, "commits": [],
                "head_commit": {"id": commit.as_str(), "message": message, "author": {"name": "landfall", "email": ""}},
                "pusher": {"name": "landfall"}, "sender": {"login": "landfall"},
                "repository": {
                    "full_name": repo, "name": name, "default_branch": branch, "owner": {"login": owner},
                    "pushed_at": now.as_second(),
                },
                "landfall_test": now.to_string(),
            })
            .to_string(),
        },
        Forge::GitLab => PushBody {
            event: match ref_name {
                RefName::Branch(_) => "Push Hook",
                RefName::Tag(_) => "Tag Push Hook",
            },
            body: json!({
                "object_kind": match ref_name { RefName::Branch(_) => "push", RefName::Tag(_) => "tag_push" },
                "ref": ref_name.full(), "before": none, "after": commit.as_str(), "checkout_sha": commit.as_str(),
                "user_username": "landfall", "user_name": "landfall",
                "commits": [{"id": commit.as_str(), "message": message, "author": {"name": "landfall", "email": ""}}],
                "total_commits_count": 1,
                "project": {"path_with_namespace": repo, "default_branch": branch},
                "landfall_test": now.to_string(),
            })
            .to_string(),
        },
    }
}

/// The headers that prove the sender; the newest secret, the first of its list, is used.
fn proof(source: &Source, id: &str, now: Timestamp, body: &[u8]) -> Vec<(&'static str, String)> {
    let first = |secrets: &[FoundSecret]| secrets.first().map(|it| it.value.expose().to_owned()).unwrap_or_default();
    match &source.proof {
        Proof::GitHub { secrets } => {
            let signature = hmac(first(secrets).as_bytes(), &[body]);
            vec![("x-hub-signature-256", format!("sha256={}", hex::encode(signature)))]
        }
        Proof::GitLabToken { tokens } => vec![("x-gitlab-token", first(tokens))],
        Proof::GitLabSigned { signing_tokens, .. } => {
            let token = first(signing_tokens);
            let key = STANDARD.decode(token.trim_start_matches("whsec_")).unwrap_or_default();
            let time = now.as_second().to_string();
            let signature = hmac(&key, &[id.as_bytes(), b".", time.as_bytes(), b".", body]);
            vec![
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", time),
                ("webhook-signature", format!("v1,{}", STANDARD.encode(signature))),
            ]
        }
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}
