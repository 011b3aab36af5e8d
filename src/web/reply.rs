//! What a sender is told. The only file that knows status codes.
//!
//! Invariant: never a redirect, a 410 or a 500, never a 2xx for something that is not stored, and one answer for all
//! who have not proven themselves.

use std::time::Duration;

use axum::{body::Body, response::IntoResponse};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};
use serde::Serialize;

use crate::{
    forge::{Rejection, Unreadable},
    model::{name::HookName, run::RunId},
    store::{Accepted, StoreError},
};

/// The word under which something that starts no run is stored and answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// The forge tried out the address.
    Pong,
    /// True, and not for any hook.
    Ignored,
    /// Proven, and not what such a sender sends.
    Rejected(Rejection),
}

impl Aside {
    /// The word itself.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Pong => "pong",
            Self::Ignored => "ignored",
            Self::Rejected(rejection) => rejection.word(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Pong | Self::Ignored => StatusCode::OK,
            Self::Rejected(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// The answer to one request.
#[derive(Debug)]
pub(super) enum Reply {
    /// It is stored, and this became of it.
    Stored { accepted: Accepted, aside: Option<Aside>, runs: Vec<(RunId, HookName)>, message: String },
    /// The daemon takes deliveries.
    Healthy,
    /// There is nothing at that path.
    NotFound,
    /// There is, but not by that method.
    MethodNotAllowed { allowed: &'static str },
    /// The sender's address may not deliver here.
    IpDenied,
    /// The body is over the limit.
    TooLarge { limit_bytes: u64 },
    /// The body is in a form that is not read.
    Unreadable(Unreadable),
    /// The body did not come in time.
    TooSlow,
    /// The body broke off, or its framing is wrong.
    BrokenOff,
    /// The sender did not prove itself.
    Unauthenticated,
    /// The sender did not prove itself, once too often.
    RateLimited { retry_after: Duration },
    /// Too many bytes of other bodies are on their way.
    Busy,
    /// What came cannot be committed now.
    Unavailable,
}

#[derive(Serialize)]
struct Run<'a> {
    id: i64,
    hook: &'a str,
}

#[derive(Serialize)]
struct ResultBody<'a> {
    result: &'a str,
    runs: Vec<Run<'a>>,
    message: &'a str,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    message: &'a str,
}

const RETRY_WHEN_BUSY: Duration = Duration::from_secs(5);
const RETRY_WHEN_UNAVAILABLE: Duration = Duration::from_secs(10);

impl Reply {
    /// The word of the answer, for the log.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Stored { accepted, .. } => accepted.word(),
            Self::Healthy => "ok",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::IpDenied => "ip_denied",
            Self::TooLarge { .. } => "too_large",
            Self::Unreadable(_) => "unsupported_media_type",
            Self::TooSlow => "too_slow",
            Self::BrokenOff => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::RateLimited { .. } => "rate_limited",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether the sender did not get what it asked for, by its own fault.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Stored { .. } | Self::Healthy | Self::Busy | Self::Unavailable => false,
            Self::NotFound
            | Self::MethodNotAllowed { .. }
            | Self::IpDenied
            | Self::TooLarge { .. }
            | Self::Unreadable(_)
            | Self::TooSlow
            | Self::BrokenOff
            | Self::Unauthenticated
            | Self::RateLimited { .. } => true,
        }
    }

    /// The answer as HTTP, after which the connection is closed.
    pub(super) fn into_last_response(self) -> Response<Full<Bytes>> {
        closing(self.into_response())
    }

