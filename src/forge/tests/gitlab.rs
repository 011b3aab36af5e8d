//! What GitLab's bodies mean.

use serde_json::{Value, json};

use super::{edit, gitlab, gitlab_says, headers, prove, push, refusal};
use crate::{
    forge::{DedupeKey, admit},
    model::push::{CommitId, RefChange, RefName, RepoName},
};

const PUSH: &str = include_str!("../../../tests/deliveries/gitlab/gp.push-event.json");
const SUBGROUP: &str = include_str!("../../../tests/deliveries/gitlab/scm.push_subgroup.json");
const BRANCH_GONE: &str = include_str!("../../../tests/deliveries/gitlab/scm.branch_delete.json");
const TAG: &str = include_str!("../../../tests/deliveries/gitlab/scm.tag_create.json");
const TAG_GONE: &str = include_str!("../../../tests/deliveries/gitlab/scm.tag_delete.json");
const SYSTEM_PUSH: &str = include_str!("../../../tests/deliveries/gitlab/gp.system-push-event.json");
const SYSTEM_TAG: &str = include_str!("../../../tests/deliveries/gitlab/gp.system-tag-event.json");
const SYSTEM_OTHER: &str = include_str!("../../../tests/deliveries/gitlab/gp.system-project-created.json");
const ISSUE: &str = include_str!("../../../tests/deliveries/gitlab/scm.issue_create.json");

fn moved(commit: &str) -> RefChange {
    RefChange::Moved(CommitId::parse(commit).unwrap())
}

#[test]
fn a_push_says_what_moved_where_and_who_did_it() {
    let push = push(gitlab_says("Push Hook", SUBGROUP.as_bytes()));
    assert_eq!(push.repo, RepoName::parse("group1/group2/group3/grp2repo").unwrap());
    assert_eq!(push.ref_name, RefName::Branch("master".into()));
    assert_eq!(push.change, moved("2adc9465c4edfc33834e173fe89436a7cb899a1d"));
    assert_eq!(push.default_branch.as_deref(), Some("master"));
    assert_eq!(push.actor, "sytses");
    assert_eq!(push.commit_count, Some(1));
    assert_eq!(push.head.unwrap().subject, "added readme");
    let compare = "https://gitlab.com/group1/group2/group3/grp2repo/-/compare/9217710ce8c7e1eae7a5d1c45f6e43e1c769f866...2adc9465c4edfc33834e173fe89436a7cb899a1d";
    assert_eq!(push.compare_url.as_deref(), Some(compare));
}

#[test]
fn the_count_is_gitlabs_own_since_the_list_is_cut() {
    let pushed = push(gitlab_says("Push Hook", PUSH.as_bytes()));
    assert_eq!((pushed.commit_count, pushed.actor.as_str()), (Some(4), "John Smith"));
    let uncounted = edit(PUSH, &[("/total_commits_count", None)]);
    assert_eq!(push(gitlab_says("Push Hook", &uncounted)).commit_count, Some(2));
}

#[test]
fn a_deleted_branch_or_tag_is_gone() {
    assert_eq!(push(gitlab_says("Push Hook", BRANCH_GONE.as_bytes())).change, RefChange::Deleted);
    assert_eq!(push(gitlab_says("Tag Push Hook", TAG_GONE.as_bytes())).change, RefChange::Deleted);
}

#[test]
fn an_annotated_tag_points_at_the_commit_that_would_be_checked_out() {
    let of = |changes: &[(&str, Option<Value>)]| gitlab_says("Tag Push Hook", &edit(TAG, changes));
    let commit = moved("2adc9465c4edfc33834e173fe89436a7cb899a1d");
    assert_eq!(push(of(&[])).change, commit);
    assert_eq!(push(of(&[("/after", Some(json!("a".repeat(40))))])).change, commit);
    assert_eq!(push(of(&[("/checkout_sha", None)])).change, commit);
    assert_eq!(push(of(&[("/checkout_sha", Some(Value::Null))])).change, commit);
    assert_eq!(refusal(of(&[("/checkout_sha", Some(json!("x")))])), "bad_payload");
}

