//! Brings letters to a mail server: writes the message, speaks SMTP, and says what an answer means.
//!
//! Invariant: a letter's message has the same Message-ID however often it is sent, and no text that others wrote
//! reaches a header but through lettre's encoder.

use std::{error::Error, iter::once, time::Duration};

use jiff::Timestamp;
use lettre::{
    Message,
    address::Envelope,
    message::{
        Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        extension::ClientId,
    },
};
use tokio::time::timeout;

use crate::{
    hooks::{Smtp, SmtpTls},
    model::{letter::Occasion, secret::Secret},
    notify::{
        Answer,
        foreign::{Line, shorten},
        page,
        story::Story,
        wording,
    },
};

/// From connecting to the server's last word.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);
/// What a goodbye may take; the letter is delivered by then.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// A message ready to be sent.
pub struct Mail {
    envelope: Envelope,
    bytes: Vec<u8>,
}

impl Mail {
    /// Header and body, as they go over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes the message. The error is a sentence that names the address which is none.
pub fn write(story: &Story, from: &str, to: &str, now: Timestamp) -> Result<Mail, String> {
    let mailbox = |text: &str| text.parse::<Mailbox>().map_err(|err| format!("`{text}` is no mail address: {err}"));
    let (from, to) = (mailbox(from)?, mailbox(to)?);
    let domain = Some(from.email.domain()).filter(|it| it.is_ascii()).unwrap_or("landfall.invalid").to_owned();
    let thread = thread(story, &domain);
    let mut message = Message::builder()
        .from(from)
        .to(to)
        .date(now.into())
        .subject(wording::subject(story))
        .message_id(Some(format!("<run.{}.{}.{}@{domain}>", story.run, story.occasion.word(), story.letter)))
        .in_reply_to(thread.clone())
        .references(thread)
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("List-Id"), list_id(story, &domain)))
        // RFC 3834: so that nobody's holiday notice answers. Exchange listens to the other one.
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into()))
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All".into()));
    for (name, value) in marks(story) {
        message = message.raw_header(HeaderValue::new(HeaderName::new_from_ascii_str(name), value));
    }
    let parts = MultiPart::alternative()
        .singlepart(part(ContentType::TEXT_PLAIN, wording::text(story)))
        .singlepart(part(ContentType::TEXT_HTML, page::html(story)));
    let message = message.multipart(parts).map_err(|err| format!("the mail cannot be put together: {err}"))?;
    Ok(Mail { envelope: message.envelope().clone(), bytes: message.formatted() })
}

fn part(kind: ContentType, text: String) -> SinglePart {
    let body = Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable);
    SinglePart::builder().header(kind).body(body.expect("any text can be quoted-printable"))
}

/// What the message answers: failures in a row and the recovery from them are one thread, and so are the other
/// messages of one run. The identity is that of a message nobody sent, which mail programs take as well.
fn thread(story: &Story, domain: &str) -> String {
    match (&story.streak, story.occasion) {
        (Some(streak), Occasion::Failure | Occasion::Recovery) => {
            format!("<streak.{}.{}@{domain}>", story.hook, streak.first)
        }
        (Some(_), Occasion::Start | Occasion::Success | Occasion::Skipped) | (None, _) => {
            format!("<run.{}@{domain}>", story.run)
        }
    }
}

/// In the form that GitHub's mails have: `acme/shop production <production.shop.acme.ci.example.org>` (RFC 2919).
fn list_id(story: &Story, domain: &str) -> String {
    let label = |text: &str| {
        let plain = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' };
        let plain: String = text.chars().take(40).map(plain).collect();
        plain.trim_matches('-').to_owned()
    };
    let names = once(story.environment.as_str()).chain(story.repo.as_str().rsplit('/').take(3));
    let labels: Vec<_> = names.map(label).filter(|it| !it.is_empty()).collect();
    let is_atom = |it: &char| it.is_ascii_alphanumeric() || " /-_+~".contains(*it);
    let words: String = format!("{} {}", story.repo, story.environment).chars().filter(is_atom).take(100).collect();
    format!("{} <{}.{domain}>", words.trim(), labels.join("."))
}

