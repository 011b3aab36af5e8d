//! Who is believed, and who is not.

use super::{NOW, base64, github, gitlab, gitlab_signed, headers, hmac, prove};
use crate::forge::Unauthenticated;

const HELLO: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

#[test]
fn githubs_own_example_is_believed_in_any_case_of_its_digits() {
    let source = github(&["It's a Secret to Everybody"]);
    for signature in [HELLO.to_owned(), format!("sha256={}", HELLO[7..].to_uppercase())] {
        let proven = prove(&source, &headers(&[("X-Hub-Signature-256", &signature)]), b"Hello, World!").unwrap();
        assert_eq!(&proven.body()[..], b"Hello, World!");
    }
}

#[test]
fn a_signature_that_is_missing_empty_repeated_or_malformed_proves_nothing() {
    let source = github(&["It's a Secret to Everybody"]);
    let bad = |lines: &[(&str, &str)]| prove(&source, &headers(lines), b"Hello, World!").err();
    let name = "X-Hub-Signature-256";
    assert_eq!(bad(&[]), Some(Unauthenticated::Missing(name)));
    assert_eq!(bad(&[(name, HELLO), (name, HELLO)]), Some(Unauthenticated::Repeated(name)));
    let list = format!("{HELLO}, {HELLO}");
    for malformed in ["", "sha256=", &HELLO[7..], &HELLO[..70], "SHA256=00", &list, &HELLO.replace("256", "1")] {
        assert_eq!(bad(&[(name, malformed)]), Some(Unauthenticated::Malformed(name)), "{malformed}");
    }
    let sha1 = ("X-Hub-Signature", "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59");
    assert_eq!(bad(&[sha1]), Some(Unauthenticated::Missing(name)));
    let other = format!("sha256={}", hex::encode(hmac(b"other", &[b"Hello, World!"])));
    assert_eq!(bad(&[(name, &other)]), Some(Unauthenticated::WrongSecret(name)));
}

#[test]
fn one_changed_byte_of_the_body_undoes_the_proof() {
    let signature = format!("sha256={}", hex::encode(hmac(b"key", &[b"{}"])));
    assert!(prove(&github(&["key"]), &headers(&[("X-Hub-Signature-256", &signature)]), b"{} ").is_err());
}

#[test]
fn during_a_rotation_each_secret_is_believed_and_the_log_can_say_which() {
    let signature = format!("sha256={}", hex::encode(hmac(b"old", &[b"{}"])));
    let proven = prove(&github(&["new", "old"]), &headers(&[("X-Hub-Signature-256", &signature)]), b"{}").unwrap();
    assert_eq!(proven.fitted().to_string(), "environment variable `IS_old`");
    let proven = prove(&gitlab(&["new", "old"]), &headers(&[("X-Gitlab-Token", "old")]), b"{}").unwrap();
    assert_eq!(proven.fitted().to_string(), "environment variable `IS_old`");
    let nobody = Unauthenticated::WrongSecret("X-Hub-Signature-256");
    assert_eq!(prove(&github(&[]), &headers(&[("X-Hub-Signature-256", &signature)]), b"{}").err(), Some(nobody));
}

#[test]
fn a_token_is_believed_whole_and_alone() {
    let source = gitlab(&["tok\nen"]);
    let name = "X-Gitlab-Token";
    assert!(prove(&source, &headers(&[(name, "token")]), b"{}").is_ok(), "GitLab strips line breaks");
    for bad in [&[][..], &[(name, "")], &[(name, "toke")], &[(name, "Token")], &[(name, "token"), (name, "token")]] {
        assert!(prove(&source, &headers(bad), b"{}").is_err(), "{bad:?}");
    }
}

const KEY: &str = "whsec_a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5";

fn sign(id: &str, time: &str, body: &[u8]) -> String {
    let key = b"keykeykeykeykeykeykeykey";
    format!("v1,{}", base64(&hmac(key, &[id.as_bytes(), b".", time.as_bytes(), b".", body])))
}

fn signed(id: &str, time: &str, signature: &str) -> Result<(), Unauthenticated> {
    let lines = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)];
    prove(&gitlab_signed(&[KEY], &[]), &headers(&lines), b"{}").map(drop)
}

