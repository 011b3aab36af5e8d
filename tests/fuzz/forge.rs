//! Proofs and payloads: whatever the bytes, only the right proof passes, and a push is what the body says.
//!
//! An input is a request: its first line says how the sender proves itself, then come headers, an empty line, the body.
//!
//! Invariant: the proof is worked out here a second time, from the documents of the forges.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use jiff::Timestamp;
use landfall::{
    forge::{Admitted, Check, Envelope, Proven, Rejection, admit},
    model::{
        name::HookName,
        push::{Push, RefChange},
        secret::{FoundSecret, Secret, SecretRef},
        source::{Proof, Source, SourcePath},
        text,
    },
};
use serde_json::Value;
use sha2::Sha256;

use crate::play::{Shape, Target, outline, play, shape};

const NOW: i64 = 1_700_000_000;
const KEY: &str = "correct horse";
const OLD_KEY: &str = "battery staple";
/// `whsec_` and the base64 of [`KEY`].
const SIGNING_TOKEN: &str = "whsec_Y29ycmVjdCBob3JzZQ==";

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    parts.iter().for_each(|it| mac.update(it));
    mac.finalize().into_bytes().to_vec()
}

fn found(values: &[&str]) -> Vec<FoundSecret> {
    let one = |it: &&str| FoundSecret {
        origin: SecretRef::Env("KEY".into()),
        value: Secret::new((*it).into()).expect("a value"),
    };
    values.iter().map(one).collect()
}

fn source(kind: &[u8]) -> Option<Source> {
    let proof = match kind {
        b"github" => Proof::GitHub { secrets: found(&[KEY, OLD_KEY]) },
        b"token" => Proof::GitLabToken { tokens: found(&[KEY, OLD_KEY]) },
        b"signed" => Proof::GitLabSigned { signing_tokens: found(&[SIGNING_TOKEN]), tokens: Vec::new() },
        b"either" => Proof::GitLabSigned { signing_tokens: found(&[SIGNING_TOKEN]), tokens: found(&[OLD_KEY]) },
        _ => return None,
    };
    Some(Source { path: SourcePath::Hook(HookName::parse("site").expect("a name")), proof, allow_from: Vec::new() })
}

/// A request taken apart; `None`: no HTTP library would hand it on.
fn request(input: &[u8]) -> Option<(&[u8], HeaderMap, &[u8])> {
    let (kind, mut rest) = split(input, b"\n")?;
    let mut headers = HeaderMap::new();
    loop {
        let (line, after) = split(rest, b"\n")?;
        rest = after;
        if line.is_empty() {
            return Some((kind, headers, rest));
        }
        let (name, value) = split(line, b": ")?;
        headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
}

fn split<'a>(text: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(by.len()).position(|it| it == by)?;
    Some((&text[..at], &text[at + by.len()..]))
}

fn prove(source: &Source, headers: &HeaderMap, body: &[u8], cut: usize) -> Result<Proven, String> {
    let now = Timestamp::from_second(NOW).expect("in range");
    let mut check = Check::begin(source, headers, now).map_err(|err| err.to_string())?;
    let (first, second) = body.split_at(cut.min(body.len()));
    check.update(first);
    check.update(second);
    check.finish().map_err(|err| err.to_string())
}

/// Whether the request proves its sender, by the documents of the forges.
fn is_proof(kind: &[u8], headers: &HeaderMap, body: &[u8]) -> bool {
    let only = |name: &str| {
        let mut values = headers.get_all(name).into_iter();
        values.next().filter(|_| values.next().is_none()).map(|it| it.as_bytes().to_vec())
    };
    let is_token = |keys: &[&str]| only("x-gitlab-token").is_some_and(|it| keys.iter().any(|key| key.as_bytes() == it));
    let is_signed = || {
        let (id, time) = (only("webhook-id")?, only("webhook-timestamp")?);
        let seconds: i128 = std::str::from_utf8(&time).ok().filter(|it| !it.starts_with('+'))?.parse().ok()?;
        let is_fresh = (seconds - i128::from(NOW)).abs() <= 300 && !id.contains(&b'.') && !id.is_empty();
        let expected = format!("v1,{}", STANDARD.encode(hmac(KEY.as_bytes(), &[&id, b".", &time, b".", body])));
        let list = only("webhook-signature")?;
        Some(is_fresh && list.split(|it| *it == b' ').any(|it| it == expected.as_bytes()))
    };
    match kind {
        b"github" => only("x-hub-signature-256").is_some_and(|shown| {
            let is_of = |key: &&str| {
                let expected = format!("sha256={}", hex::encode(hmac(key.as_bytes(), &[body])));
                shown.len() == expected.len() && shown[7..].eq_ignore_ascii_case(&expected.as_bytes()[7..])
            };
            shown.starts_with(b"sha256=") && [KEY, OLD_KEY].iter().any(is_of)
        }),
        b"token" => is_token(&[KEY, OLD_KEY]),
        b"either" if !headers.contains_key("webhook-signature") => is_token(&[OLD_KEY]),
        _ => is_signed().unwrap_or(false),
    }
}

