//! What a forge, or a thief of its secret, may send without doing harm.

use std::time::{Duration, Instant};

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use proptest::prelude::*;

use super::{github, github_says, gitlab, gitlab_says, gitlab_signed, hmac, prove, refusal};
use crate::forge::{Admitted, admit};

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let names = prop::sample::select(vec![
        "x-hub-signature-256",
        "x-github-event",
        "x-github-delivery",
        "x-gitlab-token",
        "x-gitlab-event",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "idempotency-key",
        "content-type",
        "content-encoding",
    ]);
    let values = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "(v1,|sha256=|whsec_)?[0-9a-zA-Z+/=, .;-]{0,80}".prop_map(String::into_bytes),
        Just(b"push".to_vec()),
        Just(b"Push Hook".to_vec()),
        Just(b"application/json".to_vec()),
        Just(b"application/x-www-form-urlencoded".to_vec()),
    ];
    prop::collection::vec((names, values), 0..16).prop_map(|lines| {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.append(HeaderName::from_static(name), value);
            }
        }
        map
    })
}

fn any_json() -> impl Strategy<Value = String> {
    let key =
        || prop::sample::select(vec!["ref", "before", "after", "repository", "project", "commits", "head_commit"]);
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("\"refs/heads/main\"".to_owned()),
        Just(format!("\"{}\"", "a".repeat(40))),
        any::<f64>().prop_map(|it| it.to_string()),
        any::<String>().prop_map(|it| serde_json::Value::from(it).to_string()),
    ];
    let value = leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(|it| format!("[{}]", it.join(","))),
            prop::collection::vec((key(), inner), 0..8).prop_map(|it| {
                let entries: Vec<_> = it.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    });
    prop_oneof![value, any::<String>()]
}

proptest! {
    #[test]
    fn no_headers_and_no_body_make_it_panic_or_believe(
        headers in any_headers(), body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let key = "whsec_a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5";
        for source in [github(&["key"]), gitlab(&["a token nobody guesses"]), gitlab_signed(&[key], &["another one"])] {
            prop_assert!(prove(&source, &headers, &body).is_err());
        }
    }

    #[test]
    fn a_proven_sender_can_say_anything_without_a_panic(mut headers in any_headers(), body in any_json()) {
        let signature = format!("sha256={}", hex::encode(hmac(b"key", &[body.as_bytes()])));
        headers.insert("x-hub-signature-256", signature.parse().expect("a header value"));
        headers.insert("x-gitlab-token", "token".parse().expect("a header value"));
        for source in [github(&["key"]), gitlab(&["token"])] {
            let proven = prove(&source, &headers, body.as_bytes()).expect("the sender is genuine");
            if let (_, Ok(Admitted::Push(push))) = admit(&proven, &headers) {
                prop_assert!(!push.push().actor.contains(char::is_control));
            }
        }
        for event in ["push", "ping"] {
            github_says(event, body.as_bytes()).ok();
        }
        gitlab_says("Push Hook", body.as_bytes()).ok();
    }
}

#[test]
fn depth_and_length_cost_no_more_than_their_bytes() {
    let begin = Instant::now();
    for key in ["zzz", "ref", "commits", "head_commit", "repository"] {
        let deep = format!("{{\"{key}\": {}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(refusal(github_says("push", deep.as_bytes())), "bad_payload", "{key}");
    }
    let many = format!("{{\"commits\": [{}null]}}", "{},".repeat(1_000_000));
    assert_eq!(refusal(github_says("push", many.as_bytes())), "bad_payload");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}