    /// The answer as HTTP.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let word = self.word();
        match self {
            Self::Stored { accepted, aside, runs, message } => stored(accepted, aside, &runs, &message),
            Self::Healthy => result(StatusCode::OK, word, &[], "deliveries are taken"),
            Self::NotFound => refusal(StatusCode::NOT_FOUND, word, "there is nothing at this path"),
            Self::MethodNotAllowed { allowed } => {
                let response = refusal(StatusCode::METHOD_NOT_ALLOWED, word, &format!("only {allowed} is taken here"));
                with(response, header::ALLOW, HeaderValue::from_static(allowed))
            }
            Self::IpDenied => refusal(StatusCode::FORBIDDEN, word, "this address may not deliver here"),
            Self::TooLarge { limit_bytes } => {
                let message = format!("the body is over the limit of {limit_bytes} bytes");
                closing(refusal(StatusCode::PAYLOAD_TOO_LARGE, word, &message))
            }
            Self::Unreadable(why) => closing(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, word, &why.to_string())),
            Self::TooSlow => closing(refusal(StatusCode::REQUEST_TIMEOUT, word, "the body did not come in time")),
            Self::BrokenOff => closing(refusal(StatusCode::BAD_REQUEST, word, "the body is broken off")),
            Self::Unauthenticated => {
                refusal(StatusCode::UNAUTHORIZED, word, "the sender has not proven that it knows the secret")
            }
            Self::RateLimited { retry_after } => {
                let response = refusal(StatusCode::TOO_MANY_REQUESTS, word, "too many failed authentications");
                later(response, retry_after)
            }
            Self::Busy => {
                let response = refusal(StatusCode::SERVICE_UNAVAILABLE, word, "too many deliveries at once");
                closing(later(response, RETRY_WHEN_BUSY))
            }
            Self::Unavailable => {
                let response = refusal(StatusCode::SERVICE_UNAVAILABLE, word, "the delivery could not be stored");
                later(response, RETRY_WHEN_UNAVAILABLE)
            }
        }
    }
}

/// Why a request of the command line was not done. The sentence is for the person at the terminal.
#[derive(Debug)]
pub enum Refused {
    /// There is no such thing.
    NotFound(String),
    /// It makes no sense as it was asked.
    BadRequest(String),
    /// It cannot be done as things stand.
    Conflict(String),
    /// It could not be done.
    Failed(String),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> axum::response::Response {
        let (status, word, message) = match &self {
            Self::NotFound(message) => (StatusCode::NOT_FOUND, "not_found", message),
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, "bad_request", message),
            Self::Conflict(message) => (StatusCode::CONFLICT, "conflict", message),
            Self::Failed(message) => (StatusCode::SERVICE_UNAVAILABLE, "failed", message),
        };
        refusal(status, word, message).map(Body::new)
    }
}

/// The HTTP status that a stored delivery of this word was answered with.
pub(super) fn status_of(word: &str) -> u16 {
    let status = match word {
        "queued" => StatusCode::ACCEPTED,
        "pong" | "ignored" | "duplicate" | "held" => StatusCode::OK,
        // Of an earlier release.
        "repo_mismatch" => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    status.as_u16()
}

fn stored(
    accepted: Accepted,
    aside: Option<Aside>,
    runs: &[(RunId, HookName)],
    message: &str,
) -> Response<Full<Bytes>> {
    let status = match (accepted, aside) {
        (Accepted::Queued, _) => StatusCode::ACCEPTED,
        (Accepted::Duplicate, _) => StatusCode::OK,
        (Accepted::Aside(_), Some(aside)) => aside.status(),
        // The store set aside what was to be queued.
        (Accepted::Aside(_), None) => StatusCode::OK,
    };
    let word = accepted.word();
    if status.is_success() { result(status, word, runs, message) } else { refusal(status, word, message) }
}

fn result(status: StatusCode, word: &str, runs: &[(RunId, HookName)], message: &str) -> Response<Full<Bytes>> {
    let runs = runs.iter().map(|(id, hook)| Run { id: id.0, hook: hook.as_str() }).collect();
    json(status, &ResultBody { result: word, runs, message })
}

fn refusal(status: StatusCode, word: &str, message: &str) -> Response<Full<Bytes>> {
    json(status, &ErrorBody { error: word, message })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).expect("texts and numbers are JSON");
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    with(response, header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

fn with(mut response: Response<Full<Bytes>>, name: header::HeaderName, value: HeaderValue) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, value);
    response
}

/// The rest of the request is not wanted, so the connection cannot go on.
fn closing(response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    with(response, header::CONNECTION, HeaderValue::from_static("close"))
}

fn later(response: Response<Full<Bytes>>, after: Duration) -> Response<Full<Bytes>> {
    // A part of a second is rounded up: whoever comes back at the named time must not come too early.
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    with(response, header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
}
