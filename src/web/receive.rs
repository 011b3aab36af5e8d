//! Carries one request from its path to its commit: path, method, address, size, form, proof, then everything else.
//!
//! Invariant: the order above is the order of judgement; whatever is proven is stored before it is answered, and
//! nothing else is.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Response, body::Body, body::Incoming};
use jiff::Timestamp;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, error, field, info, info_span, warn};

use crate::{
    forge::{Admitted, Check, Media, Proven, Unauthenticated, admit},
    hooks::{Connections, Hooks},
    model::{
        name::{HookName, SourceName},
        source::{Source, SourcePath},
    },
    route::{Routed, of_ping, route},
    store::{Arrival, Repository, Store, Verdict},
    web::{
        address::{Peer, Sender},
        budget::{Budget, Share},
        instance::{self, Foreign},
        limits::{Failures, Log, Tally},
        reply::{Aside, Reply},
        seats::Seat,
    },
};

/// A body beyond this is read on a thread that may block: parsing it would hold up other connections.
const READ_IN_PLACE_BYTES_MAX: usize = 256 * 1024;

/// How long a failed commit makes this listener look ill.
const FAILURE_COUNTS_FOR: Duration = Duration::from_secs(10);

/// Where deliveries come in.
pub(super) struct Reception {
    store: Store,
    hooks: watch::Receiver<Arc<Hooks>>,
    failed_proofs: Failures,
    /// Counted for the log alone.
    denied_addresses: Failures,
    /// Whatever was refused, by whose share it counts to.
    refusals: Failures,
    budget: Arc<Budget>,
    tally: Arc<Tally>,
    /// The GitLab instances that were not expected, as far as the log has told of them.
    instances_told: instance::Told,
    /// When the store last failed to commit, if it has not committed since. Held for an assignment only.
    store_failed_at: Mutex<Option<Instant>>,
}

/// The connection that a request came by.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) peer: Peer,
    pub(super) seat: Arc<Seat>,
    /// The caps of when it was made.
    pub(super) limits: Connections,
}

/// What is at a path.
enum Place {
    Delivery(SourcePath),
    Health,
    Nowhere,
}