#[test]
fn a_system_hooks_pushes_are_pushes_and_its_other_events_are_not() {
    assert_eq!(push(gitlab_says("System Hook", SYSTEM_PUSH.as_bytes())).ref_name, RefName::Branch("master".into()));
    let tag = push(gitlab_says("System Hook", SYSTEM_TAG.as_bytes()));
    assert_eq!(tag.change, moved("5937ac0a7beb003549fc5fd26fc247adbce4a52e"));
    assert_eq!(refusal(gitlab_says("System Hook", SYSTEM_OTHER.as_bytes())), "other");
}

#[test]
fn header_kind_and_ref_must_agree() {
    assert_eq!(refusal(gitlab_says("Issue Hook", ISSUE.as_bytes())), "other");
    assert_eq!(refusal(gitlab_says("Invented Hook", PUSH.as_bytes())), "other");
    assert_eq!(refusal(gitlab_says("Issue Hook", PUSH.as_bytes())), "event_mismatch");
    assert_eq!(refusal(gitlab_says("Push Hook", ISSUE.as_bytes())), "event_mismatch");
    assert_eq!(refusal(gitlab_says("Push Hook", TAG.as_bytes())), "event_mismatch");
    assert_eq!(refusal(gitlab_says("Tag Push Hook", PUSH.as_bytes())), "event_mismatch");
    let crossed = edit(PUSH, &[("/ref", Some(json!("refs/tags/v1")))]);
    assert_eq!(refusal(gitlab_says("Push Hook", &crossed)), "event_mismatch");
}

#[test]
fn only_ref_commits_and_repository_can_refuse_a_push() {
    for pointer in ["/ref", "/before", "/after", "/project", "/project/path_with_namespace"] {
        for value in [None, Some(Value::Null), Some(json!(7)), Some(json!("x y")), Some(json!(["refs/heads/main"]))] {
            let body = edit(PUSH, &[(pointer, value.clone())]);
            assert_eq!(refusal(gitlab_says("Push Hook", &body)), "bad_payload", "{pointer} {value:?}");
        }
    }
    for pointer in ["/object_kind", "/user_name", "/commits", "/total_commits_count", "/project/web_url", "/repository"]
    {
        for value in [None, Some(Value::Null), Some(json!(-7)), Some(json!([null])), Some(json!({"a": {}}))] {
            let body = edit(PUSH, &[(pointer, value.clone())]);
            assert_eq!(refusal(gitlab_says("Push Hook", &body)), "push", "{pointer} {value:?}");
        }
    }
}

#[test]
fn a_hidden_address_is_no_address() {
    let mut body: Value = serde_json::from_str(SUBGROUP).unwrap();
    body["commits"][0]["author"]["email"] = json!("[REDACTED]");
    let push = push(gitlab_says("Push Hook", body.to_string().as_bytes()));
    assert_eq!(push.head.unwrap().author_email, "");
}

#[test]
fn a_delivery_is_known_again_by_the_best_id_it_has() {
    let envelope = |lines: &[(&str, &str)]| {
        let mut all = vec![("X-Gitlab-Event", "Push Hook"), ("X-Gitlab-Token", "token")];
        all.extend(lines);
        let headers = headers(&all);
        let (envelope, verdict) = admit(&prove(&gitlab(&["token"]), &headers, PUSH.as_bytes()).unwrap(), &headers);
        (envelope.dedupe, refusal(verdict))
    };
    let (id, key) = (("webhook-id", "a"), ("Idempotency-Key", "b"));
    assert_eq!(envelope(&[id, key]).0, vec![DedupeKey::Id("a".into())]);
    assert_eq!(envelope(&[key]).0, vec![DedupeKey::Id("b".into())]);
    assert!(matches!(envelope(&[]).0[..], [DedupeKey::BodyWithin(_, within)] if within.as_secs() == 3600));
    assert_eq!(envelope(&[("webhook-id", "a b")]).1, "bad_delivery_id");
    assert_eq!(envelope(&[key, key]).1, "duplicate_header");
    assert_eq!(envelope(&[("X-Gitlab-Event", "Push Hook")]).1, "duplicate_header");
}
