//! No stranger's connections, bodies or requests keep anybody else out.

use std::{io::ErrorKind::WouldBlock, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};

use super::bodies::push_of;
use crate::{
    keeper::root::is_root,
    world::{
        forge::{GITHUB_PUSH, github, github_with},
        network::{LISTENER, connect, host, in_a_network, raise_descriptors},
        reception::{DEADLINE, HOOKS, World},
        sender::{Answer, Request, parse, send_by, send_short},
    },
};

/// Nothing of what a stranger sends slowly comes to an end by itself in these tests.
const PATIENT: &str = "  body_timeout: 1h\n";

fn push(id: &str) -> Request {
    github("push", id, GITHUB_PUSH.as_bytes())
}

/// The beginning of a request whose body never comes to its end.
fn endless() -> Vec<u8> {
    let mut bytes = format!("{}Content-Length: 1000\r\n\r\n", push("endless").head()).into_bytes();
    bytes.push(b'{');
    bytes
}

fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.try_read(&mut byte), Err(err) if err.kind() == WouldBlock)
}

/// Waits until exactly so many are open.
async fn until_open(count: usize, streams: &[TcpStream]) {
    let mut glances = interval(Duration::from_millis(5));
    let look = async {
        while streams.iter().filter(|it| is_open(it)).count() != count {
            glances.tick().await;
        }
    };
    let open = || streams.iter().filter(|it| is_open(it)).count();
    timeout(DEADLINE, look).await.unwrap_or_else(|_| panic!("{} are open, and not {count}", open()));
}

/// Connects from a host of the network, and begins a request that never ends.
async fn crowd(world: &World, number: u8, count: usize) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut stream = connect(host(number), world.address).await;
        // It may have had to go already.
        let _ = stream.write_all(&endless()).await;
        crowd.push(stream);
    }
    crowd
}

async fn answer_to(world: &World, number: u8, request: &Request) -> Answer {
    send_by(connect(host(number), world.address).await, request.bytes()).await
}

#[test]
fn as_root_530_slow_connections_of_one_address_keep_nobody_else_out() {
    if !is_root("as_root_530_slow_connections_of_one_address_keep_nobody_else_out") {
        return;
    }
    in_a_network(async || {
        let world = World::at(LISTENER, PATIENT, HOOKS).await;
        let slow = crowd(&world, 9, 530).await;
        assert_eq!(answer_to(&world, 2, &push("1")).await.verdict(), (202, "queued".into()));
        until_open(64, &slow).await;
        assert!(slow[530 - 64..].iter().all(is_open), "those who came last are there");
        assert_eq!(answer_to(&world, 9, &push("2")).await.status, 200, "its own proven delivery is taken, too");
    });
}

#[test]
fn as_root_where_many_addresses_take_all_connections_whoever_holds_few_stays_and_newcomers_come_in() {
    if !is_root("as_root_where_many_addresses_take_all_connections_whoever_holds_few_stays_and_newcomers_come_in") {
        return;
    }
    in_a_network(async || {
        let server = format!("{PATIENT}  max_connections: {{all: 40, address: 10}}\n");
        let world = World::at(LISTENER, &server, HOOKS).await;
        let bytes = push("1").bytes();
        let (first, last) = bytes.split_at(bytes.len() - 10);
        let mut early = connect(host(2), world.address).await;
        early.write_all(first).await.expect("a written part");
        let mut crowds = Vec::new();
        for number in 10..20 {
            crowds.extend(crowd(&world, number, 10).await);
        }
        assert_eq!(answer_to(&world, 3, &push("2")).await.verdict(), (202, "queued".into()));
        assert!(crowds.iter().filter(|it| is_open(it)).count() < 40);
        early.write_all(last).await.expect("the rest");
        let mut raw = Vec::new();
        timeout(DEADLINE, early.read_to_end(&mut raw)).await.expect("an answer in time").expect("no reset");
        assert_eq!(parse(&raw).expect("an answer").status, 200, "the same body as the other push");
    });
}

