//! What people can rely on who are told in Slack.

use std::time::Duration;

use jiff::Timestamp;
use landfall::{model::run::Outcome, store::LetterState};
use serde_json::Value;

use super::house::{House, failed};
use crate::world::mailroom::{Cover, Inbox, Post, Refusal};

const SLACK: &str = "{slack: {env: SLACK}}";
const PATH: &str = "/services/T0/B0/very-secret";

async fn house_and_inbox() -> (House, Inbox<Post>) {
    let inbox = Inbox::slack().await;
    let mut house = House::new(SLACK, "");
    house.set("SLACK", &format!("http://127.0.0.1:{}{PATH}", inbox.port));
    house.tell();
    (house, inbox)
}

#[tokio::test]
async fn a_failure_is_posted_once_as_a_sentence_and_blocks() {
    let (house, mut inbox) = house_and_inbox().await;
    let run = house.run_ends(failed(), &["<!channel> ``` error"]).await;
    let post = inbox.next().await;
    house.is_sent(run).await;
    assert_eq!(post.path, PATH);
    let message: Value = serde_json::from_str(&post.body).expect("JSON");
    let sentence = message["text"].as_str().expect("a sentence");
    assert!(sentence.starts_with("Deploying 9f1c2ab of acme/shop to production failed in step `run`"), "{sentence}");
    assert!(post.body.contains("&lt;!channel&gt;") && !post.body.contains("<!channel>"), "{}", post.body);
    assert!(message["blocks"].as_array().is_some_and(|it| it.len() >= 4), "{}", post.body);
    assert!(inbox.rest().is_empty(), "told once");
}

#[tokio::test]
async fn a_start_that_is_told_after_the_end_is_still_told_as_a_start() {
    let mut inbox = Inbox::slack().await;
    let mut house = House::new("{slack: {env: SLACK}, on: all}", "");
    house.set("SLACK", &format!("http://127.0.0.1:{}{PATH}", inbox.port));
    house.run_ends(Outcome::Succeeded, &[]).await;
    house.tell();
    let posts = [inbox.next().await.body, inbox.next().await.body];
    for words in ["has begun", "was deployed"] {
        assert_eq!(posts.iter().filter(|it| it.contains(words)).count(), 1, "{words}: {posts:?}");
    }
}

#[tokio::test]
async fn who_is_asked_to_slow_down_waits_as_long_as_asked() {
    let (house, mut inbox) = house_and_inbox().await;
    inbox.refuse("POST", Refusal::Say("429 Too Many Requests\nRetry-After: 1800\n\nrate_limited"));
    let begin = Timestamp::now();
    let run = house.run_ends(failed(), &[]).await;
    let (due, why) = house.why_later(run).await;
    let wait = Duration::try_from(due.duration_since(begin)).expect("later");
    assert!((1799..1860).contains(&wait.as_secs()), "{wait:?}");
    assert!(why.contains("slow down"), "{why}");
    inbox.next().await;
    house.time_passes().await;
    inbox.next().await;
    house.is_sent(run).await;
}

#[tokio::test]
async fn a_no_for_good_is_given_up_with_slacks_own_word() {
    let (house, mut inbox) = house_and_inbox().await;
    let noes = [
        ("404 Not Found\n\nno_service", "no_service"),
        ("403 Forbidden\n\naction_prohibited", "action_prohibited"),
        ("410 Gone\n\nchannel_is_archived", "channel_is_archived"),
        ("302 Found\nLocation: http://127.0.0.1:1/elsewhere\n\nmoved", "302"),
        ("200 OK\n\n<html>a portal</html>", "a portal"),
        ("200 OK\n\n{\"ok\": false, \"error\": \"invalid_auth\"}", "invalid_auth"),
    ];
    for (answer, word) in noes {
        inbox.refuse("POST", Refusal::Say(answer));
        let run = house.run_ends(failed(), &[]).await;
        let why = house.why_never(run).await;
        assert!(why.contains(word) && !why.contains("very-secret"), "{why}");
        inbox.next().await;
    }
    assert!(inbox.rest().is_empty());
}

#[tokio::test]
async fn trouble_that_may_pass_is_tried_again_and_the_address_stays_secret() {
    let (house, mut inbox) = house_and_inbox().await;
    inbox.refuse("POST", Refusal::Say("500 Internal Server Error\n\nrollup_error"));
    inbox.refuse("POST", Refusal::HangUp);
    let run = house.run_ends(failed(), &[]).await;
    assert!(house.why_later(run).await.1.contains("rollup_error"));
    let run = house.run_ends(failed(), &[]).await;
    let (_, why) = house.why_later(run).await;
    assert!(!why.contains("very-secret") && !why.contains("services"), "{why}");
    inbox.next().await;
    inbox.next().await;
    drop(inbox);
    let run = house.run_ends(failed(), &[]).await;
    let (_, why) = house.why_later(run).await;
    assert!(why.contains("cannot be reached") && !why.contains("services"), "{why}");
}

#[tokio::test]
async fn what_is_no_web_address_is_given_up_without_showing_it() {
    let mut house = House::new(SLACK, "");
    house.set("SLACK", "xoxb-very-secret");
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    let why = house.why_never(run).await;
    assert!(!why.contains("very-secret"), "{why}");
}

#[tokio::test]
async fn a_mail_server_that_says_nothing_holds_up_nobody_else() {
    let (mail, mut inbox) = (Inbox::smtp(Cover::None).await, Inbox::slack().await);
    mail.refuse("EHLO", Refusal::Silence);
    let smtp = format!("smtp: {{host: 127.0.0.1, port: {}, tls: none, from: a@example.org}}", mail.port);
    let mut house = House::new("[{email: ops@example.org}, {slack: {env: SLACK}}]", &smtp);
    house.set("SLACK", &format!("http://127.0.0.1:{}{PATH}", inbox.port));
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    inbox.next().await;
    let is_mail_under_way = |state: &LetterState| matches!(state, LetterState::Owed { why: None, .. });
    let letters = house.store.letters_of(run).await.expect("letters");
    assert!(letters.iter().any(|it| is_mail_under_way(&it.state)), "{letters:?}");
}
