//! Recorded deliveries, signed with the keys of the world's hooks.yaml.
//!
//! Invariant: every delivery made here is genuine; a test that wants another changes it afterwards.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::Value;
use sha2::Sha256;

use super::sender::Request;

pub const GITHUB_PUSH: &str = include_str!("../../deliveries/github/scm.push.json");
pub const GITHUB_BRANCH_GONE: &str = include_str!("../../deliveries/github/scm.push_branch_delete.json");
pub const GITHUB_PING: &str = include_str!("../../deliveries/github/oct.ping.json");
pub const GITLAB_TAG: &str = include_str!("../../deliveries/gitlab/scm.tag_create.json");
pub const GITLAB_BRANCH_GONE: &str = include_str!("../../deliveries/gitlab/scm.branch_delete.json");

pub fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    parts.iter().for_each(|it| mac.update(it));
    mac.finalize().into_bytes().to_vec()
}

/// GitHub posts a body to `/hooks/site`.
pub fn github(event: &str, id: &str, body: &[u8]) -> Request {
    github_with("site-secret", event, id, body)
}

/// The same, with another key.
pub fn github_with(secret: &str, event: &str, id: &str, body: &[u8]) -> Request {
    let signature = format!("sha256={}", hex::encode(hmac(secret.as_bytes(), &[body])));
    Request::post("/hooks/site", body)
        .with("Content-Type", "application/json")
        .with("User-Agent", "GitHub-Hookshot/044aadd")
        .with("X-GitHub-Event", event)
        .with("X-GitHub-Delivery", id)
        .with("X-Hub-Signature-256", &signature)
}

/// GitHub's push of `master` to this commit, of which every number makes another.
pub fn github_push(number: usize) -> Vec<u8> {
    let mut body: Value = serde_json::from_str(GITHUB_PUSH).expect("JSON");
    let commit = format!("c0ffee{number:034x}");
    body["after"] = commit.clone().into();
    body["head_commit"]["id"] = commit.into();
    serde_json::to_vec(&body).expect("JSON")
}

/// GitLab posts a body with the secret token to `/hooks/lab`.
pub fn gitlab(event: &str, key: Option<&str>, body: &[u8]) -> Request {
    let request = Request::post("/hooks/lab", body)
        .with("Content-Type", "application/json")
        .with("X-Gitlab-Event", event)
        .with("X-Gitlab-Token", "lab-token-of-many-bytes");
    match key {
        Some(key) => request.with("Idempotency-Key", key),
        None => request,
    }
}

/// GitLab posts a body with a signature made at that time to `/hooks/lab`.
pub fn gitlab_signed(event: &str, id: &str, at: Timestamp, body: &[u8]) -> Request {
    let time = at.as_second().to_string();
    let signature = hmac(b"keykeykeykeykeykeykeykey", &[id.as_bytes(), b".", time.as_bytes(), b".", body]);
    Request::post("/hooks/lab", body)
        .with("Content-Type", "application/json")
        .with("X-Gitlab-Event", event)
        .with("webhook-id", id)
        .with("webhook-timestamp", &time)
        .with("webhook-signature", &format!("v1,{}", STANDARD.encode(signature)))
}
