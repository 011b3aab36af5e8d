//! What people can rely on who are told by e-mail.

use landfall::{model::run::Outcome, store::LetterState};

use super::house::{House, failed};
use crate::world::mailroom::{Cover, Inbox, Mail, Refusal};

const OPS: &str = "{email: ops@example.org}";

fn smtp(inbox: &Inbox<Mail>, more: &str) -> String {
    let from = "\"Deploys <deploys@ci.example.org>\"";
    format!("smtp: {{host: 127.0.0.1, port: {}, from: {from}, {more}}}", inbox.port)
}

async fn house_and_inbox(notify: &str, more: &str) -> (House, Inbox<Mail>) {
    let inbox = Inbox::smtp(Cover::None).await;
    (House::new(notify, &smtp(&inbox, more)), inbox)
}

#[tokio::test]
async fn a_failure_is_told_once_with_the_end_of_the_log() {
    let (mut house, mut inbox) = house_and_inbox(OPS, "tls: none").await;
    house.tell();
    let run = house.run_ends(failed(), &["> build", "\u{1b}[31merror\u{1b}[0m: `total` is not defined"]).await;
    let mail = inbox.next().await;
    house.is_sent(run).await;
    assert_eq!((mail.from.as_str(), mail.to.as_str()), ("FROM:<deploys@ci.example.org>", "TO:<ops@example.org>"));
    assert_eq!(mail.header("Subject"), "[acme/shop] FAILED production: 9f1c2ab (run 1)");
    assert_eq!(mail.header("Message-ID"), "<run.1.failure.1@ci.example.org>");
    assert_eq!(mail.login, None);
    let body = mail.body();
    for wanted in ["failed in step `run` with exit code 3", "2 | error: `total` is not defined", "landfall retry 1"] {
        assert!(body.contains(wanted), "{wanted}\n{body}");
    }
    assert!(!body.contains('\u{1b}'));
    assert!(inbox.rest().is_empty(), "told once");
}

#[tokio::test]
async fn a_success_is_told_only_where_it_follows_a_failure_and_in_the_same_thread() {
    let (mut house, mut inbox) = house_and_inbox(OPS, "tls: none").await;
    house.tell();
    for outcome in [Outcome::Succeeded, failed(), failed(), Outcome::Succeeded, Outcome::Succeeded] {
        house.run_ends(outcome, &["> build"]).await;
    }
    let mails = [inbox.next().await, inbox.next().await, inbox.next().await];
    let mut told: Vec<_> = mails.iter().map(|it| (it.header("Message-ID"), it.header("References"))).collect();
    told.sort_unstable();
    let thread = "<streak.shop.2@ci.example.org>";
    let expected = ["<run.2.failure.1@", "<run.3.failure.2@", "<run.4.recovery.3@"];
    assert_eq!(told, expected.map(|it| (format!("{it}ci.example.org>"), thread)).each_ref().map(|it| (&*it.0, it.1)));
    let recovery = mails.iter().find(|it| it.header("X-Landfall-Occasion") == "recovery").expect("a recovery");
    assert!(recovery.body().contains("the first success after 2 failures"), "{}", recovery.body());
    assert!(!recovery.body().contains("> build"), "a success has nothing to explain");
    let failure = mails.iter().find(|it| it.header("X-Landfall-Run") == "3").expect("a failure");
    assert!(failure.body().contains("the last good deploy is 9f1c2ab. This is failure 2"), "{}", failure.body());
    house.be_silent().await;
    assert!(inbox.rest().is_empty());
}

#[tokio::test]
async fn of_several_tries_only_the_last_is_told_and_counts() {
    let retry = format!("{OPS}\n    retry: {{max: 1, on: failure, backoff: 1s}}");
    let (mut house, mut inbox) = house_and_inbox(&retry, "tls: none").await;
    house.tell();
    for _ in 0..2 {
        house.run_ends(failed(), &[]).await;
        house.next_run_ends(failed(), &[]).await;
    }
    let mut bodies = [inbox.next().await.body(), inbox.next().await.body()];
    bodies.sort_unstable_by_key(|it| !it.contains("(run 2)"));
    assert!(bodies[0].contains("2 of 2") && !bodies[0].contains("in a row"), "{}", bodies[0]);
    assert!(bodies[1].contains("(run 4)") && bodies[1].contains("This is failure 2 in a row"), "{}", bodies[1]);
    house.be_silent().await;
    assert!(inbox.rest().is_empty());
}

