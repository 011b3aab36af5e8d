//! Where letters arrive: a mail server and a Slack webhook on loopback, which refuse what a test tells them to.
//!
//! Invariant: they take everything that they were not told to refuse, and keep it in the order of arrival.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// No wait of a test lasts longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a server does instead of taking a letter. For Slack the text is an answer's head and body.
#[derive(Clone, Debug)]
pub enum Refusal {
    Say(&'static str),
    HangUp,
    Silence,
}

/// The refusals to come: the first one that belongs to a command is used up by it.
/// Behind a lock since every connection takes from it; it is held for one look.
type Script = Arc<Mutex<VecDeque<(&'static str, Refusal)>>>;

/// How a mail server protects its connections.
#[derive(Clone)]
pub enum Cover {
    None,
    Starttls(Arc<ServerConfig>),
    Tls(Arc<ServerConfig>),
}

/// One message that a mail server took.
#[derive(Debug, Default)]
pub struct Mail {
    pub from: String,
    pub to: String,
    /// `user password`, if the client logged in.
    pub login: Option<String>,
    pub is_covered: bool,
    /// Header and body, line ends as LF, header lines unfolded.
    pub text: String,
}

impl Mail {
    /// The value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let head = self.text.split("\n\n").next().expect("a header");
        let found = head.lines().find_map(|it| it.split_once(": ").filter(|it| it.0.eq_ignore_ascii_case(name)));
        found.map_or("", |it| it.1)
    }

    /// The body without the soft line breaks of quoted-printable.
    pub fn body(&self) -> String {
        self.text.split_once("\n\n").expect("a body").1.replace("=\n", "")
    }
}

/// Something posted to a webhook.
#[derive(Debug)]
pub struct Post {
    pub path: String,
    pub body: String,
}

/// A server that keeps what arrives.
pub struct Inbox<T> {
    pub port: u16,
    script: Script,
    arrived: mpsc::UnboundedReceiver<T>,
    task: JoinHandle<()>,
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Inbox<T> {
    /// From now on, one such command is answered so. Several for the same command are used up in order.
    pub fn refuse(&self, command: &'static str, refusal: Refusal) {
        self.script.lock().expect("no panic").push_back((command, refusal));
    }

    /// The next arrival.
    pub async fn next(&mut self) -> T {
        timeout(DEADLINE, self.arrived.recv()).await.expect("a letter in time").expect("a server")
    }

    /// What has arrived by now and was not asked for.
    pub fn rest(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.arrived.try_recv().ok()).collect()
    }
}

impl Inbox<Mail> {
    /// A mail server.
    pub async fn smtp(cover: Cover) -> Self {
        open(move |stream, script, arrived| talk(stream, cover.clone(), script, arrived)).await
    }
}

impl Inbox<Post> {
    /// A webhook that says `ok`.
    pub async fn slack() -> Self {
        open(answer).await
    }
}

async fn open<T, F>(serve: impl Fn(TcpStream, Script, mpsc::UnboundedSender<T>) -> F + Send + 'static) -> Inbox<T>
where
    T: Send + 'static,
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (script, (sender, arrived)) = (Script::default(), mpsc::unbounded_channel());
    let rules = Arc::clone(&script);
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, Arc::clone(&rules), sender.clone()));
        }
    });
    Inbox { port, script, arrived, task }
}

fn refusal(script: &Script, command: &str) -> Option<Refusal> {
    let mut script = script.lock().expect("no panic");
    let at = script.iter().position(|it| it.0 == command)?;
    script.remove(at).map(|it| it.1)
}

