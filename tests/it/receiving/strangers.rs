//! Who has not proven itself learns nothing, costs little, and locks nobody out.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use crate::world::{
    forge::{GITHUB_PUSH, GITLAB_TAG, github, github_with, gitlab},
    reception::{HOOKS, World},
    sender::{Answer, Request},
};

fn push() -> Request {
    github("push", "1", GITHUB_PUSH.as_bytes())
}

fn forged(body: &[u8]) -> Request {
    github_with("not-the-secret", "push", "1", body)
}

async fn verdict(world: &World, request: Request) -> (u16, String) {
    request.send(world.address).await.verdict()
}

#[tokio::test]
async fn no_byte_of_a_body_is_judged_before_the_proof() {
    let world = World::open().await;
    let mut answers = Vec::new();
    for body in [&b"{"[..], b"", b"\xff", b"{}", GITHUB_PUSH.as_bytes()] {
        answers.push(forged(body).send(world.address).await);
        answers.push(forged(body).without("X-GitHub-Event").send(world.address).await);
        answers.push(forged(body).set("X-GitHub-Event", "!").without("X-GitHub-Delivery").send(world.address).await);
    }
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (401, &answers[0].body));
    }
    assert_eq!(world.tally.failed_proofs(), answers.len() as u64);
    assert!(world.deliveries().await.is_empty() && world.runs().await.is_empty());
}

#[tokio::test]
async fn a_signature_that_is_missing_empty_repeated_or_malformed_is_answered_alike() {
    let world = World::open().await;
    let name = "X-Hub-Signature-256";
    let good = push().headers.iter().find(|(it, _)| it == name).expect("a signature").1.clone();
    let cases = [
        push().without(name),
        push().set(name, ""),
        push().with(name, &good),
        push().set(name, &good[7..]),
        push().set(name, &good.replace("sha256=", "SHA256=")),
        push().set(name, &good[..good.len() - 1]),
        push().without(name).with("X-Hub-Signature", &format!("sha1={}", "a".repeat(40))),
        gitlab("Tag Push Hook", Some("1"), GITLAB_TAG.as_bytes()).set("X-Gitlab-Token", ""),
        gitlab("Tag Push Hook", Some("1"), GITLAB_TAG.as_bytes()).with("X-Gitlab-Token", "lab-token-of-many-bytes"),
        gitlab("Tag Push Hook", Some("1"), GITLAB_TAG.as_bytes()).set("X-Gitlab-Token", "lab-token-of-many-byte"),
    ];
    for request in cases {
        assert_eq!(verdict(&world, request).await, (401, "unauthenticated".into()));
    }
    let upper = push().set(name, &format!("sha256={}", good[7..].to_uppercase()));
    assert_eq!(verdict(&world, upper).await, (202, "queued".into()));
}

#[tokio::test]
async fn the_secret_of_one_hook_opens_no_other() {
    let world = World::open().await;
    let elsewhere = Request { path: "/hooks/lab".into(), ..push() };
    assert_eq!(verdict(&world, elsewhere).await, (401, "unauthenticated".into()));
}

