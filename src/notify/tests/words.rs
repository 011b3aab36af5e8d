//! Promises about what letters say to people.
//!
//! Invariant: the texts here are what people read, to the letter.

use serde_json::Value;

use super::{failed, failure};
use crate::{
    model::{
        job::Trigger,
        letter::{Address, Occasion},
        run::{Failure, FailureClass, Outcome, RunId, RunStep},
        secret::SecretRef,
    },
    notify::{
        blocks, email, page,
        story::{Chapter, Story},
        wording,
    },
};

const FAILURE: &str = "\
Deploying 9f1c2ab of acme/shop to production failed in step `run` with exit code 3 after 2 min 21 s (run 1842).

NOW
  /srv/shop holds 9f1c2ab, but not every step was carried out; the last good deploy is 41d0e77. \
This is failure 3 in a row, since run 1838 (2026-03-01 09:15 UTC).

WHAT
  Commit    9f1c2ab fix cart rounding
            https://github.com/acme/shop/commit/9f1c2ab0d4e5f60718293a4b5c6d7e8f90a1b2c3
  Author    Ana Ruiz
  Pushed    by ana, main
  Changes   3 commits
            https://github.com/acme/shop/compare/41d0e77...9f1c2ab
  artifact  shop-1.4.2.tar.gz

WHY
  step `npm run build` ended with exit code 3

LOG, lines 309 to 312
  309 | added 12 packages
  310 | > build
  311 | error: cart.ts(3,1): `total` is not defined
  312 | exit status 3

NEXT
  landfall log 1842    read the whole log
  landfall retry 1842  deploy the same again
  https://ci.example.org/runs/1842

-- 
You get this because hook `shop` on ci.example.org tells ops@example.org of: failure, recovery (`notify` in hooks.yaml).
";

fn ended(outcome: Outcome) -> Story {
    let mut story = failure();
    if let Chapter::Ended { outcome: old, .. } = &mut story.chapter {
        *old = outcome;
    }
    story
}

#[test]
fn a_failure_mail_says_everything_in_the_promised_order() {
    assert_eq!(wording::subject(&failure()), "[acme/shop] FAILED production: 9f1c2ab fix cart rounding (run 1842)");
    assert_eq!(wording::text(&failure()), FAILURE);
}

#[test]
fn every_end_has_its_own_sentence() {
    let reason = || "x".to_owned();
    let timed_out = Failure { step: RunStep::Activate, exit_code: None, class: FailureClass::Other, reason: reason() };
    let cases = [
        (
            Outcome::Succeeded,
            "9f1c2ab of acme/shop was deployed to production in 2 min 21 s, \
                              the first success after 3 failures (run 1842).",
        ),
        (
            Outcome::TimedOut(timed_out),
            "Deploying 9f1c2ab of acme/shop to production ran out of time in step \
                                        `activate` after 2 min 21 s (run 1842).",
        ),
        (
            Outcome::Interrupted { step: Some(RunStep::Run), reason: reason() },
            "Deploying 9f1c2ab of acme/shop to production was interrupted in step `run` (run 1842).",
        ),
        (
            Outcome::Cancelled { step: None, reason: reason() },
            "Deploying 9f1c2ab of acme/shop to production was cancelled before it began (run 1842).",
        ),
        (
            Outcome::Superseded { by: RunId(1843) },
            "Deploying 9f1c2ab of acme/shop to production was left to a newer push (run 1842).",
        ),
        (
            Outcome::Skipped { step: RunStep::Run, reason: reason() },
            "Deploying 9f1c2ab of acme/shop to production was skipped in step `run` (run 1842).",
        ),
    ];
    for (outcome, sentence) in cases {
        assert_eq!(wording::sentence(&ended(outcome)), sentence);
    }
}

#[test]
fn the_state_of_the_site_is_told_as_far_as_it_is_known() {
    let in_place = |step| wording::site_now(&Story { streak: None, ..ended(failed(step, None, "x")) });
    assert_eq!(in_place(RunStep::Fetch), "Nothing was changed; the last good deploy is 41d0e77.");
    assert_eq!(in_place(RunStep::Stage), "/srv/shop may be half way to 9f1c2ab; the last good deploy is 41d0e77.");
    let fresh = |step, previous| {
        let story = Story { streak: None, working_tree: None, ..ended(failed(step, None, "x")) };
        wording::site_now(&if previous { story } else { Story { previous: None, ..story } })
    };
    assert_eq!(fresh(RunStep::Stage, false), "Nothing was changed; no deploy of this hook has gone well so far.");
    assert_eq!(fresh(RunStep::Run, true), "What the steps had done by then stands; the last good deploy is 41d0e77.");
    let live = wording::site_now(&ended(Outcome::Succeeded));
    assert_eq!(live, "9f1c2ab is live: https://shop.example.org");
}