#[tokio::test]
async fn a_letter_that_was_refused_for_now_comes_later_and_a_second_copy_has_the_same_name() {
    let (mut house, mut inbox) = house_and_inbox(OPS, "tls: none").await;
    inbox.refuse("RCPT", Refusal::Say("451 greylisted, come back"));
    inbox.refuse("DATA", Refusal::HangUp);
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    let (due, why) = house.why_later(run).await;
    assert!(why.contains("451") && why.contains("greylisted, come back"), "{why}");
    assert!(due > jiff::Timestamp::now(), "it waits");
    house.time_passes().await;
    let taken_without_a_word = inbox.next().await;
    house.is_tried_again(run).await;
    house.time_passes().await;
    let taken = inbox.next().await;
    house.is_sent(run).await;
    assert_eq!(taken.header("Message-ID"), taken_without_a_word.header("Message-ID"));
    assert_eq!(taken.header("Message-ID"), "<run.1.failure.1@ci.example.org>");
}

#[tokio::test]
async fn one_bad_address_is_given_up_and_harms_no_other() {
    let (mut house, mut inbox) = house_and_inbox("{email: [gone@example.org, ops@example.org]}", "tls: none").await;
    // Whichever of the two comes first is refused; the other is not.
    inbox.refuse("RCPT", Refusal::Say("550 5.1.1 no such user"));
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    let taken = inbox.next().await;
    let letters = house.letters(run).await;
    for (address, state) in letters {
        match state {
            LetterState::Sent { .. } => {
                assert!(taken.to.contains(address.rsplit(' ').next().expect("a word")), "{address}")
            }
            LetterState::GivenUp { why, .. } => assert!(why.contains("550") && why.contains("no such user"), "{why}"),
            LetterState::Owed { .. } => panic!("{address} is still owed a letter"),
        }
    }
    assert!(inbox.rest().is_empty());
}

#[tokio::test]
async fn a_login_is_used_and_a_wrong_one_is_given_up_without_showing_it() {
    let login = "tls: none, username: deploys, password: {env: PASSWORD}";
    let (mut house, mut inbox) = house_and_inbox(OPS, login).await;
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    assert_eq!(inbox.next().await.login.as_deref(), Some("deploys hunter2-hunter2"));
    house.is_sent(run).await;
    inbox.refuse("AUTH", Refusal::Say("535 5.7.8 who are you"));
    let run = house.run_ends(failed(), &[]).await;
    let why = house.why_never(run).await;
    assert!(why.contains("535") && !why.contains("hunter2"), "{why}");
    assert!(inbox.rest().is_empty(), "without a login nothing is sent");
}

#[tokio::test]
async fn a_server_that_is_away_or_speaks_nonsense_is_tried_again() {
    let (mut house, inbox) = house_and_inbox(OPS, "tls: none").await;
    inbox.refuse("EHLO", Refusal::Say("hello yourself"));
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    house.why_later(run).await;
    drop(inbox);
    let run = house.run_ends(failed(), &[]).await;
    let (_, why) = house.why_later(run).await;
    assert!(why.starts_with("mail server 127.0.0.1:"), "{why}");
}

#[tokio::test]
async fn nothing_is_sent_in_clear_where_hooks_yaml_wants_starttls() {
    let (mut house, mut inbox) = house_and_inbox(OPS, "username: deploys, password: {env: PASSWORD}").await;
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    let (_, why) = house.why_later(run).await;
    assert!(why.contains("does not offer STARTTLS"), "{why}");
    assert!(inbox.rest().is_empty());
}

#[tokio::test]
async fn a_letter_under_way_at_a_stop_is_sent_after_the_restart() {
    let (mut house, mut inbox) = house_and_inbox(OPS, "tls: none").await;
    inbox.refuse("MAIL", Refusal::Silence);
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    house.restart().await;
    inbox.next().await;
    house.is_sent(run).await;
    assert!(inbox.rest().is_empty());
}

#[tokio::test]
async fn a_password_that_cannot_be_found_now_is_looked_for_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2-hunter2\n").expect("a file");
    let login = format!("tls: none, username: deploys, password: {{file: {}}}", file.display());
    let (mut house, mut inbox) = house_and_inbox(OPS, &login).await;
    std::fs::remove_file(&file).expect("gone");
    house.tell();
    let run = house.run_ends(failed(), &[]).await;
    assert!(house.why_later(run).await.1.contains("the password of `smtp`"));
    std::fs::write(&file, "changed-since\n").expect("a file");
    house.time_passes().await;
    assert_eq!(inbox.next().await.login.as_deref(), Some("deploys changed-since"));
    house.is_sent(run).await;
}
