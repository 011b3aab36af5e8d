//! Where letters arrive: a mail server and a Slack webhook on loopback, which are down when they are told to be.
//!
//! Invariant: an arrival is written down before it is said yes to, and while a sink is down it takes nothing.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::history::{Event, Pen, Sink};

/// A client that says nothing for that long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// Both sinks.
pub struct Sinks {
    mail: (TcpListener, Arc<AtomicBool>),
    slack: (TcpListener, Arc<AtomicBool>),
}

impl Sinks {
    pub fn bind() -> Self {
        let bind = || (TcpListener::bind("127.0.0.1:0").expect("a port"), Arc::default());
        Self { mail: bind(), slack: bind() }
    }

    /// Of the mail server, and of the webhook.
    pub fn ports(&self) -> (u16, u16) {
        let port = |it: &TcpListener| it.local_addr().expect("an address").port();
        (port(&self.mail.0), port(&self.slack.0))
    }

    /// Takes letters from now on. The threads end with the process; they own nothing but their connections.
    pub fn open(&self, pen: &Pen) {
        listen(&self.mail, pen, take_mail);
        listen(&self.slack, pen, take_message);
    }

    /// Makes a sink go down, or come up.
    pub fn set_down(&self, sink: Sink, is_down: bool) {
        let flag = match sink {
            Sink::Mail => &self.mail.1,
            Sink::Slack => &self.slack.1,
        };
        flag.store(is_down, Ordering::SeqCst);
    }
}

/// One conversation, the call of this number. The flag says whether the sink is down.
type Take = fn(TcpStream, &AtomicBool, &Pen, u64) -> io::Result<()>;

/// How many calls there were.
static CALLS: AtomicU64 = AtomicU64::new(0);

fn listen((listener, is_down): &(TcpListener, Arc<AtomicBool>), pen: &Pen, take: Take) {
    let (listener, is_down, pen) = (listener.try_clone().expect("a descriptor"), Arc::clone(is_down), pen.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (is_down, pen) = (Arc::clone(&is_down), pen.clone());
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(SILENCE));
                // A client that was killed in the middle is no trouble of the sink's.
                let call = CALLS.fetch_add(1, Ordering::Relaxed);
                pen.note(Event::Called { call });
                let _ = take(stream, &is_down, &pen, call);
            });
        }
    });
}

/// As much of RFC 5321 as a client needs to be rid of a mail.
fn take_mail(mut stream: TcpStream, is_down: &AtomicBool, pen: &Pen, call: u64) -> io::Result<()> {
    if is_down.load(Ordering::SeqCst) {
        return stream.write_all(b"421 the sink is down\r\n");
    }
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    stream.write_all(b"220 sink\r\n")?;
    let mut to = String::new();
    while let Some(line) = lines.next().transpose()? {
        let answer: &[u8] = match line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "RCPT" => {
                line.trim_start_matches(|it| it != '<').trim_matches(['<', '>']).clone_into(&mut to);
                b"250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                let mut key = String::new();
                loop {
                    let Some(line) = lines.next().transpose()? else { return Ok(()) };
                    if line == "." {
                        break;
                    }
                    if let Some(id) = line.strip_prefix("Message-ID: ") {
                        id.clone_into(&mut key);
                    }
                }
                if is_down.load(Ordering::SeqCst) {
                    b"451 the sink is down\r\n"
                } else {
                    pen.note(Event::Arrived { sink: Sink::Mail, to: to.clone(), key, call });
                    b"250 taken\r\n"
                }
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n"),
            _ => b"250 ok\r\n",
        };
        stream.write_all(answer)?;
    }
    Ok(())
}

/// One message for an incoming webhook. What tells it from others is its sentence.
fn take_message(mut stream: TcpStream, is_down: &AtomicBool, pen: &Pen, call: u64) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if is_down.load(Ordering::SeqCst) {
        return stream.write_all(b"HTTP/1.1 503 Down\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndown");
    }
    let message: serde_json::Value = serde_json::from_slice(&body)?;
    let key = message["text"].as_str().unwrap_or_default().to_owned();
    let to = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
    pen.note(Event::Arrived { sink: Sink::Slack, to, key, call });
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
}
