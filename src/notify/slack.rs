//! Brings letters to a Slack incoming webhook, and says what an answer means.
//!
//! Invariant: the webhook's URL is a secret, and never part of a sentence.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect::Policy,
};

use crate::{
    model::secret::Secret,
    notify::{Answer, foreign::Line},
};

/// From connecting to the last byte of the answer.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Slack's answers are a word; of anything longer only the beginning is of use.
const ANSWER_MAX: usize = 1024;
/// A server that asks for more than this is asked again anyway.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Posts the message. `now` is what a `Retry-After` that names a time is measured from.
pub async fn send(message: String, webhook: &Secret, now: Timestamp) -> Answer {
    // Building a client reads the authorities this machine trusts, which has no place on an async thread.
    let client = match tokio::task::spawn_blocking(client).await {
        Ok(Ok(client)) => client,
        Ok(Err(err)) => return later(format!("cannot be spoken to: {}", told(err))),
        Err(err) => return later(format!("cannot be spoken to: {err}")),
    };
    let request = client.post(webhook.expose()).header(CONTENT_TYPE, "application/json; charset=utf-8").body(message);
    match request.send().await {
        Ok(response) => answer_of(response, now).await,
        // Asking again does not turn something else into an address.
        Err(err) if err.is_builder() => Answer::Never { why: "the Slack webhook is not a web address".to_owned() },
        Err(err) => later(format!("cannot be reached: {}", told(err))),
    }
}

/// One that follows no redirect: a message is for the address it was written to.
fn client() -> reqwest::Result<Client> {
    // Another part of the program may have been first, with the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder().redirect(Policy::none()).timeout(EXCHANGE_MAX).build()
}

/// Slack's rules (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>): `ok` is yes, 429 is
/// "not so fast", any other 4xx will not change.
async fn answer_of(response: Response, now: Timestamp) -> Answer {
    let status = response.status();
    let wait = response.headers().get(RETRY_AFTER).and_then(|it| wait(it.to_str().ok()?, now));
    let word = beginning(response).await;
    let word = Line::of(&word, 100);
    match status {
        _ if status.is_success() && !is_no(word.as_str()) => Answer::Taken,
        StatusCode::TOO_MANY_REQUESTS => Answer::Later { why: "Slack asks to slow down".to_owned(), wait },
        StatusCode::REQUEST_TIMEOUT => Answer::Later { why: "Slack answered 408".to_owned(), wait },
        _ if status.is_server_error() => Answer::Later { why: format!("Slack answered {status}: {word}"), wait },
        _ => Answer::Never { why: format!("Slack answered {status}: {word}") },
    }
}

/// Whether a good status comes with a no: from a page that stands before Slack, or as Slack's other methods say it. What
/// speaks Slack's language without being it says yes in words of its own, or in none.
fn is_no(word: &str) -> bool {
    word.starts_with('<') || word.starts_with('{') && word.replace(' ', "").contains("\"ok\":false")
}

/// The first bytes of an answer, as far as they come.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(ANSWER_MAX);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How long `Retry-After` asks to wait: a number of seconds, or the time when to come again.
fn wait(header: &str, now: Timestamp) -> Option<Duration> {
    let wait = match header.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = rfc2822::parse(header.trim()).ok()?.timestamp();
            Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(WAIT_MAX))
}

fn later(why: String) -> Answer {
    Answer::Later { why: format!("Slack {why}"), wait: None }
}

/// What went wrong, without the URL, with all that lies behind it.
fn told(err: reqwest::Error) -> String {
    let err = err.without_url();
    let mut text = err.to_string();
    let mut next = std::error::Error::source(&err);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    Line::of(&text, 300).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::wait;

    #[test]
    fn a_retry_after_is_seconds_or_a_time() {
        let now = "1994-11-06T08:49:07Z".parse().expect("a time");
        let cases = [
            ("30", Some(30)),
            (" 1 ", Some(1)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("99999999999", Some(24 * 3600)),
            ("soon", None),
            ("-3", None),
        ];
        for (header, seconds) in cases {
            assert_eq!(wait(header, now), seconds.map(Duration::from_secs), "{header}");
        }
    }
}
