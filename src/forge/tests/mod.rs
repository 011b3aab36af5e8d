//! What the forge room promises, with recorded bodies.
//!
//! Invariant: here alone stands how a source, its headers and a signature are made; the promises state only what goes
//! in and what comes out.

mod github;
mod gitlab;
mod hostile;
mod proofs;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use hyper::{HeaderMap, header::HeaderName, header::HeaderValue};
use jiff::Timestamp;
use serde_json::Value;
use sha2::Sha256;

use crate::{
    forge::{Admitted, Check, Envelope, Proven, Rejection, Unauthenticated, admit},
    model::{
        name::HookName,
        push::Push,
        secret::{FoundSecret, Secret, SecretRef},
        source::{Proof, Source, SourcePath},
    },
};

const NOW: i64 = 1_700_000_000;

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|it| mac.update(it));
    mac.finalize().into_bytes().to_vec()
}

fn found(value: &str) -> FoundSecret {
    FoundSecret { origin: SecretRef::Env(format!("IS_{value}")), value: Secret::new(value.into()).unwrap() }
}

fn source(proof: Proof) -> Source {
    Source { path: SourcePath::Hook(HookName::parse("site").unwrap()), proof, allow_from: Vec::new() }
}

fn github(secrets: &[&str]) -> Source {
    source(Proof::GitHub { secrets: secrets.iter().map(|it| found(it)).collect() })
}

fn gitlab(tokens: &[&str]) -> Source {
    source(Proof::GitLabToken { tokens: tokens.iter().map(|it| found(it)).collect() })
}

fn gitlab_signed(signing_tokens: &[&str], tokens: &[&str]) -> Source {
    source(Proof::GitLabSigned {
        signing_tokens: signing_tokens.iter().map(|it| found(it)).collect(),
        tokens: tokens.iter().map(|it| found(it)).collect(),
    })
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// Streams the body in two pieces through a check.
fn prove(source: &Source, headers: &HeaderMap, body: &[u8]) -> Result<Proven, Unauthenticated> {
    let mut check = Check::begin(source, headers, Timestamp::from_second(NOW).unwrap())?;
    let (first, second) = body.split_at(body.len() / 2);
    check.update(first);
    check.update(second);
    check.finish()
}

/// A genuine delivery of GitHub, with one more header or another value of one.
fn from_github(event: &str, body: &[u8], content_type: &str) -> (Envelope, Result<Admitted, Rejection>) {
    let signature = format!("sha256={}", hex::encode(hmac(b"key", &[body])));
    let headers = headers(&[
        ("X-GitHub-Event", event),
        ("X-GitHub-Delivery", "guid-1"),
        ("Content-Type", content_type),
        ("X-Hub-Signature-256", &signature),
    ]);
    admit(&prove(&github(&["key"]), &headers, body).unwrap(), &headers)
}

fn github_says(event: &str, body: &[u8]) -> Result<Admitted, Rejection> {
    from_github(event, body, "application/json").1
}

fn gitlab_says(event: &str, body: &[u8]) -> Result<Admitted, Rejection> {
    let headers = headers(&[("X-Gitlab-Event", event), ("X-Gitlab-Token", "token")]);
    admit(&prove(&gitlab(&["token"]), &headers, body).unwrap(), &headers).1
}

fn push(verdict: Result<Admitted, Rejection>) -> Push {
    match verdict {
        Ok(Admitted::Push(push)) => push.push().clone(),
        other => panic!("not a push: {other:?}"),
    }
}

fn refusal(verdict: Result<Admitted, Rejection>) -> &'static str {
    match verdict {
        Ok(Admitted::Push(_)) => "push",
        Ok(Admitted::Ping(_)) => "ping",
        Ok(Admitted::Other { .. }) => "other",
        Err(rejection) => rejection.word(),
    }
}

/// The body with the value at a JSON pointer replaced; `None` takes the key away.
fn edit(body: &str, changes: &[(&str, Option<Value>)]) -> Vec<u8> {
    let mut json: Value = serde_json::from_str(body).unwrap();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => parent.insert(key.to_owned(), value.clone()),
            None => parent.remove(key),
        };
    }
    serde_json::to_vec(&json).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