fn judge_proof(input: &[u8], _: &Path) -> Result<Shape, String> {
    let Some((kind, headers, body)) = request(input) else { return Ok(0) };
    let Some(source) = source(kind) else { return Ok(0) };
    let expected = is_proof(kind, &headers, body);
    for cut in [0, body.len() / 2, body.len()] {
        let proven = prove(&source, &headers, body, cut);
        if proven.is_ok() != expected {
            return Err(format!("{:?}, and right would have been {expected}", proven.map(|_| ())));
        }
        if proven.as_ref().is_ok_and(|it| it.body() != body) {
            return Err("the proven body is another".into());
        }
    }
    Ok(shape((kind, prove(&source, &headers, body, 0).map(|_| ()))))
}

fn signed(kind: &str, body: &[u8]) -> Vec<u8> {
    let headers = match kind {
        "github" => format!("x-hub-signature-256: sha256={}\n", hex::encode(hmac(KEY.as_bytes(), &[body]))),
        "token" => format!("x-gitlab-token: {KEY}\n"),
        _ => {
            let signature = STANDARD.encode(hmac(KEY.as_bytes(), &[b"id-7.", NOW.to_string().as_bytes(), b".", body]));
            format!("webhook-id: id-7\nwebhook-timestamp: {NOW}\nwebhook-signature: v0,x v1,{signature}\n")
        }
    };
    [format!("{kind}\n{headers}\n").as_bytes(), body].concat()
}

#[test]
fn whatever_is_sent_only_the_right_proof_of_the_very_body_passes() {
    let mut samples: Vec<Vec<u8>> =
        ["github", "token", "signed", "either"].iter().map(|it| signed(it, b"{\"a\": 1}")).collect();
    samples.push([b"either\nx-gitlab-token: battery staple\n\n".as_slice(), b"{}"].concat());
    play(Target {
        name: "proofs",
        samples,
        words: &[
            b"x-gitlab-token: correct horse\n",
            b"sha256=",
            b"v1,",
            b" ",
            b".",
            b"webhook-signature: ",
            b"+",
            b"\n",
        ],
        inputs: 20_000,
        judge: judge_proof,
    });
}

type Judged = (Envelope, Result<Admitted, Rejection>, Vec<u8>, bool);

/// Admits a body that is signed here, under the event and the media type of the first two lines.
fn admitted(input: &[u8]) -> Option<Judged> {
    let (kind, rest) = split(input, b"\n")?;
    let (event, rest) = split(rest, b"\n")?;
    let (media, body) = split(rest, b"\n")?;
    let (source, mut headers) = (source(kind)?, HeaderMap::new());
    let request = signed(std::str::from_utf8(kind).ok()?, body);
    headers.extend(self::request(&request)?.1);
    let name = if kind == b"github" { "x-github-event" } else { "x-gitlab-event" };
    headers.insert(name, HeaderValue::from_bytes(event).ok()?);
    headers.insert("x-github-delivery", HeaderValue::from_static("7"));
    headers.insert("content-type", HeaderValue::from_bytes(media).ok()?);
    let proven = prove(&source, &headers, body, 0).expect("it is signed");
    let (envelope, verdict) = admit(&proven, &headers);
    Some((envelope, verdict, body.to_vec(), media == b"application/json"))
}

