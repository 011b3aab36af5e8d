//! The public listener without a store: a process that does with a delivery all that the daemon does, up to the
//! store, and then answers as if it had been stored.
//!
//! It is put together from the daemon's own parts: runtime, HTTP with its deadlines, the proof that runs along with
//! the body, the reading of the payload, the way to its hooks, a line of the log. It does not compress the body and
//! does not write the job down, since both are done for the store alone.

use std::{convert::Infallible, future::Future, net::IpAddr, path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use landfall::{
    forge::{Admitted, Check, Proven, admit},
    hooks::{self, Environment, Hooks},
    model::{name::HookName, source::SourcePath},
    route::{Routed, Ticket, route},
};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout_at},
};
use tracing::{Instrument, info, info_span};
use tracing_subscriber::EnvFilter;

/// Serves until it is killed.
pub fn serve(folder: &Path) -> Result<()> {
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new("info")?).with_writer(std::io::stderr);
    log.with_target(false).json().flatten_event(true).init();
    let loaded = hooks::load(&folder.join("hooks.yaml"), &Environment::of_process());
    let hooks = Arc::new(loaded.map_err(|refused| anyhow!("{refused}"))?.hooks);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(hooks.server.listen.addresses()).await?;
        loop {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let hooks = hooks.clone();
            type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;
            let service = service_fn(move |request| -> Answering {
                let hooks = hooks.clone();
                Box::pin(async move {
                    let answering = tokio::spawn(answer(hooks, peer.ip(), request)).await;
                    Ok(answering.ok().and_then(Result::ok).unwrap_or_else(|| text(StatusCode::UNAUTHORIZED, "no")))
                })
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .max_header_size(32 * 1024)
                .max_buf_size(64 * 1024)
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is of no interest here.
            tokio::spawn(async { connection.await.unwrap_or(()) });
        }
    })
}

async fn answer(hooks: Arc<Hooks>, peer: IpAddr, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    if request.method() == Method::GET {
        return Ok(text(StatusCode::OK, "well"));
    }
    let path = path_of(request.uri().path()).context("a path")?;
    let span = info_span!("delivery", path = %path, sender = %peer, number = 1);
    let source = hooks.sources.get(&path).context("a source")?;
    let (head, mut body) = request.into_parts();
    let mut check = Check::begin(source, &head.headers, Timestamp::now())?;
    let deadline = Instant::now() + hooks.server.body_timeout;
    while let Some(frame) = timeout_at(deadline, body.frame()).await? {
        if let Ok(piece) = frame?.into_data() {
            check.update(&piece);
        }
    }
    let proven = check.finish()?;
    let fitted = proven.fitted().clone();
    async move {
        let message = judge(&hooks, &path, &proven, &head.headers).context("a push that a hook wants")?;
        info!("delivery 1: queued: {message}; proven by {fitted}");
        let body = serde_json::json!({"result": "queued", "runs": [{"id": 1, "hook": "site"}], "message": message});
        Ok(text(StatusCode::ACCEPTED, &body.to_string()))
    }
    .instrument(span)
    .await
}

fn path_of(path: &str) -> Option<SourcePath> {
    let (kind, name) = path.strip_prefix('/')?.split_once('/')?;
    if kind == "hooks" { HookName::parse(name).map(SourcePath::Hook) } else { None }
}

fn judge(hooks: &Hooks, path: &SourcePath, proven: &Proven, headers: &HeaderMap) -> Option<String> {
    let (_envelope, Ok(Admitted::Push(push))) = admit(proven, headers) else { return None };
    let Routed::Tickets { tickets, .. } = route(&push, path, hooks) else { return None };
    let names: Vec<_> = tickets.iter().map(|it: &Ticket| format!("`{}`", it.job().hook.name)).collect();
    Some(format!("queued for {}", names.join(", ")))
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
