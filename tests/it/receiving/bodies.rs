//! Whatever the shape and size of a request, there is one answer of the table, and it can be read.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};

use crate::world::{
    forge::{GITHUB_PUSH, github},
    reception::{DEADLINE, HOOKS, World},
    sender::{Request, exchange, parse, send, send_short},
};

/// A push of exactly so many bytes.
pub(super) fn push_of(bytes: usize) -> Vec<u8> {
    let mut body = GITHUB_PUSH.trim_end().strip_suffix('}').expect("an object").as_bytes().to_vec();
    body.extend_from_slice(b",\"padding\":\"");
    body.resize(bytes - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

#[tokio::test]
async fn an_empty_body_and_one_that_is_not_json_are_bad_json_once_proven() {
    let world = World::open().await;
    for (number, body) in [&b""[..], b"hello", b"\0\0", b"\xff\xfe"].into_iter().enumerate() {
        let answer = github("push", &number.to_string(), body).send(world.address).await;
        assert_eq!(answer.verdict(), (400, "bad_json".into()), "{body:?}");
    }
    let without_length = Request::post("/hooks/site", b"").with("Content-Type", "application/json");
    let bytes = format!("{}\r\n", without_length.head()).into_bytes();
    assert_eq!(send(world.address, bytes).await.verdict(), (401, "unauthenticated".into()));
}

#[tokio::test]
async fn the_largest_body_that_a_forge_sends_is_queued() {
    let world = World::open().await;
    let body = push_of(25 * 1024 * 1024);
    assert_eq!(github("push", "1", &body).send(world.address).await.verdict(), (202, "queued".into()));
    assert_eq!(world.store.payload(world.deliveries().await[0].id).await.expect("a body"), Some(body));
}

#[tokio::test]
async fn a_body_at_the_limit_is_taken_and_one_byte_more_is_not() {
    let world = World::with("  max_body: 64KiB\n", HOOKS).await;
    let at_limit = github("push", "1", &push_of(64 * 1024));
    let beyond = github("push", "2", &push_of(64 * 1024 + 1));
    assert_eq!(send(world.address, beyond.chunked(1000)).await.verdict(), (413, "too_large".into()));
    assert_eq!(beyond.send(world.address).await.verdict(), (413, "too_large".into()));
    assert_eq!(send(world.address, at_limit.chunked(1000)).await.verdict(), (202, "queued".into()));
    assert_eq!(world.deliveries().await.len(), 1);
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_is_sent() {
    let world = World::open().await;
    let head = github("push", "1", b"").head();
    let announced = format!("{head}Content-Length: {}\r\n\r\n", 26 * 1024 * 1024 + 1);
    assert_eq!(send(world.address, announced.into_bytes()).await.verdict(), (413, "too_large".into()));
    let waiting = format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", u64::MAX / 2);
    let raw = exchange(world.address, waiting.into_bytes()).await;
    assert!(raw.starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&raw));
}

#[tokio::test]
async fn a_sender_of_a_much_too_large_body_can_read_why() {
    let world = World::open().await;
    let request = Request { body: vec![b'x'; 40 * 1024 * 1024], ..github("push", "1", b"") };
    assert_eq!(request.send(world.address).await.verdict(), (413, "too_large".into()));
    let wrong = request.clone().set("Content-Type", "text/plain");
    let chunked = wrong.chunked(1024 * 1024);
    assert_eq!(send(world.address, chunked).await.verdict(), (415, "unsupported_media_type".into()));
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_at_the_limit() {
    let world = World::with("  max_body: 64KiB\n", HOOKS).await;
    let mut stream = TcpStream::connect(world.address).await.expect("a connection");
    let head = format!("{}Transfer-Encoding: chunked\r\n\r\n", github("push", "1", b"").head());
    stream.write_all(head.as_bytes()).await.expect("a written head");
    let (mut reader, mut writer) = stream.into_split();
    let endless = tokio::spawn(async move { while writer.write_all(b"4\r\nxxxx\r\n").await.is_ok() {} });
    let mut raw = vec![0; 4096];
    let size = timeout(DEADLINE, reader.read(&mut raw)).await.expect("an answer in time").expect("no reset");
    assert_eq!(parse(&raw[..size]).expect("an answer").verdict(), (413, "too_large".into()));
    drop(reader);
    timeout(DEADLINE, endless).await.expect("the sender is cut off").expect("no panic");
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_answered_with_408() {
    let world = World::with("  body_timeout: 200ms\n", HOOKS).await;
    let bytes = github("push", "1", GITHUB_PUSH.as_bytes()).bytes();
    let almost = bytes[..bytes.len() - 1].to_vec();
    assert_eq!(send(world.address, almost).await.verdict(), (408, "too_slow".into()));
    assert!(world.deliveries().await.is_empty());
}

#[tokio::test]
async fn bodies_beyond_what_may_be_in_memory_are_put_off_and_ordinary_pushes_are_not() {
    const MIB: usize = 1024 * 1024;
    let world = World::with("  body_timeout: 2m\n", HOOKS).await;
    let head = format!("{}Content-Length: {}\r\n\r\n", github("push", "1", b"").head(), 26 * MIB);
    // Eleven senders of 26 MiB each, less one byte, which none of them ever sends; there is room for not quite ten.
    let mut senders = JoinSet::new();
    for _ in 0..11 {
        let (address, head) = (world.address, head.clone());
        senders.spawn(async move {
            send_short(TcpStream::connect(address).await.expect("a connection"), head, 26 * MIB).await
        });
    }
    let first =
        timeout(DEADLINE, senders.join_next()).await.expect("one is put off").expect("a sender").expect("no panic");
    assert_eq!(first.verdict(), (503, "busy".into()));
    assert!(first.header("retry-after").is_some());
    let ordinary = github("push", "2", GITHUB_PUSH.as_bytes()).send(world.address).await;
    assert_eq!(ordinary.verdict(), (202, "queued".into()));
    senders.shutdown().await;
    let mut glances = interval(Duration::from_millis(20));
    let large = github("push", "3", &push_of(25 * MIB));
    let taken = async {
        while large.send(world.address).await.status != 202 {
            glances.tick().await;
        }
    };
    timeout(DEADLINE, taken).await.expect("the room is given back");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_stored_by_nobody() {
    let world = World::open().await;
    let bytes = github("push", "1", GITHUB_PUSH.as_bytes()).bytes();
    let mut stream = TcpStream::connect(world.address).await.expect("a connection");
    stream.write_all(&bytes[..bytes.len() - 1]).await.expect("a written part");
    drop(stream);
    let broken = format!("{}Transfer-Encoding: chunked\r\n\r\nzz\r\n", github("push", "2", b"").head());
    let raw = exchange(world.address, broken.into_bytes()).await;
    assert!(raw.is_empty() || raw.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&raw));
    github("push", "3", GITHUB_PUSH.as_bytes()).send(world.address).await;
    let stored = world.deliveries().await;
    assert_eq!(stored.iter().map(|it| it.delivery_id.as_deref()).collect::<Vec<_>>(), [Some("3")]);
}

#[tokio::test]
async fn other_media_and_compressed_bodies_are_refused() {
    let world = World::open().await;
    let push = || github("push", "1", GITHUB_PUSH.as_bytes());
    let cases = [
        push().set("Content-Type", "text/plain"),
        push().set("Content-Type", "application/json; charset=latin1"),
        push().without("Content-Type"),
        push().with("Content-Type", "application/json"),
        push().with("Content-Encoding", "gzip"),
    ];
    for request in cases {
        assert_eq!(request.send(world.address).await.verdict(), (415, "unsupported_media_type".into()));
    }
}

#[tokio::test]
async fn headers_beyond_32_kib_are_answered_with_431() {
    let world = World::open().await;
    let of = |bytes: usize| github("push", "1", GITHUB_PUSH.as_bytes()).with("X-Padding", &"x".repeat(bytes));
    assert_eq!(of(31 * 1024).send(world.address).await.status, 202);
    for bytes in [33 * 1024, 60 * 1024, 1024 * 1024] {
        assert_eq!(of(bytes).send(world.address).await.status, 431, "{bytes}");
    }
    let mut many = github("push", "1", GITHUB_PUSH.as_bytes());
    many.headers.extend((0..200).map(|it| (format!("X-{it}"), "x".to_owned())));
    assert_eq!(many.send(world.address).await.status, 431);
    let endless_line = Request::post(&format!("/hooks/{}", "x".repeat(40 * 1024)), b"");
    assert_eq!(endless_line.send(world.address).await.status, 431);
}

#[tokio::test]
async fn no_request_whatever_is_answered_outside_the_table() {
    let world = World::open().await;
    let long = format!("POST /hooks/site HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", "9".repeat(40));
    let requests: Vec<&[u8]> = vec![
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST http://other/hooks/site HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /hooks/site HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /hooks/site HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /hooks/site HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /hooks/site HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /hooks/%2e%2e/site HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /hooks/si\xffte HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"POST /hooks/site HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        long.as_bytes(),
    ];
    for request in requests {
        let mut stream = TcpStream::connect(world.address).await.expect("a connection");
        stream.write_all(request).await.expect("a written request");
        stream.shutdown().await.expect("a closed half");
        let mut raw = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut raw)).await.expect("an end in time").expect("no reset");
        let shown = String::from_utf8_lossy(request).into_owned();
        if let Some(answer) = parse(&raw) {
            let is_known = [200, 400, 401, 404, 405, 413, 414, 415, 431].contains(&answer.status);
            assert!(is_known, "{shown:?} was answered with {answer:?}");
        }
    }
    assert!(world.deliveries().await.is_empty());
}