#[test]
fn a_signing_tokens_signature_is_believed_within_300_seconds_both_ways() {
    for (age, is_believed) in [(0, true), (300, true), (-300, true), (301, false), (-301, false)] {
        let time = (NOW - age).to_string();
        assert_eq!(signed("id-1", &time, &sign("id-1", &time, b"{}")).is_ok(), is_believed, "{age}");
    }
}

#[test]
fn of_a_list_of_signatures_one_of_version_1_must_fit() {
    let now = NOW.to_string();
    let good = sign("id-1", &now, b"{}");
    let wrong = sign("id-2", &now, b"{}");
    for list in [format!("{wrong} {good}"), format!("v1a,AAAA {good} v2,x"), format!("{good}  ")] {
        assert_eq!(signed("id-1", &now, &list), Ok(()), "{list}");
    }
    for list in [wrong, good.replace("v1,", "v2,"), good.replace("v1,", ""), format!("{good},{good}"), "v1,".into()] {
        assert!(signed("id-1", &now, &list).is_err(), "{list}");
    }
}

#[test]
fn a_time_is_digits_only_and_never_overflows() {
    let now = NOW.to_string();
    for bad in ["", " ", "+1700000000", "-9223372036854775808", "1700000000.0", "99999999999999999999", "1e9", "١٧"] {
        let time = bad.trim();
        assert!(signed("id-1", time, &sign("id-1", time, b"{}")).is_err(), "{bad}");
    }
    assert_eq!(signed("id-1", "9223372036854775807", &sign("id-1", &now, b"{}")), Err(Unauthenticated::OutOfTime));
}

#[test]
fn id_and_time_are_part_of_what_is_signed() {
    let now = NOW.to_string();
    let later = (NOW + 1).to_string();
    let good = sign("id-1", &now, b"{}");
    assert_eq!(signed("id-1", &now, &good), Ok(()));
    assert!(signed("id-2", &now, &good).is_err());
    assert!(signed("id-1", &later, &good).is_err());
    assert!(signed(&format!("id-1.{now}"), &now, &sign(&format!("id-1.{now}"), &now, b"{}")).is_err());
    let lines = [("webhook-id", "id-1"), ("webhook-timestamp", &now), ("webhook-signature", &good)];
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let without: Vec<_> = lines.into_iter().filter(|(it, _)| *it != name).collect();
        assert!(prove(&gitlab_signed(&[KEY], &[]), &headers(&without), b"{}").is_err(), "without {name}");
        let twice: Vec<_> = lines.into_iter().chain(lines.into_iter().filter(|(it, _)| *it == name)).collect();
        assert!(prove(&gitlab_signed(&[KEY], &["token"]), &headers(&twice), b"{}").is_err(), "twice {name}");
    }
}

#[test]
fn a_signing_token_without_a_key_is_never_believed() {
    let now = NOW.to_string();
    for token in ["whsec_", "whsec_!", "whsec_a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V", "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5"] {
        let forged = format!("v1,{}", base64(&hmac(b"", &[b"id-1.", now.as_bytes(), b".{}"])));
        let lines = [("webhook-id", "id-1"), ("webhook-timestamp", &now), ("webhook-signature", &forged)];
        assert!(prove(&gitlab_signed(&[token], &[]), &headers(&lines), b"{}").is_err(), "{token}");
    }
}

#[test]
fn the_plain_token_is_enough_only_while_the_operator_says_so_and_no_signature_is_there() {
    let token = ("X-Gitlab-Token", "token");
    assert!(prove(&gitlab_signed(&[KEY], &[]), &headers(&[token]), b"{}").is_err());
    let moving = gitlab_signed(&[KEY], &["token"]);
    assert!(prove(&moving, &headers(&[token]), b"{}").is_ok());
    assert!(prove(&moving, &headers(&[("X-Gitlab-Token", "wrong")]), b"{}").is_err());
    for signature in ["", "v1,AAAA", "v2,x"] {
        assert!(prove(&moving, &headers(&[token, ("webhook-signature", signature)]), b"{}").is_err(), "{signature}");
    }
}