fn judge_payload(input: &[u8], _: &Path) -> Result<Shape, String> {
    let Some((envelope, verdict, body, is_json)) = admitted(input) else { return Ok(0) };
    let again = admitted(input).map(|it| format!("{:?}", it.1));
    if again != Some(format!("{verdict:?}")) {
        return Err("twice the same, and two verdicts".into());
    }
    if let Some(event) = &envelope.event
        && event.chars().any(text::acts)
    {
        return Err(format!("{event:?} is no name of an event"));
    }
    match verdict {
        Ok(Admitted::Push(verified)) => {
            let push = verified.push();
            if is_json {
                agrees(push, &body)?;
            }
            is_harmless(push)?;
            Ok(shape(("push", push.head.is_some(), push.actor.is_empty(), push.ref_name.full().len() > 40)))
        }
        Ok(Admitted::Ping(_)) => Ok(shape("ping")),
        Ok(Admitted::Other { reason }) => Ok(shape(("other", outline(&reason)))),
        Err(rejection) => Ok(shape((rejection.word(), outline(&rejection.to_string())))),
    }
}

/// What was admitted stands in the body, as another reader of JSON has it.
fn agrees(push: &Push, body: &[u8]) -> Result<(), String> {
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        // Half a character, which JSON can write and no text holds, may stand in what nobody reads.
        Err(err) if err.to_string().contains("hex escape") || err.to_string().contains("surrogate") => return Ok(()),
        Err(err) => return Err(format!("a push that is no JSON: {err}")),
    };
    let full = push.ref_name.full();
    if value["ref"] != full.as_str() {
        return Err(format!("the ref is {}, and {full} was admitted", value["ref"]));
    }
    let RefChange::Moved(commit) = &push.change else { return Ok(()) };
    let named = [&value["after"], &value["checkout_sha"], &value["head_commit"]["id"]];
    match named.iter().any(|it| it.as_str().is_some_and(|it| it.eq_ignore_ascii_case(commit.as_str()))) {
        true => Ok(()),
        false => Err(format!("{commit} is named nowhere in the body")),
    }
}

/// What goes into letters and onto pages has nothing that acts.
fn is_harmless(push: &Push) -> Result<(), String> {
    let head = push.head.as_ref();
    let texts = [
        Some(push.actor.clone()),
        push.compare_url.clone(),
        push.default_branch.clone(),
        head.map(|it| it.subject.clone()),
        head.map(|it| it.author.clone()),
        head.map(|it| it.author_email.clone()),
    ];
    match texts.into_iter().flatten().find(|it| it.chars().any(char::is_control) || it.len() > 8192) {
        Some(text) => Err(format!("{text:?} came through")),
        None => Ok(()),
    }
}

/// Recorded bodies, as each forge would send them.
fn recorded() -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    for (kind, folder) in [("github", "github"), ("token", "gitlab")] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deliveries").join(folder);
        for entry in std::fs::read_dir(folder).expect("recorded deliveries") {
            let path = entry.expect("an entry").path();
            let body = std::fs::read(&path).expect("a body");
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            let event = match (kind, name) {
                ("github", name) if name.contains("push") => "push",
                ("github", name) if name.contains("ping") => "ping",
                ("github", _) => "create",
                (_, name) if name.contains("system") => "System Hook",
                (_, name) if name.contains("tag") => "Tag Push Hook",
                (_, name) if name.contains("issue") => "Issue Hook",
                (_, _) => "Push Hook",
            };
            samples.push([format!("{kind}\n{event}\napplication/json\n").as_bytes(), &body].concat());
            if kind == "github" {
                let form: String = url::form_urlencoded::byte_serialize(&body).collect();
                let head = format!("{kind}\n{event}\napplication/x-www-form-urlencoded\npayload={form}");
                samples.push(head.into_bytes());
            }
        }
    }
    // The order of a folder is not the same everywhere.
    samples.sort();
    samples
}

#[test]
fn whatever_a_proven_sender_says_a_push_is_what_its_body_says_and_harmless() {
    play(Target {
        name: "payloads",
        samples: recorded(),
        words: &[
            b"\"ref\":\"refs/heads/main\",",
            b"refs/tags/",
            b"refs/heads/",
            b"0000000000000000000000000000000000000000",
            b"null",
            b"{}",
            b"[]",
            b"\\u0000",
            b"\\u202e",
            b"\\ud800",
            b"\\n",
            b"\"deleted\":true,",
            b"\"after\":",
            b"payload=",
            b"%00",
            b"&",
            b"..",
            b".lock",
            b"@{",
        ],
        inputs: 3_000,
        judge: judge_payload,
    });
}
