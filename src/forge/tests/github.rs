//! What GitHub's bodies mean.

use serde_json::{Value, json};

use super::{edit, from_github, github, github_says, headers, hmac, prove, push, refusal};
use crate::{
    forge::{DedupeKey, admit},
    model::push::{RefChange, RefName, RepoName},
};

const PUSH: &str = include_str!("../../../tests/deliveries/github/scm.push.json");
const NEW_BRANCH: &str = include_str!("../../../tests/deliveries/github/oct.push.with-new-branch.json");
const NO_COMMITS: &str = include_str!("../../../tests/deliveries/github/scm.push_branch_create.json");
const BRANCH_GONE: &str = include_str!("../../../tests/deliveries/github/scm.push_branch_delete.json");
const TAG: &str = include_str!("../../../tests/deliveries/github/scm.push_tag.json");
const TAG_GONE: &str = include_str!("../../../tests/deliveries/github/oct.push.json");
const PING: &str = include_str!("../../../tests/deliveries/github/oct.ping.json");
const ORGANISATION_PING: &str = include_str!("../../../tests/deliveries/github/gp.ping.json");
const CREATE: &str = include_str!("../../../tests/deliveries/github/oct.create.json");
const COMMENT: &str = include_str!("../../../tests/deliveries/github/oct.issue_comment.created.json");

fn moved(commit: &str) -> RefChange {
    RefChange::Moved(crate::model::push::CommitId::parse(commit).unwrap())
}

#[test]
fn a_push_says_what_moved_where_and_who_did_it() {
    let push = push(github_says("push", PUSH.as_bytes()));
    assert_eq!(push.repo, RepoName::parse("codertocat/hello-world").unwrap());
    assert_eq!(push.ref_name, RefName::Branch("master".into()));
    assert_eq!(push.change, moved("199eddf46df50de8d02e99bf1c5fdb4101338224"));
    assert_eq!(push.before.unwrap().as_str(), "a10867b14bb761a232cd80139fbd4c0d33264240");
    assert_eq!(push.default_branch.as_deref(), Some("master"));
    assert_eq!(push.actor, "Codertocat");
    assert_eq!(push.commit_count, Some(1));
    let head = push.head.unwrap();
    assert_eq!((head.subject.as_str(), head.author.as_str()), ("Update README", "Codertocat"));
    assert!(push.compare_url.unwrap().starts_with("https://github.com/Codertocat/Hello-World/compare/"));
}

#[test]
fn a_new_branch_is_a_push_with_and_without_commits() {
    for body in [NEW_BRANCH, NO_COMMITS] {
        let push = push(github_says("push", body.as_bytes()));
        assert_eq!(push.before, None);
        assert!(matches!(push.change, RefChange::Moved(_)));
    }
}

#[test]
fn a_deleted_branch_or_tag_is_gone() {
    for body in [BRANCH_GONE, TAG_GONE] {
        assert_eq!(push(github_says("push", body.as_bytes())).change, RefChange::Deleted);
    }
    let contradiction = edit(PUSH, &[("/deleted", Some(json!(true)))]);
    assert_eq!(push(github_says("push", &contradiction)).change, RefChange::Deleted);
}

#[test]
fn a_tag_points_at_the_commit_that_the_forge_names_else_at_what_was_pushed() {
    let commit = "d2b75aa7797ec26b088fa2dd527e9d2c052fcedd";
    let annotated = edit(TAG, &[("/after", Some(json!("a".repeat(40))))]);
    assert_eq!(push(github_says("push", &annotated)).change, moved(commit));
    for unusable in [Value::Null, json!({"id": 7}), json!({"id": "0".repeat(40)}), json!([])] {
        let body = edit(TAG, &[("/head_commit", Some(unusable))]);
        let push = push(github_says("push", &body));
        assert_eq!((push.change, push.head), (moved(commit), None));
    }
}

