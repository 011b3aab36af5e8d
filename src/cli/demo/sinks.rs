//! Listeners that take what the demo's daemon sends: one mail, one Slack message.
//!
//! Invariant: they speak just enough SMTP (RFC 5321) and HTTP to be sent to by a real client.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// The listeners.
pub(super) struct Sinks {
    /// Where mail is taken.
    pub(super) smtp: SocketAddr,
    /// Where Slack messages are taken.
    pub(super) http: SocketAddr,
    mails: Receiver<String>,
    messages: Receiver<String>,
}

/// Opens both on loopback.
pub(super) fn open() -> Result<Sinks> {
    let (mails_in, mails) = channel();
    let (messages_in, messages) = channel();
    Ok(Sinks { smtp: listen(mails_in, take_mail)?, http: listen(messages_in, take_message)?, mails, messages })
}

impl Sinks {
    /// The next mail.
    pub(super) fn mail(&self, within: Duration) -> Result<String> {
        self.mails.recv_timeout(within).context("the listener waited in vain")
    }

    /// The next Slack message.
    pub(super) fn slack(&self, within: Duration) -> Result<Value> {
        let message = self.messages.recv_timeout(within).context("the listener waited in vain")?;
        serde_json::from_str(&message).context("the message is not JSON")
    }
}

fn listen(inbox: Sender<String>, take: fn(TcpStream) -> std::io::Result<String>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    let address = listener.local_addr()?;
    // The thread ends with the demo's process; it owns nothing but its listener.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Ok(message) = take(stream)
                && inbox.send(message).is_err()
            {
                return;
            }
        }
    });
    Ok(address)
}

fn take_mail(mut stream: TcpStream) -> std::io::Result<String> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    stream.write_all(b"220 demo\r\n")?;
    let mut mail = String::new();
    while let Some(line) = lines.next().transpose()? {
        let answer = match line.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                for line in lines.by_ref() {
                    match line?.as_str() {
                        "." => break,
                        text => mail.extend([text.strip_prefix('.').unwrap_or(text), "\n"]),
                    }
                }
                "250 taken\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n")?;
                break;
            }
            _ => "250 ok\r\n",
        };
        stream.write_all(answer.as_bytes())?;
    }
    Ok(mail)
}

fn take_message(mut stream: TcpStream) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}
