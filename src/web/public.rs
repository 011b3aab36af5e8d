//! The public listener: takes connections, keeps them within bounds, and hands each request to [`Reception`].
//!
//! Invariant: every connection has a deadline at each of its stages and an end, their number is capped in all and for each
//! address, and a delivery whose body is in is carried to its commit whatever its sender or a stop does meanwhile.

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
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

use crate::{
    hooks::{Connections, Hooks},
    store::Store,
    web::{
        address::Peer,
        limits::{Failures, Log, Tally},
        listeners::{Listeners, Stream},
        receive::{Reception, Visit},
        reply::Reply,
        seats::{Full as NoRoom, Seats},
    },
};

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
/// How long a connection by which no request has come yet is still waited for at a stop: its sender may be just writing.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// What a proxy's connection gets to take the answer with which a request of it is sent away.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// The pause after a failed `accept`, which means that descriptors or memory have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes deliveries until `stop`, then those whose connections wait already, ends what is under way and returns. No more
/// than `connections_max` connections are open at once, whatever hooks.yaml says.
pub async fn serve_public(
    mut listeners: Listeners,
    connections_max: usize,
    store: Store,
    hooks: watch::Receiver<Arc<Hooks>>,
    tally: Arc<Tally>,
    stop: CancellationToken,
) {
    let reception = Arc::new(Reception::open(store, hooks.clone(), tally));
    let mut hall = Hall {
        reception,
        hooks,
        connections_max,
        seats: Arc::default(),
        sent_away: Failures::default(),
        deliveries: TaskTracker::new(),
        connections: JoinSet::new(),
        stop: stop.clone(),
    };
    let seats = Arc::clone(&hall.seats);
    while !stop.is_cancelled() {
        // Listen before looking: a seat that becomes free in between must ring this bell.
        let mut room = pin!(seats.room_bell());
        room.as_mut().enable();
        let has_room = seats.has_room(hall.limits());
        tokio::select! {
            accepted = listeners.accept(), if has_room => match accepted {
                Ok((stream, peer)) => hall.admit(stream, peer),
                Err(err) => pause_after(&err).await,
            },
            Some(ended) = hall.connections.join_next() => note_panic(ended),
            () = room, if !has_room => (),
            () = stop.cancelled() => (),
        }
    }
    for (stream, peer) in listeners.close() {
        hall.admit(stream, peer);
    }
    while let Some(ended) = hall.connections.join_next().await {
        note_panic(ended);
    }
    hall.deliveries.close();
    hall.deliveries.wait().await;
}

/// Where connections are taken in.
struct Hall {
    reception: Arc<Reception>,
    hooks: watch::Receiver<Arc<Hooks>>,
    connections_max: usize,
    seats: Arc<Seats>,
    /// Connections that had to go, by address; counted for the log alone.
    sent_away: Failures,
    deliveries: TaskTracker,
    connections: JoinSet<()>,
    stop: CancellationToken,
}

impl Hall {
    fn limits(&self) -> Connections {
        let written = self.hooks.borrow().server.max_connections;
        Connections { all: written.all.min(self.connections_max), ..written }
    }

    /// Gives a connection its seat, or closes it.
    fn admit(&mut self, stream: Stream, peer: Peer) {
        let (limits, now) = (self.limits(), Instant::now());
        let holder = peer.share(&self.hooks.borrow().server.trusted_proxies);
        let seat = match self.seats.take(holder, limits, now) {
            Ok((seat, gone)) => {
                if let Some(why) = gone {
                    self.note_crowd(holder, why, limits, "the one that had been idle for longest was closed");
                }
                seat
            }
            Err(why) => return self.note_crowd(holder, why, limits, "all of them deliver, so this one was closed"),
        };
        let begun = CancellationToken::new();
        let visit = Visit { peer, seat: Arc::new(seat), limits };
        let counter = Counter { reception: self.reception.clone(), deliveries: self.deliveries.clone(), visit, begun };
        let stop = self.stop.clone();
        match stream {
            Stream::Tcp(stream) => {
                if let Err(err) = stream.set_nodelay(true) {
                    debug!("cannot turn off the delay of a connection: {err}");
                }
                self.connections.spawn(attend(stream, counter, stop));
            }
            Stream::Unix(stream) => {
                self.connections.spawn(attend(stream, counter, stop));
            }
        }
    }

    fn note_crowd(&self, holder: Option<IpAddr>, why: NoRoom, limits: Connections, what: &str) {
        let (of_whom, crowd) = match (why, holder) {
            (NoRoom::Address, Some(address)) => {
                (holder, format!("{address} holds {} connections, as many as one address may", limits.address))
            }
            (NoRoom::Address | NoRoom::All, _) => (None, format!("all {} connections are taken", limits.all)),
        };
        match self.sent_away.note(of_whom, u32::MAX, Instant::now()).log {
            Log::Line => warn!("{crowd}: {what}"),
            Log::Last => warn!("{crowd}: {what}; more of this in the same minute is not logged"),
            Log::Nothing => (),
        }
    }
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
    visit: Visit,
    /// Cancelled when the first request has come.
    begun: CancellationToken,
}

impl Counter {
    /// Answers one request. The work is a task of its own: when the connection goes away, the body breaks off or the
    /// task goes on to its commit.
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        self.begun.cancel();
        let work = self.deliveries.spawn(self.reception.answer(self.visit, request));
        Ok(work.await.unwrap_or_else(|err| {
            error!("answering a request ended in a panic: {err}");
            Reply::Unavailable.into_response()
        }))
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// Serves one connection to its end.
async fn attend<S: AsyncRead + AsyncWrite + Unpin>(stream: S, counter: Counter, stop: CancellationToken) {
    let (seat, begun) = (Arc::clone(&counter.visit.seat), counter.begun.clone());
    let service = service_fn(move |request| -> Answer { Box::pin(counter.clone().answer(request)) });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_header_size(HEADER_BYTES_MAX)
        .max_buf_size(READ_AHEAD_BYTES_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let (mut is_ending, mut is_leaving) = (false, false);
    let mut deadline = pin!(sleep(LIFE_MAX));
    let mut last_call = pin!(last_call(&stop, &begun));
    loop {
        tokio::select! {
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => {
                if let Err(err) = ended {
                    debug!("a connection broke: {err}");
                }
                break;
            }
            () = seat.left(), if !is_leaving => {
                // Where no request has come yet, nobody waits for an answer.
                if !seat.speaks_for_others() || !begun.is_cancelled() {
                    return;
                }
                is_leaving = true;
            }
            () = last_call.as_mut(), if !is_ending => (),
            () = deadline.as_mut() => if is_ending { return },
        }
        is_ending = true;
        Pin::new(&mut connection).graceful_shutdown();
        deadline.as_mut().reset(Instant::now() + if is_leaving { LEAVE_WITHIN } else { END_WITHIN });
    }
    if !stop.is_cancelled() {
        linger(connection.into_parts().io.into_inner()).await;
    }
}

/// Waits until a stop, and then for a request that may be on its way, if none has come by this connection yet.
async fn last_call(stop: &CancellationToken, begun: &CancellationToken) {
    stop.cancelled().await;
    // Whether it came or not, the time is over.
    let _ = timeout(LAST_REQUEST, begun.cancelled()).await;
}

/// Closes our side, and reads what the other still sends. A close with unread bytes would be a reset, and a reset
/// takes away the answer that lies unread at the other end.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
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