#[test]
fn a_repository_of_sha_256_ids_is_one_like_any_other() {
    let body = edit(PUSH, &[("/after", Some(json!("b".repeat(64)))), ("/before", Some(json!("0".repeat(64))))]);
    let push = push(github_says("push", &body));
    assert_eq!((push.change, push.before), (moved(&"b".repeat(64)), None));
}

#[test]
fn a_form_means_what_its_payload_means() {
    let escape = |text: &str| -> String { text.bytes().map(|it| format!("%{it:02x}")).collect() };
    let form = format!("payload={}", escape(PUSH));
    let says = |body: &str| from_github("push", body.as_bytes(), "application/x-www-form-urlencoded").1;
    assert_eq!(push(says(&form)), push(github_says("push", PUSH.as_bytes())));
    assert_eq!(refusal(says(&format!("{form}&{form}"))), "bad_payload");
    assert_eq!(refusal(says("payload=")), "bad_json");
    assert_eq!(refusal(says(PUSH)), "bad_payload");
}

#[test]
fn other_events_deploy_nothing_and_a_ping_is_a_ping() {
    assert_eq!(refusal(github_says("ping", PING.as_bytes())), "ping");
    assert_eq!(refusal(github_says("ping", ORGANISATION_PING.as_bytes())), "ping");
    assert_eq!(refusal(github_says("create", CREATE.as_bytes())), "other");
    assert_eq!(refusal(github_says("issue_comment", COMMENT.as_bytes())), "other");
    assert_eq!(refusal(github_says("invented later", b"{}")), "other");
    assert_eq!(refusal(github_says("invented later", PUSH.as_bytes())), "other");
}

#[test]
fn a_body_and_a_name_that_do_not_belong_together_are_refused() {
    for event in ["ping", "issues", "create", "workflow_run"] {
        assert_eq!(refusal(github_says(event, PUSH.as_bytes())), "event_mismatch", "{event}");
    }
    assert_eq!(refusal(github_says("push", PING.as_bytes())), "bad_payload");
    assert_eq!(refusal(github_says("push", CREATE.as_bytes())), "bad_payload");
}

#[test]
fn only_ref_commits_and_repository_can_refuse_a_push() {
    for pointer in ["/ref", "/before", "/after", "/repository", "/repository/full_name"] {
        for value in [None, Some(Value::Null), Some(json!(7)), Some(json!([])), Some(json!("x y")), Some(json!({}))] {
            let body = edit(PUSH, &[(pointer, value.clone())]);
            assert_eq!(refusal(github_says("push", &body)), "bad_payload", "{pointer} {value:?}");
        }
    }
    let optional = ["/commits", "/head_commit", "/pusher", "/sender", "/compare", "/deleted", "/created", "/forced"];
    for pointer in optional.into_iter().chain(["/repository/default_branch", "/head_commit/author", "/base_ref"]) {
        for value in [None, Some(Value::Null), Some(json!(-1.5)), Some(json!([null])), Some(json!({"id": [[1]]}))] {
            let body = edit(PUSH, &[(pointer, value.clone())]);
            assert_eq!(refusal(github_says("push", &body)), "push", "{pointer} {value:?}");
        }
    }
}

