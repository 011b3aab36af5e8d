//! Promises about health: what has to answer well, how often, and what becomes of a release that does not.
//!
//! Invariant: each test is one promise.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use landfall::model::{
    health::{Probe, Question},
    run::{Outcome, RunStep},
};
use rustix::process::Signal;

use super::{bench::running, shop::Shop};

/// A server that gives these answers, one to each request, and the last one again and again.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn answering(answers: &'static [(u16, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let url = format!("http://{}/up", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let _ = stream.read(&mut [0; 4096]);
                let index = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                let (status, body) = answers[index];
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn probe(&self, body: Option<&str>) -> Probe {
        probe(Question::Http { url: self.url.clone(), expect: 200..=399, body: body.map(str::to_owned) })
    }
}

fn probe(question: Question) -> Probe {
    let (interval, timeout) = (Duration::from_millis(10), Duration::from_secs(5));
    Probe { question, attempts: 3, interval, timeout, start_after: Duration::ZERO, stable: 1 }
}

#[test]
fn a_release_that_answers_badly_gives_way_and_its_words_are_in_the_log() {
    let server = Server::answering(&[(200, "ok"), (502, "database\nis down"), (502, "x"), (502, "x"), (200, "ok")]);
    let mut shop = Shop::activating("true");
    shop.hook.health = vec![server.probe(None)];
    let good = shop.good(&[("index.html", "one\n")]);
    shop.commit(&[("index.html", "two\n")]);
    let ended = shop.deploy();
    let (word, reason) = ended.said();
    let asked = format!("health: `GET {}` was asked 3 times in 0s", server.url);
    assert_eq!(word, "rolled_back");
    assert_eq!(reason, format!("{asked} and did not answer well; the last time it answered 502"));
    assert_eq!((ended.outcome().step(), shop.live()), (Some(RunStep::Health), Some(good)));
    assert!(ended.has_remark("health: it said: database is down"), "{:#?}", ended.whole_log());
}

#[test]
fn an_answer_is_waited_for_and_must_hold_what_is_asked_of_it() {
    let server = Server::answering(&[(503, "starting"), (200, "almost"), (200, "it is ok now")]);
    let bench = running("true").hook(|it| it.health = vec![server.probe(Some("ok"))]);
    assert_eq!(bench.finish().outcome(), Outcome::Succeeded);
    assert_eq!(server.asked(), 3);
}

#[test]
fn stable_wants_good_answers_in_a_row() {
    let server = Server::answering(&[(200, ""), (500, ""), (200, ""), (200, "")]);
    let mut wanted = server.probe(None);
    (wanted.stable, wanted.attempts) = (2, 9);
    assert_eq!(running("true").hook(|it| it.health = vec![wanted]).finish().outcome(), Outcome::Succeeded);
    assert_eq!(server.asked(), 4);
}

#[test]
fn the_first_question_comes_after_start_after_and_the_next_after_interval() {
    let server = Server::answering(&[(503, ""), (200, "")]);
    let mut slow = server.probe(None);
    (slow.start_after, slow.interval) = (Duration::from_millis(700), Duration::from_millis(600));
    let began = Instant::now();
    assert_eq!(running("true").hook(|it| it.health = vec![slow]).finish().outcome(), Outcome::Succeeded);
    assert!(server.asked() == 2 && began.elapsed() >= Duration::from_millis(1300), "{:?}", began.elapsed());
}

#[test]
fn a_redirect_is_an_answer_and_is_not_followed() {
    let server = Server::answering(&[(302, "")]);
    assert_eq!(running("true").hook(|it| it.health = vec![server.probe(None)]).finish().outcome(), Outcome::Succeeded);
    assert_eq!(server.asked(), 1);
}

#[test]
fn health_that_fails_fails_the_run_where_there_are_no_releases_too() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let bench = running("true").hook(|it| it.health = vec![probe(Question::Tcp { address: free })]);
    let ended = bench.finish();
    let (word, reason) = ended.said();
    assert!(word == "failed" && reason.contains("took no connection: Connection refused"), "{reason}");
    assert_eq!(ended.outcome().step(), Some(RunStep::Health));
}

#[test]
fn a_port_that_takes_connections_is_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address").to_string();
    let bench = running("true").hook(|it| it.health = vec![probe(Question::Tcp { address })]);
    assert_eq!(bench.finish().outcome(), Outcome::Succeeded);
}

#[test]
fn a_command_is_asked_in_the_live_tree_as_often_as_it_takes() {
    let mut shop = Shop::running("true");
    let script = "cat index.html; echo x >> $DEPLOY_SHARED_PATH/asked; test $(wc -l < $DEPLOY_SHARED_PATH/asked) = 2";
    shop.hook.health = vec![probe(Question::Command { script: script.into() })];
    shop.commit(&[("index.html", "one\n")]);
    let ended = shop.deploy();
    assert_eq!((ended.outcome(), ended.printed()), (Outcome::Succeeded, vec!["one".to_owned(), "one".to_owned()]));
}

#[test]
fn a_command_that_hangs_is_ended_and_counts_as_a_bad_answer() {
    let mut slow = probe(Question::Command { script: "echo $$ > pid; sleep 1000".into() });
    (slow.timeout, slow.attempts) = (Duration::from_millis(200), 1);
    let ended = running("true").hook(|it| it.health = vec![slow]).finish();
    let reason = ended.said().1;
    assert!(reason.contains("was asked once") && reason.contains("took longer than its `timeout` of 0.2s"), "{reason}");
    let pid = super::bench::pid_in(&ended.bench.path("pid")).expect("a number");
    assert!(!super::bench::is_alive(pid));
}

#[test]
fn a_cancel_ends_the_wait_for_health() {
    let server = Server::answering(&[(503, "")]);
    let mut patient = server.probe(None);
    patient.interval = Duration::from_secs(1000);
    let mut keeper = running("true").hook(|it| it.health = vec![patient]).start();
    keeper.until("the first question", |_| server.asked() == 1).signal(Signal::TERM);
    let ended = keeper.finish();
    assert_eq!((ended.said().0, ended.outcome().step()), ("cancelled", Some(RunStep::Health)));
}

#[test]
fn the_runs_time_ends_the_wait_for_health() {
    let mut patient = probe(Question::Tcp { address: "127.0.0.1:1".into() });
    patient.start_after = Duration::from_secs(1000);
    let bench = running("true").hook(|it| {
        it.health = vec![patient];
        it.timeout = Duration::from_secs(1);
    });
    assert_eq!(bench.finish().said().0, "timed_out");
}