impl Reception {
    /// Opens with the byte budget that the hooks of now ask for.
    pub(super) fn open(store: Store, hooks: watch::Receiver<Arc<Hooks>>, tally: Arc<Tally>) -> Self {
        let budget = Budget::for_bodies_of(hooks.borrow().server.max_body_bytes);
        let (failed_proofs, denied_addresses, refusals) = Default::default();
        let (instances_told, store_failed_at) = (instance::Told::default(), Mutex::new(None));
        Self { store, hooks, failed_proofs, denied_addresses, refusals, budget, tally, instances_told, store_failed_at }
    }

    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, visit: Visit, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let hooks = Arc::clone(&self.hooks.borrow());
        let proxies = &hooks.server.trusted_proxies;
        let sender = Sender::of(visit.peer, request.headers(), proxies);
        let holder = sender.share(proxies);
        let reply = match visit.seat.begin_request(holder, visit.limits, Instant::now()) {
            Ok(()) => self.judge_place(&hooks, &sender, &visit.seat, request).await,
            Err(_) => Reply::Busy,
        };
        let now = Instant::now();
        visit.seat.end_request(now);
        // Who asks for refusal after refusal has to connect for each, as far as the share of the address goes.
        let limit = hooks.server.rate_limit;
        let is_enough =
            reply.is_refusal() && holder.is_some() && self.refusals.note(holder, limit, now).retry_after.is_some();
        if is_enough { reply.into_last_response() } else { reply.into_response() }
    }

    async fn judge_place(&self, hooks: &Arc<Hooks>, sender: &Sender, seat: &Seat, request: Request<Incoming>) -> Reply {
        match place(request.uri().path()) {
            Place::Nowhere => Reply::NotFound,
            Place::Health => self.health(request.method()),
            Place::Delivery(path) => {
                let span = info_span!("delivery", path = %path, sender = %sender, number = field::Empty);
                let reply = match hooks.sources.get(&path) {
                    None => Reply::NotFound,
                    Some(source) => self.receive(hooks, source, (sender, seat), request).instrument(span.clone()).await,
                };
                span.in_scope(|| debug!("answered `{}`", reply.word()));
                reply
            }
        }
    }

    /// Whether deliveries can be stored, as far as the last one tells. After a while without any, hope is due again:
    /// a load balancer that sends nothing here would never learn that there is room on the disk.
    fn health(&self, method: &Method) -> Reply {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Reply::MethodNotAllowed { allowed: "GET, HEAD" };
        }
        let failed_at = *self.store_failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = failed_at.is_some_and(|it| it.elapsed() < FAILURE_COUNTS_FOR);
        if is_recent || self.store.damage().is_some() { Reply::Unavailable } else { Reply::Healthy }
    }

    fn note_commit(&self, is_good: bool) {
        let failed_at = (!is_good).then(Instant::now);
        *self.store_failed_at.lock().unwrap_or_else(PoisonError::into_inner) = failed_at;
    }

    /// Takes a delivery from whoever sends it, by the connection that has this seat.
    async fn receive(
        &self,
        hooks: &Arc<Hooks>,
        source: &Source,
        (sender, seat): (&Sender, &Seat),
        request: Request<Incoming>,
    ) -> Reply {
        if request.method() != Method::POST {
            return Reply::MethodNotAllowed { allowed: "POST" };
        }
        let (head, body) = request.into_parts();
        let server = &hooks.server;
        if !sender.is_allowed(&[&server.allow_from, &source.allow_from]) {
            return self.refuse_address(hooks, sender);
        }
        if let Err(reply) = judge_form(hooks, source, &head.headers, &body) {
            return reply;
        }
        let give_up = seat.token().child_token();
        let mut share = self.budget.share(sender.share(&server.trusted_proxies), give_up.clone());
        let proven = match self.prove(hooks, source, &head.headers, body, (&mut share, &give_up)).await {
            Ok(proven) => proven,
            Err(Unproven::NotRead(reply)) => return reply,
            Err(Unproven::Unauthenticated(why)) => return self.refuse_sender(hooks, sender, why),
        };
        seat.prove();
        share.prove();
        let reply = self.store_proven(hooks, source.path.clone(), proven, head.headers).await;
        drop(share);
        reply
    }

    /// Takes the body in, and the proof along with it. Where too much comes in, it may have to give up for another's sake.
    async fn prove(
        &self,
        hooks: &Hooks,
        source: &Source,
        headers: &HeaderMap,
        mut body: Incoming,
        (share, give_up): (&mut Share, &CancellationToken),
    ) -> Result<Proven, Unproven> {
        let deadline = Instant::now() + hooks.server.body_timeout;
        let limit_bytes = hooks.server.max_body_bytes;
        let mut check = Check::begin(source, headers, Timestamp::now())?;
        let mut left_bytes = limit_bytes;
        loop {
            let frame = tokio::select! {
                frame = timeout_at(deadline, body.frame()) => frame,
                () = give_up.cancelled() => return Err(Unproven::NotRead(Reply::Busy)),
            };
            let frame = match frame {
                Err(_) => return Err(Unproven::NotRead(Reply::TooSlow)),
                Ok(None) => return Ok(check.finish()?),
                Ok(Some(Err(err))) => {
                    debug!("the body broke off: {err}");
                    return Err(Unproven::NotRead(Reply::BrokenOff));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(piece) = frame.into_data() else { continue };
            let size = piece.len() as u64;
            left_bytes = match left_bytes.checked_sub(size) {
                Some(left) => left,
                None => return Err(Unproven::NotRead(Reply::TooLarge { limit_bytes })),
            };
            share.take(size, deadline).await.map_err(|_| Unproven::NotRead(Reply::Busy))?;
            check.update(&piece);
        }
    }

    fn refuse_address(&self, hooks: &Hooks, sender: &Sender) -> Reply {
        let verdict = self.denied_addresses.note(sender.address(), u32::MAX, Instant::now());
        log_refusal(verdict.log, sender, &sender.why_denied(&hooks.server.trusted_proxies));
        Reply::IpDenied
    }

    fn refuse_sender(&self, hooks: &Hooks, sender: &Sender, why: Unauthenticated) -> Reply {
        self.tally.count_failed_proof();
        let verdict = self.failed_proofs.note(sender.address(), hooks.server.rate_limit, Instant::now());
        log_refusal(verdict.log, sender, &why);
        match verdict.retry_after {
            None => Reply::Unauthenticated,
            Some(retry_after) => Reply::RateLimited { retry_after },
        }
    }

    /// Reads what is proven, stores it, and only then answers.
    async fn store_proven(&self, hooks: &Arc<Hooks>, path: SourcePath, proven: Proven, headers: HeaderMap) -> Reply {
        let fitted = proven.fitted().clone();
        let is_small = proven.body().len() <= READ_IN_PLACE_BYTES_MAX;
        let hooks = Arc::clone(hooks);
        let judge = move || judge(&hooks, path, &proven, &headers);
        let judged = if is_small { Ok(judge()) } else { spawn_blocking(judge).await };
        let Judged { arrival, aside, foreign } = match judged {
            Ok(judged) => judged,
            Err(err) => {
                error!("reading a delivery ended in a panic: {err}");
                return Reply::Unavailable;
            }
        };
        let stored = self.store.accept(arrival, Timestamp::now()).await;
        self.note_commit(stored.is_ok());
        match stored {
            Ok(receipt) => {
                let (word, number) = (receipt.accepted.word(), receipt.delivery);
                Span::current().record("number", number.0);
                info!("delivery {number}: {word}: {}; proven by {fitted}", receipt.message);
                for (hook, name) in &receipt.renamed {
                    warn!(hook.name = %hook, "the forge now calls the repository of hook `{hook}` `{name}`: {NEW_NAME}");
                }
                let mut message = receipt.message;
                if let Some(foreign) = foreign {
                    message.push_str(&format!("; {foreign}"));
                    if self.instances_told.is_news(&foreign) {
                        warn!("{foreign}");
                    }
                }
                Reply::Stored { accepted: receipt.accepted, aside, runs: receipt.runs, message }
            }
            Err(err) => {
                error!("cannot store a delivery: {err}");
                Reply::Unavailable
            }
        }
    }
}

/// What an operator has to do about it.
const NEW_NAME: &str = "its pushes start nothing until hooks.yaml has that name";

/// Why there is no proof.
enum Unproven {
    /// The body was not read to its end.
    NotRead(Reply),
    /// The sender did not prove itself.
    Unauthenticated(Unauthenticated),
}

impl From<Unauthenticated> for Unproven {
    fn from(why: Unauthenticated) -> Self {
        Self::Unauthenticated(why)
    }
}

fn log_refusal(log: Log, sender: &Sender, why: &dyn fmt::Display) {
    match log {
        Log::Line => warn!("refused {sender}: {why}"),
        Log::Last => warn!("refused {sender}: {why}; more of this in the same minute is not logged"),
        Log::Nothing => (),
    }
}

fn place(path: &str) -> Place {
    let delivery = match path.strip_prefix('/').and_then(|it| it.split_once('/')) {
        Some(("hooks", name)) => HookName::parse(name).map(SourcePath::Hook),
        Some(("sources", name)) => SourceName::parse(name).map(SourcePath::Shared),
        Some(_) | None => None,
    };
    match delivery {
        Some(path) => Place::Delivery(path),
        None if path == "/healthz" => Place::Health,
        None => Place::Nowhere,
    }
}

/// Size and form, as announced: what would not be read to its end is not read at all.
fn judge_form(hooks: &Hooks, source: &Source, headers: &HeaderMap, body: &Incoming) -> Result<(), Reply> {
    let limit_bytes = hooks.server.max_body_bytes;
    if body.size_hint().lower() > limit_bytes {
        return Err(Reply::TooLarge { limit_bytes });
    }
    Media::announced(source.forge(), headers).map(drop).map_err(Reply::Unreadable)
}

/// What was made of a proven delivery.
struct Judged {
    /// What is to be stored of it.
    arrival: Arrival,
    /// How it is answered if it starts nothing.
    aside: Option<Aside>,
    /// The GitLab that it comes from, if that is another than its hooks fetch from.
    foreign: Option<Foreign>,
}

fn judge(hooks: &Hooks, path: SourcePath, proven: &Proven, headers: &HeaderMap) -> Judged {
    let (envelope, admitted) = admit(proven, headers);
    let commit = match &admitted {
        Ok(Admitted::Push(push)) => push.push().commit().cloned(),
        Ok(Admitted::Ping(_) | Admitted::Other { .. }) | Err(_) => None,
    };
    let (mut repository, mut foreign) = (None, None);
    let (verdict, aside) = match admitted {
        Ok(Admitted::Push(push)) => {
            let routed = route(&push, &path, hooks);
            let is_named = !matches!(routed, Routed::OtherRepo { .. });
            let name = push.push().repo.clone();
            repository = push.repository().map(|number| Repository { number, name, is_named });
            match routed {
                Routed::Tickets { tickets, refused } => {
                    foreign = instance::look(push.instance(), &tickets);
                    (Verdict::Queue { tickets, refused }, None)
                }
                Routed::Ignored { reason } | Routed::OtherRepo { reason } => set_aside(Aside::Ignored, reason),
            }
        }
        Ok(Admitted::Ping(ping)) => set_aside(Aside::Pong, of_ping(&ping, &path, hooks)),
        Ok(Admitted::Other { reason }) => set_aside(Aside::Ignored, reason),
        Err(rejection) => {
            let message = rejection.to_string();
            set_aside(Aside::Rejected(rejection), message)
        }
    };
    let arrival = Arrival {
        path,
        forge: proven.forge(),
        event: envelope.event,
        delivery_id: envelope.delivery_id,
        dedupe: envelope.dedupe,
        body: proven.body().clone(),
        commit,
        repository,
        verdict,
    };
    Judged { arrival, aside, foreign }
}

fn set_aside(aside: Aside, message: String) -> (Verdict, Option<Aside>) {
    (Verdict::Aside { result: aside.word(), message }, Some(aside))
}