#[test]
fn as_root_unproven_bytes_of_one_address_put_off_nobody_elses_large_push() {
    const MIB: usize = 1024 * 1024;
    if !is_root("as_root_unproven_bytes_of_one_address_put_off_nobody_elses_large_push") {
        return;
    }
    in_a_network(async || {
        let world = World::at(LISTENER, PATIENT, HOOKS).await;
        let head = format!("{}Content-Length: {}\r\n\r\n", push("1").head(), 26 * MIB);
        // Eleven bodies of 26 MiB, less one byte each, would fill all that there is.
        let mut senders = JoinSet::new();
        for _ in 0..11 {
            let stream = connect(host(9), world.address).await;
            senders.spawn(send_short(stream, head.clone(), 26 * MIB));
        }
        // There is room for two of them in the share of an address: 64 MiB.
        for _ in 0..9 {
            let put_off = timeout(DEADLINE, senders.join_next()).await.expect("in time").expect("a sender");
            assert_eq!(put_off.expect("no panic").verdict(), (503, "busy".into()));
        }
        let large = github("push", "2", &push_of(25 * MIB));
        assert_eq!(answer_to(&world, 2, &large).await.verdict(), (202, "queued".into()));
        assert_eq!(senders.len(), 2, "those within the share go on");
    });
}

#[test]
fn as_root_refused_requests_of_one_address_are_no_others() {
    if !is_root("as_root_refused_requests_of_one_address_are_no_others") {
        return;
    }
    in_a_network(async || {
        let world = World::at(LISTENER, "  rate_limit: 3\n", HOOKS).await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
        let mut stream = connect(host(9), world.address).await;
        let mut closings = Vec::new();
        for _ in 0..4 {
            stream.write_all(&get("/wp-login.php")).await.expect("a written request");
            let mut raw = vec![0; 4096];
            let size = timeout(DEADLINE, stream.read(&mut raw)).await.expect("an answer in time").expect("no reset");
            let answer = parse(&raw[..size]).expect("an answer");
            closings.push((answer.status, answer.header("connection") == Some("close")));
        }
        assert_eq!(closings, [(404, false), (404, false), (404, false), (404, true)]);
        let forged = github_with("not-the-secret", "push", "1", b"{}");
        for _ in 0..3 {
            assert_eq!(answer_to(&world, 9, &forged).await.status, 401);
        }
        assert_eq!(answer_to(&world, 9, &forged).await.status, 429);
        assert_eq!(answer_to(&world, 2, &forged).await.status, 401);
        assert_eq!(answer_to(&world, 9, &push("1")).await.verdict(), (202, "queued".into()));
    });
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_forwarded_address_has_its_share_and_the_proxy_none() {
    let server = format!("{PATIENT}  max_connections: {{all: 100, address: 4}}\n  trusted_proxies: 127.0.0.1\n");
    let world = World::with(&server, HOOKS).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(world.address).await.expect("a connection"));
    }
    let from = |address: &str, id: &str| push(id).with("X-Forwarded-For", address);
    let slow = format!("{}Content-Length: 1000\r\n\r\n{{", from("192.0.2.9", "endless").head()).into_bytes();
    let mut sent = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(world.address).await.expect("a connection");
        stream.write_all(&slow).await.expect("a written request");
        sent.push(stream);
    }
    // The proxy is told, since to it a broken connection could mean that nobody is here.
    let mut answers = JoinSet::new();
    for mut stream in sent {
        answers.spawn(async move {
            let mut raw = Vec::new();
            stream.read_to_end(&mut raw).await.expect("no reset");
            parse(&raw).expect("an answer")
        });
    }
    for _ in 0..6 {
        let answer = timeout(DEADLINE, answers.join_next()).await.expect("an answer in time").expect("a sender");
        assert_eq!(answer.expect("no panic").verdict(), (503, "busy".into()));
    }
    let honest = from("192.0.2.1", "1").send(world.address).await;
    assert_eq!(honest.verdict(), (202, "queued".into()));
    assert_eq!(answers.len(), 4, "its share goes on");
    assert!(idle.iter().all(is_open), "the proxy's own connections count to nobody");
}

#[tokio::test]
async fn where_all_connections_are_taken_the_longest_idle_one_goes() {
    raise_descriptors();
    let world = World::with("  max_connections: {all: 50, address: 50}\n", HOOKS).await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(world.address).await.expect("a connection"));
    }
    let answer = Request { method: "GET", ..Request::post("/healthz", b"") }.send(world.address).await;
    assert_eq!(answer.status, 200);
    until_open(49, &idle).await;
    assert!(!is_open(&idle[0]) && idle[1..].iter().all(is_open), "it was another");
}
