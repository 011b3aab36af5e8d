//! A stop loses nothing that is under way, and waits for nobody for ever.

use std::io::ErrorKind::WouldBlock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::world::{
    forge::{GITHUB_PUSH, github},
    reception::{DEADLINE, World},
    sender::{Request, parse},
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
async fn who_connects_beyond_the_cap_waits_until_another_is_gone() {
    // A connection takes a descriptor at each end, and both ends are in this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("as many descriptors as may be");
    let world = World::open().await;
    let mut idle = Vec::new();
    for _ in 0..512 {
        idle.push(TcpStream::connect(world.address).await.expect("a connection"));
    }
    let answer = Request { method: "GET", ..Request::post("/healthz", b"") }.send(world.address).await;
    assert_eq!(answer.status, 200);
    let is_gone =
        |it: TcpStream| !it.into_std().expect("a stream").peek(&mut [0]).is_err_and(|err| err.kind() == WouldBlock);
    assert!(idle.into_iter().any(is_gone), "it was answered beside all the others");
}
