//! The public listener: takes connections, keeps them within bounds, and hands each request to [`Reception`].
//!
//! Invariant: every connection has a deadline at each of its stages and an end, their number is capped, and a delivery
//! whose body is in is carried to its commit whatever its sender or a stop does meanwhile.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

use crate::{
    hooks::Hooks,
    store::Store,
    web::{limits::Tally, receive::Reception, reply::Reply},
};

/// Half of the descriptors that a process gets by default; the rest is for store, runs and mail.
const CONNECTIONS_MAX: usize = 512;
/// Request line and headers, in all. Beyond it, or beyond a hundred headers, hyper answers 431 by itself.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// What one connection may read ahead.
const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// All headers of a request must be in by then; an idle connection is closed by then, too.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// No connection lives longer, so one that never reads its answers gives its place back.
const LIFE_MAX: Duration = Duration::from_secs(5 * 60);
/// What a connection gets to end well once it should: as long as a body may take by default, and a little more.
const END_WITHIN: Duration = Duration::from_secs(12);
/// How long the rest of an unwanted body is thrown away, so that its sender reads our answer and not a reset.
const LINGER: Duration = Duration::from_secs(3);
/// The pause after a failed `accept`, which means that descriptors or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes deliveries until `stop`, then ends what is under way and returns.
pub async fn serve_public(
    listener: TcpListener,
    store: Store,
    hooks: watch::Receiver<Arc<Hooks>>,
    tally: Arc<Tally>,
    stop: CancellationToken,
) {
    let reception = Arc::new(Reception::open(store, hooks, tally));
    let deliveries = TaskTracker::new();
    let mut connections = JoinSet::new();
    while !stop.is_cancelled() {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, peer)) => {
                    let counter = Counter { reception: reception.clone(), deliveries: deliveries.clone(), peer: peer.ip() };
                    connections.spawn(attend(stream, counter, stop.clone()));
                }
                Err(err) => pause_after(&err).await,
            },
            Some(ended) = connections.join_next() => note_panic(ended),
            () = stop.cancelled() => (),
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note_panic(ended);
    }
    deliveries.close();
    deliveries.wait().await;
}

async fn pause_after(err: &io::Error) {
    warn!("cannot take a connection: {err}");
    sleep(ACCEPT_PAUSE).await;
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(err) = ended {
        error!("a connection ended in a panic: {err}");
    }
}

/// What one connection needs to hand in its requests.
#[derive(Clone)]
struct Counter {
    reception: Arc<Reception>,
    deliveries: TaskTracker,
    peer: IpAddr,
}

impl Counter {
    /// Answers one request. The work is a task of its own: when the connection goes away, the body breaks off or the
    /// task goes on to its commit.
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let work = self.deliveries.spawn(self.reception.answer(self.peer, request));
        let reply = work.await.unwrap_or_else(|err| {
            error!("answering a request ended in a panic: {err}");
            Reply::Unavailable
        });
        Ok(reply.into_response())
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// Serves one connection to its end.
async fn attend(stream: TcpStream, counter: Counter, stop: CancellationToken) {
    if let Err(err) = stream.set_nodelay(true) {
        debug!("cannot turn off the delay of a connection: {err}");
    }
    let service = service_fn(move |request| -> Answer { Box::pin(counter.clone().answer(request)) });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(READ_AHEAD_BYTES_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut is_ending = false;
    let mut deadline = pin!(sleep(LIFE_MAX));
    loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                if let Err(err) = ended {
                    debug!("a connection broke: {err}");
                }
                break;
            }
            () = stop.cancelled(), if !is_ending => (),
            () = deadline.as_mut() => if is_ending { return },
        }
        is_ending = true;
        Pin::new(&mut connection).graceful_shutdown();
        deadline.as_mut().reset(Instant::now() + END_WITHIN);
    }
    if !stop.is_cancelled() {
        linger(connection.into_parts().io.into_inner()).await;
    }
}

/// Closes our side, and reads what the other still sends. A close with unread bytes would be a reset, and a reset
/// takes away the answer that lies unread at the other end.
async fn linger(mut stream: TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        let mut scrap = [0; 8 * 1024];
        while stream.read(&mut scrap).await? > 0 {}
        io::Result::Ok(())
    };
    match timeout(LINGER, drain).await {
        Ok(Ok(())) => (),
        Ok(Err(err)) => debug!("a connection broke while it was closed: {err}"),
        Err(_) => debug!("a connection was cut: it still sent after its answer"),
    }
}