/// Facts that filters may sort by.
fn marks(story: &Story) -> Vec<(&'static str, String)> {
    let mut marks = vec![
        ("X-Landfall-Run", story.run.to_string()),
        ("X-Landfall-Hook", story.hook.to_string()),
        ("X-Landfall-Environment", shorten(story.environment.as_str(), 100)),
        ("X-Landfall-Occasion", story.occasion.word().to_owned()),
        ("X-Landfall-Outcome", story.outcome().map_or("running", |it| it.word()).to_owned()),
    ];
    marks.extend(story.commit.as_ref().map(|it| ("X-Landfall-Commit", it.id.to_string())));
    marks
}

/// Hands the message to the server.
pub async fn send(mail: &Mail, smtp: &Smtp, password: Option<&Secret>) -> Answer {
    let whole = async {
        let mut connection = greet(smtp, password).await?;
        let answer = connection.send(&mail.envelope, &mail.bytes).await.map_err(|err| answer_of(smtp, &err));
        // It is theirs now, or not; however the goodbye ends, it changes nothing.
        let _ = timeout(GOODBYE_MAX, connection.abort()).await;
        answer
    };
    match timeout(EXCHANGE_MAX, whole).await {
        Ok(Ok(_)) => Answer::Taken,
        Ok(Err(answer)) => answer,
        Err(_) => later(smtp, &format!("did not finish within {} s", EXCHANGE_MAX.as_secs())),
    }
}

/// Connects, secures the connection as hooks.yaml demands, and logs in.
async fn greet(smtp: &Smtp, password: Option<&Secret>) -> Result<AsyncSmtpConnection, Answer> {
    let failed = |err: lettre::transport::smtp::Error| answer_of(smtp, &err);
    let me = ClientId::default();
    let server = (host(smtp), smtp.port);
    let (at_once, by_command) = match smtp.tls {
        SmtpTls::Tls => (Some(trust(smtp).await?), None),
        SmtpTls::Starttls => (None, Some(trust(smtp).await?)),
        SmtpTls::None => (None, None),
    };
    let mut connection =
        AsyncSmtpConnection::connect_tokio1(server, Some(EXCHANGE_MAX), &me, at_once, None).await.map_err(failed)?;
    if let Some(tls) = by_command {
        if !connection.can_starttls() {
            return Err(later(smtp, "does not offer STARTTLS, and without it nothing is sent (`smtp.tls`)"));
        }
        connection.starttls(tls, &me).await.map_err(failed)?;
    }
    if let (Some(username), Some(password)) = (&smtp.username, password) {
        let credentials = Credentials::new(username.clone(), password.expose().to_owned());
        connection.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(failed)?;
    }
    Ok(connection)
}

/// The server's name or address, without the brackets that people write around one of IPv6.
fn host(smtp: &Smtp) -> &str {
    smtp.host.trim_start_matches('[').trim_end_matches(']')
}

/// The authorities this machine trusts. Reading them takes a while, and so has no place on an async thread.
async fn trust(smtp: &Smtp) -> Result<TlsParameters, Answer> {
    let host = host(smtp).to_owned();
    match tokio::task::spawn_blocking(|| TlsParameters::new(host)).await {
        Ok(Ok(tls)) => Ok(tls),
        Ok(Err(err)) => Err(later(smtp, &format!("cannot be checked by TLS: {}", chain(&err)))),
        Err(err) => Err(later(smtp, &format!("cannot be checked by TLS: {err}"))),
    }
}

/// What an error means for the letter. A 5xx, a login that cannot work and an address the server cannot take are
/// final; what may be over in an hour is not (RFC 5321, section 4.2.1).
fn answer_of(smtp: &Smtp, err: &lettre::transport::smtp::Error) -> Answer {
    let why = match (err.status(), err.source()) {
        (Some(code), Some(words)) => format!("answered {code} {}", Line::of(&words.to_string(), 300)),
        (Some(code), None) => format!("answered {code}"),
        (None, _) => format!("cannot be used: {}", Line::of(&chain(err), 300)),
    };
    if err.is_permanent() || err.is_client() {
        Answer::Never { why: format!("mail server {}:{} {why}", smtp.host, smtp.port) }
    } else {
        later(smtp, &why)
    }
}

fn later(smtp: &Smtp, why: &str) -> Answer {
    Answer::Later { why: format!("mail server {}:{} {why}", smtp.host, smtp.port), wait: None }
}

/// An error with all that lies behind it.
fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
