//! Every delivery that is proven gets the answer of the table, and is stored under the same word.

use jiff::{SignedDuration, Timestamp};
use landfall::model::{job::Trigger, push::CommitId};
use serde_json::{Value, json};

use crate::world::{
    forge::{
        GITHUB_BRANCH_GONE, GITHUB_PING, GITHUB_PUSH, GITLAB_BRANCH_GONE, GITLAB_TAG, github, github_push, github_with,
        gitlab, gitlab_signed,
    },
    reception::{HOOKS, World},
    sender::Request,
};

fn verdict(status: u16, word: &str) -> (u16, String) {
    (status, word.to_owned())
}

#[tokio::test]
async fn a_push_is_queued_with_its_commit_and_the_answer_names_the_run() {
    let world = World::open().await;
    let answer = github("push", "guid-1", GITHUB_PUSH.as_bytes()).send(world.address).await;
    assert_eq!(answer.verdict(), verdict(202, "queued"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let run = world.runs().await.remove(0);
    assert_eq!(answer.json()["runs"], json!([{"id": run.id.0, "hook": "site"}]));
    assert_eq!(run.commit, CommitId::parse("199eddf46df50de8d02e99bf1c5fdb4101338224"));
    assert_eq!((run.job.trigger, run.job.actor.as_str()), (Trigger::Push, "Codertocat"));
    let delivery = world.deliveries().await.remove(0);
    assert_eq!((delivery.result.as_str(), delivery.event.as_deref()), ("queued", Some("push")));
    assert_eq!(delivery.delivery_id.as_deref(), Some("guid-1"));
}

#[tokio::test]
async fn a_gitlab_tag_is_queued_by_token() {
    let world = World::open().await;
    let answer = gitlab("Tag Push Hook", Some("key-1"), GITLAB_TAG.as_bytes()).send(world.address).await;
    assert_eq!(answer.verdict(), verdict(202, "queued"));
    assert_eq!(world.runs().await[0].job.trigger, Trigger::Tag);
}

const SIGNED: &str = "
hooks:
  lab:
    gitlab: gitlab-org/hello-world
    signing_token: {env: LAB_SIGNING}
    on: {tag: 'v*'}
    run: 'true'
";

#[tokio::test]
async fn a_gitlab_tag_is_queued_by_signature_and_a_token_is_no_way_around_it() {
    let world = World::with("", SIGNED).await;
    let now = Timestamp::now();
    let old = now - SignedDuration::from_secs(400);
    let body = GITLAB_TAG.as_bytes();
    let token = gitlab("Tag Push Hook", Some("id-1"), body).send(world.address).await;
    assert_eq!(token.verdict(), verdict(401, "unauthenticated"));
    let late = gitlab_signed("Tag Push Hook", "id-1", old, body).send(world.address).await;
    assert_eq!(late.verdict(), verdict(401, "unauthenticated"));
    let good = gitlab_signed("Tag Push Hook", "id-1", now, body).send(world.address).await;
    assert_eq!(good.verdict(), verdict(202, "queued"));
}

#[tokio::test]
async fn a_token_passes_where_the_operator_is_moving_to_signatures() {
    let moving = SIGNED.replace("    on:", "    secret: {env: LAB_TOKEN}\n    accept_token_too: true\n    on:");
    let world = World::with("", &moving).await;
    let request = gitlab("Tag Push Hook", Some("id-1"), GITLAB_TAG.as_bytes());
    let broken = request.clone().with("webhook-signature", "v1,AAAA").send(world.address).await;
    assert_eq!(broken.verdict(), verdict(401, "unauthenticated"));
    assert_eq!(request.send(world.address).await.verdict(), verdict(202, "queued"));
}

/// The recorded ping, as of the hook's own repository.
fn ping_of_site() -> String {
    GITHUB_PING.replace("Octocoders/Hello-World", "codertocat/hello-world")
}

/// The ping of a webhook that sends these events.
fn with_events(ping: &str, events: &[&str]) -> String {
    let mut body: serde_json::Value = serde_json::from_str(ping).expect("JSON");
    body["hook"]["events"] = events.into();
    body.to_string()
}

#[tokio::test]
async fn a_ping_of_a_webhook_whose_pushes_would_start_nothing_says_so() {
    let world = World::open().await;
    let other =
        "this webhook is of repository `Octocoders/Hello-World`, and hook `site` deploys `codertocat/hello-world`";
    let own = ping_of_site();
    let no_push = "this webhook does not send the event `push`: choose it in the webhook's settings";
    for (number, (body, words)) in [
        (GITHUB_PING.to_owned(), format!("; but {other}: its pushes start nothing")),
        (with_events(&own, &["issues", "release"]), format!("; but {no_push}")),
        (with_events(&own, &["issues", "push"]), String::new()),
        (with_events(&own, &[]), format!("; but {no_push}")),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = github("ping", &number.to_string(), body.as_bytes()).send(world.address).await;
        assert_eq!(answer.verdict(), verdict(200, "pong"));
        assert_eq!(answer.message(), format!("the address works{words}"));
    }
}

#[tokio::test]
async fn a_push_of_another_gitlab_than_the_one_that_is_fetched_from_is_queued_and_told_of() {
    let world = World::open().await;
    let push = |key: &str| gitlab("Tag Push Hook", Some(key), GITLAB_TAG.as_bytes());
    let own = push("1").with("X-Gitlab-Instance", "https://gitlab.com").send(world.address).await;
    assert_eq!((own.verdict(), own.message().as_str()), (verdict(202, "queued"), "queued for `lab`"));
    let foreign = push("2").with("X-Gitlab-Instance", "https://git.example.org:8443/x").send(world.address).await;
    let words = "queued for `lab`; GitLab at `git.example.org` has sent this, and code is fetched for hook \
                 `lab` from `gitlab.com`: ";
    assert_eq!(foreign.verdict(), verdict(202, "queued"));
    assert!(foreign.message().starts_with(words), "{}", foreign.message());
    for nonsense in ["", "gitlab.example.org", "https://", "https://a b", "https://-x"] {
        let answer =
            push(nonsense).set("Idempotency-Key", "3").with("X-Gitlab-Instance", nonsense).send(world.address).await;
        assert!(!answer.message().contains("has sent this"), "{nonsense}: {}", answer.message());
    }
}

#[tokio::test]
async fn what_deploys_nothing_is_stored_and_answered_with_the_rule() {
    let world = World::open().await;
    let dev = GITHUB_PUSH.replace("refs/heads/master", "refs/heads/dev");
    let note = GITHUB_PUSH.replace("refs/heads/master", "refs/notes/commits");
    let cases = [
        (github("ping", "1", ping_of_site().as_bytes()), "pong", "the address works"),
        (github("push", "2", dev.as_bytes()), "ignored", "branch `dev` is not in [`master`]"),
        (github("push", "3", note.as_bytes()), "ignored", "the ref is neither a branch nor a tag"),
        (github("issues", "4", b"{}"), "ignored", "event `issues` is not one that deploys"),
        (
            github(
                "push",
                "5",
                GITHUB_BRANCH_GONE.replace("bradrydzewski/drone-test-go", "codertocat/hello-world").as_bytes(),
            ),
            "ignored",
            "branch `feature-branch` is not in [`master`]",
        ),
        (
            gitlab("Push Hook", Some("6"), GITLAB_BRANCH_GONE.as_bytes()),
            "ignored",
            "branch `feature` was deleted, and a deletion deploys nothing",
        ),
    ];
    for (number, (request, word, message)) in cases.into_iter().enumerate() {
        let answer = request.send(world.address).await;
        assert_eq!((answer.verdict(), answer.message().as_str()), (verdict(200, word), message));
        let stored = world.deliveries().await;
        assert_eq!((stored.len(), stored[number].result.as_str()), (number + 1, word));
        assert_eq!(stored[number].message, message);
    }
    assert!(world.runs().await.is_empty());
}

#[tokio::test]
async fn a_push_of_another_repository_is_ignored_and_both_are_named() {
    let world = World::open().await;
    let foreign = GITHUB_PUSH.replace("Codertocat/Hello-World", "codertocat/other").replace("186853002", "7");
    let answer = github("push", "12", foreign.as_bytes()).send(world.address).await;
    assert_eq!(answer.verdict(), verdict(200, "ignored"));
    for name in ["Codertocat/Hello-World", "codertocat/other"] {
        assert!(answer.message().to_lowercase().contains(&name.to_lowercase()), "{}", answer.message());
    }
    assert!(!answer.message().contains("new name"), "{}", answer.message());
    assert!(world.runs().await.is_empty());
}

#[tokio::test]
async fn what_a_proven_sender_gets_wrong_is_named_and_stored() {
    let world = World::open().await;
    let push = |id: &str| github("push", id, GITHUB_PUSH.as_bytes());
    let repeated = GITHUB_PUSH.replacen("\"ref\":", "\"ref\": \"refs/heads/dev\", \"ref\":", 1);
    let cases = [
        (github("push", "1", b"{"), 400, "bad_json"),
        (github("push", "2", b"\xef\xbb\xbf{}"), 400, "bad_json"),
        (github("push", "3", b"{}"), 400, "bad_payload"),
        (github("push", "4", repeated.as_bytes()), 400, "bad_payload"),
        (push("5").without("X-GitHub-Event"), 400, "missing_header"),
        (push("6").without("X-GitHub-Delivery"), 400, "missing_header"),
        (push("7").with("X-GitHub-Event", "push"), 400, "duplicate_header"),
        (push("8").with("X-GitHub-Delivery", "8"), 400, "duplicate_header"),
        (github("issues", "9", GITHUB_PUSH.as_bytes()), 400, "event_mismatch"),
        (push("10").set("X-GitHub-Event", "pu/sh"), 400, "bad_event"),
        (push("11").set("X-GitHub-Delivery", "a b"), 400, "bad_delivery_id"),
    ];
    for (request, status, word) in cases {
        assert_eq!(request.send(world.address).await.verdict(), verdict(status, word));
        assert_eq!(world.deliveries().await.last().map(|it| it.result.clone()).as_deref(), Some(word));
    }
    assert!(world.runs().await.is_empty());
}

#[tokio::test]
async fn a_rejected_delivery_stands_in_nobodys_way() {
    let world = World::open().await;
    let wrong = github("issues", "guid-1", GITHUB_PUSH.as_bytes());
    assert_eq!(wrong.send(world.address).await.verdict(), verdict(400, "event_mismatch"));
    let right = github("push", "guid-1", GITHUB_PUSH.as_bytes());
    assert_eq!(right.send(world.address).await.verdict(), verdict(202, "queued"));
}

#[tokio::test]
async fn a_form_is_a_push_too() {
    let world = World::open().await;
    let escaped: String = GITHUB_PUSH.bytes().map(|it| format!("%{it:02X}")).collect();
    let form = format!("payload={escaped}");
    let of = |body: &str, id: &str| {
        github("push", id, body.as_bytes()).set("Content-Type", "application/x-www-form-urlencoded")
    };
    assert_eq!(of(&form, "1").send(world.address).await.verdict(), verdict(202, "queued"));
    let twice = of(&format!("{form}&{form}"), "2").send(world.address).await;
    assert_eq!(twice.verdict(), verdict(400, "bad_payload"));
}

#[tokio::test]
async fn a_repository_of_sha_256_ids_is_queued_with_its_64_digits() {
    let world = World::open().await;
    let mut body: Value = serde_json::from_str(GITHUB_PUSH).expect("JSON");
    body["after"] = "ab".repeat(32).into();
    let answer = github("push", "1", body.to_string().as_bytes()).send(world.address).await;
    assert_eq!(answer.verdict(), verdict(202, "queued"));
    assert_eq!(world.runs().await[0].commit, CommitId::parse(&"ab".repeat(32)));
}

const SHARED: &str = "
sources:
  acme: {forge: github, secret: {env: SITE_SECRET}}
hooks:
  blue: {source: acme, repo: codertocat/hello-world, on: {push: master}, run: 'true'}
  green: {source: acme, repo: CODERTOCAT/hello-world, on: {push: [master, dev]}, run: 'true'}
  red: {source: acme, repo: acme/other, on: {push: master}, run: 'true'}
";

#[tokio::test]
async fn one_delivery_to_a_shared_source_starts_every_hook_that_wants_it() {
    let world = World::with("", SHARED).await;
    let post = |id: &str, body: &[u8]| Request { path: "/sources/acme".into(), ..github("push", id, body) };
    let both = post("1", GITHUB_PUSH.as_bytes()).send(world.address).await;
    assert_eq!((both.verdict(), both.runs().len()), (verdict(202, "queued"), 2));
    let one = post("2", GITHUB_PUSH.replace("heads/master", "heads/dev").as_bytes()).send(world.address).await;
    assert_eq!((one.verdict(), one.runs().len()), (verdict(202, "queued"), 1));
    assert_eq!(one.message(), "queued for `green`; not for `blue`: branch `dev` is not in [`master`]");
    let none = post("3", GITHUB_PUSH.replace("Codertocat/Hello-World", "acme/unknown").as_bytes());
    assert_eq!(none.send(world.address).await.verdict(), verdict(200, "ignored"));
    let own = github("push", "4", GITHUB_PUSH.as_bytes());
    let at_hook = Request { path: "/hooks/blue".into(), ..own }.send(world.address).await;
    assert_eq!(at_hook.verdict(), verdict(404, "not_found"));
}

#[tokio::test]
async fn both_secrets_of_a_rotation_are_believed_until_a_reload_drops_one() {
    let world = World::open().await;
    let by = |secret: &str, number: usize| github_with(secret, "push", &number.to_string(), &github_push(number));
    assert_eq!(by("site-secret", 1).send(world.address).await.status, 202);
    assert_eq!(by("site-secret-old", 2).send(world.address).await.status, 202);
    world.reload("", &HOOKS.replace(", {env: SITE_SECRET_OLD}", ""));
    assert_eq!(by("site-secret-old", 3).send(world.address).await.status, 401);
    assert_eq!(by("site-secret", 3).send(world.address).await.status, 202);
}

#[tokio::test]
async fn a_hook_that_is_not_enabled_stores_and_runs_nothing() {
    let world = World::with("", &HOOKS.replace("    queue: all", "    enabled: false")).await;
    let answer = github("push", "1", GITHUB_PUSH.as_bytes()).send(world.address).await;
    assert_eq!((answer.verdict(), answer.message().as_str()), (verdict(200, "ignored"), "hook `site` is not enabled"));
    assert_eq!((world.deliveries().await.len(), world.runs().await.len()), (1, 0));
}