#[tokio::test]
async fn paths_come_first_then_methods() {
    let world = World::open().await;
    for path in
        ["/", "/hooks", "/hooks/", "/hooks/nobody", "/hooks/site/", "/hooks/Site", "/sources/site", "//hooks/site"]
    {
        for method in ["POST", "GET"] {
            let request = Request { path: path.into(), method, ..push() };
            assert_eq!(verdict(&world, request).await, (404, "not_found".into()), "{method} {path}");
        }
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "INVENTED"] {
        let answer = Request { method, ..push() }.send(world.address).await;
        assert_eq!(answer.verdict(), (405, "method_not_allowed".into()), "{method}");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    let with_query = Request { path: "/hooks/site?a=b".into(), ..push() };
    assert_eq!(verdict(&world, with_query).await, (202, "queued".into()));
}

#[tokio::test]
async fn the_order_of_judgement_is_address_size_form_proof() {
    let rest = HOOKS.replace("    queue: all", "    queue: all\n    allow_from: 192.0.2.0/24");
    let world = World::with("  max_body: 1KiB\n  trusted_proxies: 127.0.0.0/8\n", &rest).await;
    let bad_in_every_way = || forged(&[b'x'; 2000]).set("Content-Type", "text/plain");
    assert_eq!(verdict(&world, bad_in_every_way()).await, (403, "ip_denied".into()));
    let from = |request: Request| request.with("X-Forwarded-For", "192.0.2.1");
    assert_eq!(verdict(&world, from(bad_in_every_way())).await, (413, "too_large".into()));
    assert_eq!(verdict(&world, from(forged(b"{}").set("Content-Type", "x"))).await.0, 415);
    assert_eq!(verdict(&world, from(forged(b"{"))).await, (401, "unauthenticated".into()));
}

#[tokio::test]
async fn only_a_trusted_proxy_may_say_who_delivers() {
    let world = World::with("  allow_from: 192.0.2.0/24\n", HOOKS).await;
    let claimed = || push().with("X-Forwarded-For", "192.0.2.1");
    assert_eq!(verdict(&world, claimed()).await, (403, "ip_denied".into()));
    world.reload("  allow_from: 192.0.2.0/24\n  trusted_proxies: [127.0.0.1, 10.0.0.0/8]\n", HOOKS);
    let of = |lines: &[&str]| lines.iter().fold(push(), |request, line| request.with("X-Forwarded-For", line));
    for denied in [&[][..], &["192.0.2.1, 198.51.100.1"], &["192.0.2.1", "198.51.100.1"], &["nonsense"]] {
        assert_eq!(verdict(&world, of(denied)).await, (403, "ip_denied".into()), "{denied:?}");
    }
    for allowed in [&["192.0.2.1"][..], &["198.51.100.1, 192.0.2.1, 10.1.1.1"], &["nonsense", "192.0.2.1:80"]] {
        assert_ne!(verdict(&world, of(allowed)).await.0, 403, "{allowed:?}");
    }
}

#[tokio::test]
async fn too_many_failures_of_an_address_slow_down_that_address_and_never_the_forge() {
    let world = World::with("  rate_limit: 2\n  trusted_proxies: 127.0.0.1\n", HOOKS).await;
    let from = |address: &str, request: Request| request.with("X-Forwarded-For", address);
    let failed = async |address: &str| -> Answer { from(address, forged(b"{}")).send(world.address).await };
    for _ in 0..2 {
        assert_eq!(failed("192.0.2.1").await.verdict(), (401, "unauthenticated".into()));
    }
    let limited = failed("192.0.2.1").await;
    assert_eq!(limited.verdict(), (429, "rate_limited".into()));
    let seconds: u64 = limited.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=60).contains(&seconds));
    assert_eq!(failed("192.0.2.2").await.status, 401);
    assert_eq!(verdict(&world, from("192.0.2.1", push())).await, (202, "queued".into()));
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_which_secret_fitted_and_shows_neither_it_nor_signature_nor_payload() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    // Where there is one subscriber alone, other tests' threads, which have none, decide that a line is of interest to
    // nobody if they come by it first. Beside a second one, all are asked.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let world = World::open().await;
    let good = github_with("site-secret-old", "push", "guid-1", GITHUB_PUSH.as_bytes());
    assert_eq!(good.send(world.address).await.status, 202);
    assert_eq!(forged(GITHUB_PUSH.as_bytes()).send(world.address).await.status, 401);
    assert_eq!(gitlab("Tag Push Hook", None, GITLAB_TAG.as_bytes()).send(world.address).await.status, 202);
    drop(guard);
    let bytes = lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let log = String::from_utf8(bytes).expect("text");
    assert!(log.contains("proven by environment variable `SITE_SECRET_OLD`"), "{log}");
    assert!(log.contains("no secret of the source fits header `X-Hub-Signature-256`"), "{log}");
    let signature = &good.headers.iter().find(|(it, _)| it == "X-Hub-Signature-256").expect("a signature").1[7..];
    for hidden in ["site-secret", "lab-token", signature, "Update README", "noreply.github.com"] {
        assert!(!log.contains(hidden), "{hidden} is in {log}");
    }
}

#[tokio::test]
async fn a_load_balancer_can_ask_whether_deliveries_are_taken() {
    let world = World::open().await;
    let ask = |method: &'static str| Request { method, ..Request::post("/healthz", b"") };
    assert_eq!(ask("GET").send(world.address).await.verdict(), (200, "ok".into()));
    assert_eq!(ask("HEAD").send(world.address).await.status, 200);
    assert_eq!(ask("POST").send(world.address).await.header("allow"), Some("GET, HEAD"));
    world.store.close().await;
    assert_eq!(verdict(&world, push()).await, (503, "unavailable".into()));
    let answer = ask("GET").send(world.address).await;
    assert_eq!(answer.verdict(), (503, "unavailable".into()));
    assert!(answer.header("retry-after").is_some());
}
