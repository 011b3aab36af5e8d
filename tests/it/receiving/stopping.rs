//! A stop loses nothing that is under way, and waits for nobody for ever.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{interval, timeout},
};

use crate::world::{
    forge::{GITHUB_PUSH, github},
    reception::{DEADLINE, World},
    sender::parse,
};

#[tokio::test]
async fn a_delivery_under_way_is_carried_to_its_answer() {
    let mut world = World::open().await;
    let bytes = github("push", "1", GITHUB_PUSH.as_bytes()).bytes();
    let (first, last) = bytes.split_at(bytes.len() - 10);
    let mut stream = TcpStream::connect(world.address).await.expect("a connection");
    stream.write_all(first).await.expect("a written part");
    // A second request on a connection of its own says that the listener has turned to the first.
    assert_eq!(github("ping", "2", b"{}").send(world.address).await.status, 200);
    world.stop.cancel();
    stream.write_all(last).await.expect("the rest");
    let mut raw = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut raw)).await.expect("an answer in time").expect("no reset");
    assert_eq!(parse(&raw).expect("an answer").verdict(), (202, "queued".into()));
    world.stopped().await;
    assert!(TcpStream::connect(world.address).await.is_err());
    assert_eq!(world.runs().await.len(), 1);
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_a_stop() {
    let mut world = World::open().await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(world.address).await.expect("a connection"));
    }
    assert_eq!(github("ping", "1", b"{}").send(world.address).await.status, 200);
    world.stopped().await;
}

#[tokio::test]
async fn one_connection_can_carry_several_deliveries() {
    let world = World::open().await;
    let mut stream = TcpStream::connect(world.address).await.expect("a connection");
    for number in 1..=3 {
        let bytes = github("ping", &number.to_string(), b"{}").bytes();
        let kept = String::from_utf8(bytes).expect("text").replace("Connection: close\r\n", "");
        stream.write_all(kept.as_bytes()).await.expect("a written request");
        let mut raw = vec![0; 4096];
        let size = timeout(DEADLINE, stream.read(&mut raw)).await.expect("an answer in time").expect("no reset");
        assert_eq!(parse(&raw[..size]).expect("an answer").status, 200);
    }
    assert_eq!(world.deliveries().await.len(), 3);
}

#[tokio::test]
async fn headers_that_never_end_are_cut_off() {
    let world = World::open().await;
    let mut stream = TcpStream::connect(world.address).await.expect("a connection");
    stream.write_all(b"POST /hooks/site HTTP/1.1\r\nHost: x\r\n").await.expect("a written part");
    let mut raw = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut raw)).await.expect("an end in time").expect("no reset");
}

#[tokio::test]
async fn what_waits_in_the_accept_queue_at_a_stop_is_answered() {
    let mut world = World::open().await;
    // Nothing is awaited from here to the stop, so the listener's task has no chance to accept any of them.
    let mut waiting = Vec::new();
    for number in 0..20 {
        let mut stream = std::net::TcpStream::connect(world.address).expect("a connection");
        let push = github("push", &number.to_string(), GITHUB_PUSH.as_bytes());
        std::io::Write::write_all(&mut stream, &push.bytes()).expect("a written request");
        stream.set_nonblocking(true).expect("a mode");
        waiting.push(TcpStream::from_std(stream).expect("a stream"));
    }
    world.stop.cancel();
    let mut queued = 0;
    for mut stream in waiting {
        let mut raw = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut raw)).await.expect("an answer in time").expect("no reset");
        let answer = parse(&raw).expect("an answer");
        assert!([200, 202].contains(&answer.status), "{answer:?}");
        queued += usize::from(answer.status == 202);
    }
    assert_eq!(queued, 1, "the same body twenty times");
    world.stopped().await;
}

#[tokio::test]
async fn who_is_about_to_write_at_a_stop_is_waited_for_a_moment() {
    let mut world = World::open().await;
    let mut stream = TcpStream::connect(world.address).await.expect("a connection");
    assert_eq!(github("ping", "1", b"{}").send(world.address).await.status, 200);
    world.stop.cancel();
    // The listener has closed when nobody can connect any more, so it has heard of the stop.
    let mut glances = interval(Duration::from_millis(1));
    let closed = async {
        while TcpStream::connect(world.address).await.is_ok() {
            glances.tick().await;
        }
    };
    timeout(DEADLINE, closed).await.expect("a closed listener");
    stream.write_all(&github("push", "2", GITHUB_PUSH.as_bytes()).bytes()).await.expect("a written request");
    let mut raw = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut raw)).await.expect("an answer in time").expect("no reset");
    assert_eq!(parse(&raw).expect("an answer").verdict(), (202, "queued".into()));
    world.stopped().await;
}
