//! A closed loop of senders: each sends its next push when its last one was answered.
//!
//! Invariant: an answer that was not expected breaks the measurement off.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use landfall::model::push::CommitId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::pushes::Pushes;

/// Not counted: connections, caches and threads settle.
const WARM_UP: Duration = Duration::from_millis(200);

/// What a load gave.
pub struct Load {
    /// Answers in a second.
    pub per_second: f64,
    /// How long each took.
    pub latencies: Vec<Duration>,
}

/// Sends over so many connections, for so long, and expects this status each time.
pub fn press(
    address: SocketAddr,
    connections: usize,
    span: Duration,
    pushes: &Arc<Pushes>,
    status: &'static str,
) -> Result<Load> {
    // One thread for all of them, so that it takes no more than one of the processors.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let from = Instant::now() + WARM_UP;
        let until = from + span;
        let mut senders = JoinSet::new();
        for _ in 0..connections {
            senders.spawn(send(address, pushes.clone(), from, until, status));
        }
        let mut latencies = Vec::new();
        while let Some(sent) = senders.join_next().await {
            latencies.extend(sent??);
        }
        Ok(Load { per_second: latencies.len() as f64 / span.as_secs_f64(), latencies })
    })
}

/// One sender. It counts what was answered within the span.
async fn send(
    address: SocketAddr,
    pushes: Arc<Pushes>,
    from: Instant,
    until: Instant,
    status: &str,
) -> Result<Vec<Duration>> {
    let mut connection = Connection::open(address).await?;
    let mut latencies = Vec::new();
    let mut request = String::new();
    loop {
        pushes.write_next(&mut request);
        let begin = Instant::now();
        connection.ask(&request, status).await?;
        let end = Instant::now();
        if end > until {
            return Ok(latencies);
        }
        if begin >= from {
            latencies.push(end - begin);
        }
    }
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Opens it.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(4096) })
    }

    /// Sends a request and reads the whole answer.
    pub async fn ask(&mut self, request: &str, status: &str) -> Result<()> {
        self.stream.write_all(request.as_bytes()).await?;
        self.answer.clear();
        while !is_whole(&self.answer) {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the daemon closed a connection");
            }
        }
        if self.answer.get(9..12) != Some(status.as_bytes()) {
            bail!("not {status}: {}", String::from_utf8_lossy(&self.answer));
        }
        Ok(())
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = memchr::memmem::find(answer, b"\r\n\r\n") else { return false };
    let name = b"content-length: ";
    let Some(at) = memchr::memmem::find(&answer[..head], name) else { return true };
    let digits = answer[at + name.len()..head].iter().take_while(|it| it.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    answer.len() >= head + 4 + length
}

/// Sends one push over a connection of its own, and gives the time just before it was sent.
pub fn push_once(address: SocketAddr, pushes: &Pushes) -> Result<Instant> {
    send_once(address, |request| pushes.write_next(request))
}

/// The same with a push of this commit.
pub fn push_commit(address: SocketAddr, pushes: &Pushes, commit: &CommitId) -> Result<Instant> {
    send_once(address, |request| pushes.write_push_of(commit, request))
}

fn send_once(address: SocketAddr, write: impl FnOnce(&mut String)) -> Result<Instant> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::open(address).await?;
        let mut request = String::new();
        write(&mut request);
        let begin = Instant::now();
        connection.ask(&request, "202").await.context("push")?;
        Ok(begin)
    })
}