#[test]
fn a_key_that_is_read_must_not_be_repeated() {
    let repeated = [
        (r#""ref": "#, r#""ref": "refs/heads/x", "ref": "#),
        (r#""ref": "#, r#""re\u0066": "refs/heads/x", "ref": "#),
        (r#""full_name": "#, r#""full_name": "x/y", "full_name": "#),
        (r#""compare": "#, r#""compare": 1, "compare": "#),
    ];
    for (from, to) in repeated {
        assert_eq!(refusal(github_says("push", PUSH.replacen(from, to, 1).as_bytes())), "bad_payload", "{to}");
    }
    let unread = PUSH.replacen(r#""ref": "#, r#""zzz": 1, "zzz": 2, "ref": "#, 1);
    assert_eq!(refusal(github_says("push", unread.as_bytes())), "push");
}

#[test]
fn what_is_not_json_in_utf_8_is_bad_json_and_json_of_another_shape_is_not_a_payload() {
    let bom = format!("\u{feff}{PUSH}");
    let latin = PUSH.replacen("Update", "\u{1}", 1).into_bytes();
    let broken = [b"{\"ref\": \"\xff\"}".as_slice(), b"", b" ", b"{", b"{} {}", b"nonsense", bom.as_bytes(), &latin];
    for body in broken {
        assert_eq!(
            refusal(github_says("push", body)),
            "bad_json",
            "{:?}",
            String::from_utf8_lossy(&body[..body.len().min(20)])
        );
    }
    for body in ["[]", "null", "7", "\"text\"", r#"["refs/heads/main"]"#] {
        assert_eq!(refusal(github_says("push", body.as_bytes())), "bad_payload", "{body}");
    }
}

#[test]
fn half_a_character_in_a_message_does_not_stop_a_push() {
    let body = PUSH.replace("Update README", r"Update \ud83d");
    assert_eq!(refusal(github_says("push", body.as_bytes())), "push");
}

#[test]
fn refs_other_than_branches_and_tags_deploy_nothing() {
    for (full, verdict) in [("refs/notes/commits", "other"), ("refs/pull/1/head", "other"), ("main", "bad_payload")] {
        assert_eq!(refusal(github_says("push", &edit(PUSH, &[("/ref", Some(json!(full)))]))), verdict, "{full}");
    }
    for bad in [
        "refs/heads/",
        "refs/heads/a..b",
        "refs/tags/a b",
        "refs/heads/a\0",
        "refs/heads/a\u{9b}",
        "refs/",
        "refs/notes/a..b",
    ] {
        assert_eq!(refusal(github_says("push", &edit(PUSH, &[("/ref", Some(json!(bad)))]))), "bad_payload", "{bad}");
    }
}

#[test]
fn the_envelope_is_judged_after_the_proof() {
    let judged = |lines: &[(&str, &str)]| {
        let signature = format!("sha256={}", hex::encode(hmac(b"key", &[PUSH.as_bytes()])));
        let mut all = vec![("Content-Type", "application/json"), ("X-Hub-Signature-256", signature.as_str())];
        all.extend(lines);
        let headers = headers(&all);
        refusal(admit(&prove(&github(&["key"]), &headers, PUSH.as_bytes()).unwrap(), &headers).1)
    };
    let (event, id) = (("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "1"));
    assert_eq!(judged(&[event, id]), "push");
    assert_eq!(judged(&[event]), "missing_header");
    assert_eq!(judged(&[id]), "missing_header");
    assert_eq!(judged(&[event, event, id]), "duplicate_header");
    assert_eq!(judged(&[event, id, id]), "duplicate_header");
    let long = "a".repeat(65);
    for bad in ["", "push!", "pu\tsh", "push-1", &long] {
        assert_eq!(judged(&[("X-GitHub-Event", bad), id]), "bad_event", "{bad}");
    }
    let long = "a".repeat(257);
    for bad in ["", "a b", "ü", &long] {
        assert_eq!(judged(&[event, ("X-GitHub-Delivery", bad)]), "bad_delivery_id", "{bad}");
    }
    assert_eq!(judged(&[event, ("X-GitHub-Delivery", &long[1..])]), "push");
}

#[test]
fn a_delivery_is_known_again_by_its_id_and_by_its_body() {
    let (envelope, _) = from_github("push", PUSH.as_bytes(), "application/json");
    assert_eq!(envelope.delivery_id.as_deref(), Some("guid-1"));
    let [DedupeKey::Body(_), DedupeKey::Named(id)] = &envelope.dedupe[..] else { panic!("{envelope:?}") };
    assert_eq!(id, "guid-1");
}
