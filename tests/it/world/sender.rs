//! A client that writes bytes and reads one answer, so that a test can send what no decent client would.
//!
//! Invariant: it reads while it still writes, as a sender must whose body is refused on the way.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::reception::DEADLINE;

/// An answer, taken apart.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|it| it.split_once(':'));
        lines.filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("no JSON ({err}): {self:?}"))
    }

    /// Status and the word of `result` or `error`.
    pub fn verdict(&self) -> (u16, String) {
        let json = self.json();
        let word = json.get("result").or(json.get("error")).and_then(Value::as_str);
        (self.status, word.unwrap_or_else(|| panic!("no word: {self:?}")).to_owned())
    }

    /// The numbers of the runs.
    pub fn runs(&self) -> Vec<i64> {
        let json = self.json();
        json["runs"].as_array().expect("runs").iter().map(|it| it["id"].as_i64().expect("an id")).collect()
    }

    /// The sentence for people.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().expect("a message").to_owned()
    }
}

/// A request to be written.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// A POST without a header of its own.
    pub fn post(path: &str, body: &[u8]) -> Self {
        Self { method: "POST", path: path.into(), headers: Vec::new(), body: body.to_vec() }
    }

    /// With one header more.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With another value of a header.
    pub fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    /// Without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(it, _)| !it.eq_ignore_ascii_case(name));
        self
    }

    /// Request line and headers, without the empty line.
    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: deploys\r\nConnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// All bytes, with a content length.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}Content-Length: {}\r\n\r\n", self.head(), self.body.len()).into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// All bytes, in chunks of this size and without a content length.
    pub fn chunked(&self, size: usize) -> Vec<u8> {
        let mut bytes = format!("{}Transfer-Encoding: chunked\r\n\r\n", self.head()).into_bytes();
        for chunk in self.body.chunks(size) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }

    /// Sends it and reads the answer.
    pub async fn send(&self, address: SocketAddr) -> Answer {
        send(address, self.bytes()).await
    }
}

/// Writes these bytes and reads the answer.
pub async fn send(address: SocketAddr, bytes: Vec<u8>) -> Answer {
    let raw = exchange(address, bytes).await;
    parse(&raw).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&raw)))
}

/// Writes these bytes and reads until the other side closes.
pub async fn exchange(address: SocketAddr, bytes: Vec<u8>) -> Vec<u8> {
    talk(TcpStream::connect(address).await.expect("a connection"), bytes).await
}

/// Writes these bytes into a connection and reads the answer.
pub async fn send_by(stream: TcpStream, bytes: Vec<u8>) -> Answer {
    let raw = talk(stream, bytes).await;
    parse(&raw).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&raw)))
}

async fn talk(stream: TcpStream, bytes: Vec<u8>) -> Vec<u8> {
    let (mut reader, mut writer) = stream.into_split();
    // A refusal may come before the last byte is out, so a failed write is no failed exchange.
    let writing = tokio::spawn(async move { writer.write_all(&bytes).await.map(|()| writer) });
    let mut raw = Vec::new();
    timeout(DEADLINE, reader.read_to_end(&mut raw)).await.expect("an answer in time").expect("no reset");
    writing.abort();
    raw
}

/// Sends one byte less than the head promises, and reads the answer that comes meanwhile.
pub async fn send_short(mut stream: TcpStream, head: String, promised: usize) -> Answer {
    stream.write_all(head.as_bytes()).await.expect("a written head");
    let (mut reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move { writer.write_all(&vec![b' '; promised - 1]).await.map(|()| writer) });
    let mut raw = vec![0; 4096];
    let size = reader.read(&mut raw).await.expect("no reset");
    writing.abort();
    parse(&raw[..size]).expect("an answer")
}

/// Takes the last answer of a connection apart, past any `100 Continue`.
pub fn parse(raw: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(raw);
    let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
