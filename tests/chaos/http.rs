//! The little HTTP that senders and witnesses need: one request, one answer, and an honest word when there is none.
//!
//! Invariant: an answer counts only if all of it came.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

/// Longer than a daemon is ever stopped for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What became of a request.
#[derive(Debug)]
pub enum Reply {
    /// It was answered.
    Answer { status: u16, body: Value },
    /// Nobody took the connection, so nothing happened.
    Unsent,
    /// It was sent, and nobody knows what became of it.
    Unknown(String),
}

/// Posts a body. A hasty sender hangs up as soon as all is sent.
pub fn post(address: SocketAddr, path: &str, headers: &str, body: &str, is_hasty: bool) -> Reply {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else { return Reply::Unsent };
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {length}\r\n\r\n{body}"
    );
    let exchange = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        if is_hasty {
            stream.shutdown(Shutdown::Both)?;
            return Err(io::Error::other("the sender hung up"));
        }
        read(&mut stream)
    };
    let mut exchange = exchange;
    match exchange() {
        Ok((status, body)) => Reply::Answer { status, body },
        Err(err) => Reply::Unknown(err.to_string()),
    }
}

/// Asks the daemon behind a Unix socket what `--json` prints.
pub fn get(socket: &Path, path: &str) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n\r\n").as_bytes())?;
    match read(&mut stream)? {
        (200, body) => Ok(body),
        (status, body) => Err(io::Error::other(format!("{path}: {status} {body}"))),
    }
}

fn read(stream: &mut impl Read) -> io::Result<(u16, Value)> {
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let text = String::from_utf8_lossy(&raw);
    let broken =
        || io::Error::new(io::ErrorKind::UnexpectedEof, format!("the answer broke off after {} bytes", raw.len()));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(broken)?;
    Ok((status, serde_json::from_str(body).map_err(|_| broken())?))
}
