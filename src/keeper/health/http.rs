//! Asks over HTTP.
//!
//! Invariant: of an answer no more than its beginning is read, and a redirect is an answer, not a way to follow.

use std::{ops::RangeInclusive, time::Duration};

use reqwest::{Client, Response, redirect::Policy};

use super::Answer;
use crate::keeper::{environment::shortened, limits::spell};

/// What is read of a body at most.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What of it people see when it is not good.
const EXCERPT_BYTES: usize = 300;

/// What makes an answer good.
pub(super) struct Wanted<'a> {
    /// These statuses.
    pub(super) expect: &'a RangeInclusive<u16>,
    /// This in its body.
    pub(super) body: Option<&'a str>,
    /// In this time, to the last byte that is read.
    pub(super) within: Duration,
}

/// Asks once.
pub(super) async fn ask(url: &str, wanted: Wanted<'_>) -> Answer {
    let Wanted { expect, body, within } = wanted;
    let client = match client(within) {
        Ok(client) => client,
        Err(err) => return Answer::bad(format!("cannot be asked: {}", clause(err))),
    };
    let response = match client.get(url).send().await {
        Ok(response) => response,
        Err(err) if err.is_timeout() => return Answer::bad(format!("did not answer within {}", spell(within))),
        Err(err) => return Answer::bad(format!("did not answer: {}", clause(err))),
    };
    let status = response.status().as_u16();
    let text = beginning(response).await;
    let excerpt = || Some(format!("it said: {}", one_line(&text))).filter(|_| !text.trim().is_empty());
    if !expect.contains(&status) {
        return Answer::Bad { what: format!("answered {status}"), excerpt: excerpt() };
    }
    match body {
        Some(body) if !text.contains(body) => {
            Answer::Bad { what: format!("answered {status} without `{body}`"), excerpt: excerpt() }
        }
        Some(_) | None => Answer::Good(format!("answered {status}")),
    }
}

/// What is asked is this machine, or what stands before it: never by way of a proxy.
fn client(within: Duration) -> reqwest::Result<Client> {
    // Another part of the program may have been first, with the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let name = concat!("landfall/", env!("CARGO_PKG_VERSION"), " (health)");
    Client::builder().redirect(Policy::none()).no_proxy().timeout(within).user_agent(name).build()
}

async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() >= BODY_BYTES_MAX {
            bytes.truncate(BODY_BYTES_MAX);
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    shortened(&line, EXCERPT_BYTES).to_owned()
}

/// What is at the bottom of it, without the URL, which people know.
fn clause(err: reqwest::Error) -> String {
    let err = err.without_url();
    let mut cause: &dyn std::error::Error = &err;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
