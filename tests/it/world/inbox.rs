//! A listener that takes Slack messages, as the real one would.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A Slack incoming webhook on loopback.
pub struct SlackSink {
    address: SocketAddr,
    /// Filled by the listener's thread and read by the test; a channel could be read once only.
    messages: Arc<Mutex<Vec<String>>>,
}

impl SlackSink {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let sink = Self { address: listener.local_addr().expect("an address"), messages: Arc::default() };
        let messages = sink.messages.clone();
        // The thread ends with the test's process; it owns nothing but its listener.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(message) = take(stream) {
                    messages.lock().expect("no panic").push(message);
                }
            }
        });
        sink
    }

    pub fn url(&self) -> String {
        format!("http://{}/services/T0/B0/secret", self.address)
    }

    pub fn messages(&self) -> Vec<String> {
        self.messages.lock().expect("no panic").clone()
    }
}

fn take(mut stream: TcpStream) -> std::io::Result<String> {
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
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")?;
    Ok(String::from_utf8(body).expect("UTF-8"))
}