async fn talk(
    stream: TcpStream,
    cover: Cover,
    script: Script,
    arrived: mpsc::UnboundedSender<Mail>,
) -> std::io::Result<()> {
    let mut talk = Talk { script, arrived, is_covered: false, offers_tls: false };
    match cover {
        Cover::None => talk.hold(stream, true).await.map(drop),
        Cover::Tls(config) => {
            talk.is_covered = true;
            talk.hold(TlsAcceptor::from(config).accept(stream).await?, true).await.map(drop)
        }
        Cover::Starttls(config) => {
            talk.offers_tls = true;
            let Some(stream) = talk.hold(stream, true).await? else { return Ok(()) };
            (talk.is_covered, talk.offers_tls) = (true, false);
            talk.hold(TlsAcceptor::from(config).accept(stream).await?, false).await.map(drop)
        }
    }
}

/// One side of a conversation in SMTP.
struct Talk {
    script: Script,
    arrived: mpsc::UnboundedSender<Mail>,
    is_covered: bool,
    offers_tls: bool,
}

impl Talk {
    /// Talks until the client goes; gives the stream back where it is to be covered.
    async fn hold<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, greets: bool) -> std::io::Result<Option<S>> {
        let mut stream = BufReader::new(stream);
        if greets {
            stream.write_all(b"220 inbox\r\n").await?;
        }
        let mut mail = Mail::default();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            let (command, rest) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
            let command = command.to_uppercase();
            match command.as_str() {
                "MAIL" => rest.clone_into(&mut mail.from),
                "RCPT" => rest.clone_into(&mut mail.to),
                "AUTH" => mail.login = Some(plain_login(rest)),
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    mail.text = read_message(&mut stream).await?;
                    let taken = std::mem::take(&mut mail);
                    self.arrived.send(Mail { is_covered: self.is_covered, ..taken }).expect("a test that listens");
                }
                _ => (),
            }
            let reply = match (refusal(&self.script, &command), command.as_str()) {
                (Some(Refusal::Say(words)), _) => format!("{words}\r\n"),
                (Some(Refusal::HangUp), _) => return Ok(None),
                (Some(Refusal::Silence), _) => std::future::pending().await,
                (None, "EHLO") if self.offers_tls => "250-inbox\r\n250-STARTTLS\r\n250 8BITMIME\r\n".to_owned(),
                (None, "EHLO") => "250-inbox\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n".to_owned(),
                (None, "STARTTLS") => {
                    stream.write_all(b"220 go on\r\n").await?;
                    return Ok(Some(stream.into_inner()));
                }
                (None, "AUTH") => "235 welcome\r\n".to_owned(),
                (None, "QUIT") => "221 bye\r\n".to_owned(),
                (None, _) => "250 fine\r\n".to_owned(),
            };
            stream.write_all(reply.as_bytes()).await?;
        }
    }
}

/// `PLAIN` and base64 of NUL, user, NUL, password.
fn plain_login(rest: &str) -> String {
    let code = rest.strip_prefix("PLAIN ").expect("only PLAIN is offered");
    let bytes = STANDARD.decode(code).expect("base64");
    String::from_utf8(bytes).expect("UTF-8").trim_start_matches('\0').replace('\0', " ")
}

/// A message up to the lonely dot (RFC 5321, section 4.5.2).
async fn read_message(stream: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == ".\r\n" {
            return Ok(unfolded(&text));
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

fn unfolded(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").expect("a header");
    format!("{}\n\n{body}", head.replace("\n ", " "))
}

/// One request, one answer.
async fn answer(stream: TcpStream, script: Script, arrived: mpsc::UnboundedSender<Post>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let path = head.first().and_then(|it| it.split(' ').nth(1)).expect("a path").to_owned();
    let body = String::from_utf8(body).expect("UTF-8");
    arrived.send(Post { path, body }).expect("a test that listens");
    let (head, body) = match refusal(&script, "POST") {
        Some(Refusal::Say(words)) => words.split_once("\n\n").unwrap_or((words, "")),
        Some(Refusal::HangUp) => return Ok(()),
        Some(Refusal::Silence) => std::future::pending().await,
        None => ("200 OK", "ok"),
    };
    let head = head.replace('\n', "\r\n");
    let length = body.len();
    let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await
}