#[test]
fn a_run_by_hand_of_a_branch_is_told_without_inventing_a_commit() {
    let story = Story { commit: None, compare: None, trigger: Trigger::Manual, attempt: (2, 3), ..failure() };
    assert_eq!(wording::subject(&story), "[acme/shop] FAILED production: main (run 1842)");
    let facts: Vec<_> = wording::rows(&story).into_iter().map(|it| format!("{} {}", it.label, it.value)).collect();
    assert_eq!(facts, ["Started by ana, main", "Try 2 of 3", "artifact shop-1.4.2.tar.gz"]);
}

#[test]
fn a_start_promises_nothing() {
    let at = "2026-03-01T10:00:00Z".parse().expect("a time");
    let story = Story { chapter: Chapter::Began { at }, occasion: Occasion::Start, log_tail: Vec::new(), ..failure() };
    assert_eq!(wording::subject(&story), "[acme/shop] deploying production: 9f1c2ab fix cart rounding (run 1842)");
    let text = wording::text(&story);
    assert!(text.starts_with("Deploying 9f1c2ab of acme/shop to production has begun (run 1842).\n"), "{text}");
    assert!(text.contains("Until it ends, the last good deploy is 41d0e77.") && !text.contains("WHY"), "{text}");
    let first = wording::text(&Story { previous: None, ..story });
    assert!(first.contains("\n  No deploy of this hook has gone well so far."), "{first}");
}

#[test]
fn a_slack_message_is_a_sentence_and_blocks_that_webhooks_take() {
    let webhook = SecretRef::Env("SLACK".into());
    let story = Story { address: Address::Slack { webhook }, ..failure() };
    let message: Value = serde_json::from_str(&blocks::slack_json(&story)).expect("JSON");
    assert_eq!(
        message["text"],
        "Deploying 9f1c2ab of acme/shop to production failed in step `run` with exit code 3 after 2 min 21 s \
         (run 1842). Commit: fix cart rounding. Why: step `npm run build` ended with exit code 3."
    );
    let kinds: Vec<_> = message["blocks"].as_array().expect("blocks").iter().map(|it| &it["block_id"]).collect();
    assert_eq!(kinds, ["head", "why", "log", "meta", "next"]);
    let log = message["blocks"][2]["text"]["text"].as_str().expect("text");
    assert!(log.starts_with("```\n309  added 12 packages\n310  &gt; build\n"), "{log}");
    let head = message["blocks"][0]["text"]["text"].as_str().expect("text");
    assert!(head.contains("<https://github.com/acme/shop/compare/41d0e77...9f1c2ab|all 3 commits>"), "{head}");
    assert_eq!(message["blocks"][4]["elements"][0]["type"], "mrkdwn");
}

#[test]
fn a_mail_names_itself_its_list_and_its_thread() {
    let now = "2026-03-01T10:02:30Z".parse().expect("a time");
    let mail = email::write(&failure(), "Deploys <deploys@ci.example.org>", "ops@example.org", now).expect("a mail");
    let text = String::from_utf8(mail.bytes().to_vec()).expect("ASCII");
    let (header, body) = text.split_once("\r\n\r\n").expect("a header");
    let wanted = [
        "From: Deploys <deploys@ci.example.org>",
        "To: ops@example.org",
        "Date: Sun, 01 Mar 2026 10:02:30 +0000",
        "Subject: [acme/shop] FAILED production: 9f1c2ab fix cart rounding (run 1842)",
        "Message-ID: <run.1842.failure.77@ci.example.org>",
        "In-Reply-To: <streak.shop.1838@ci.example.org>",
        "References: <streak.shop.1838@ci.example.org>",
        "List-Id: acme/shop production <production.shop.acme.ci.example.org>",
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
        "X-Landfall-Run: 1842",
        "X-Landfall-Hook: shop",
        "X-Landfall-Environment: production",
        "X-Landfall-Occasion: failure",
        "X-Landfall-Outcome: failed",
        "X-Landfall-Commit: 9f1c2ab0d4e5f60718293a4b5c6d7e8f90a1b2c3",
        "MIME-Version: 1.0",
    ];
    let unfolded = header.replace("\r\n ", " ");
    for wanted in wanted {
        assert!(unfolded.lines().any(|it| it == wanted), "{wanted}\n---\n{header}");
    }
    assert!(unfolded.contains("Content-Type: multipart/alternative;"), "{header}");
    assert!(body.find("text/plain; charset=utf-8") < body.find("text/html; charset=utf-8"), "{body}");
    assert_eq!(body.matches("Content-Transfer-Encoding: quoted-printable").count(), 2);
}

#[test]
fn the_page_says_what_the_text_says() {
    let page = page::html(&failure());
    let facts =
        ["FAILED", "exit code 3", "41d0e77", "fix cart rounding", "Ana Ruiz", "3 commits", "landfall retry 1842"];
    for fact in facts.into_iter().chain(["not defined", "since run 1838", "tells ops@example.org"]) {
        assert!(page.contains(fact), "{fact}\n{page}");
    }
    assert!(!page.contains("<img") && !page.contains("<script"), "nothing calls home");
}
