//! A small HTTP front of `git http-backend`.
//!
//! Invariant: what a client sends and what git answers passes through in pieces, however large it is.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

/// Serves the repositories below a folder, for as long as the process lives.
pub fn serve(root: &Path) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, root) = (listener.local_addr()?, root.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let root = root.clone();
            // A client that is killed breaks off.
            thread::spawn(move || answer(stream, &root));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, root: &Path) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let mut found = lines.iter().filter_map(|it| it.split_once(':'));
        found.find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let mut words = lines[0].split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("PATH_INFO", path).env("QUERY_STRING", query).env("REQUEST_METHOD", method);
    backend.env("REMOTE_ADDR", "127.0.0.1").env("CONTENT_TYPE", header("content-type").unwrap_or_default());
    backend.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_COUNT", "1");
    backend.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    for (name, variable) in [("content-encoding", "HTTP_CONTENT_ENCODING"), ("git-protocol", "GIT_PROTOCOL")] {
        if let Some(value) = header(name) {
            backend.env(variable, value);
        }
    }
    let mut backend = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let served = pass_on(&mut stream, &mut backend, &header);
    let _ = backend.kill();
    backend.wait()?;
    served
}

fn pass_on(
    stream: &mut BufReader<TcpStream>,
    backend: &mut Child,
    header: &dyn Fn(&str) -> Option<String>,
) -> io::Result<()> {
    let mut input = backend.stdin.take().expect("piped");
    if header("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked")) {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            io::copy(&mut stream.by_ref().take(size), &mut input)?;
            stream.read_line(&mut line)?;
            if size == 0 {
                break;
            }
        }
    } else {
        let length = header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
        io::copy(&mut stream.by_ref().take(length), &mut input)?;
    }
    drop(input);
    let mut output = BufReader::new(backend.stdout.take().expect("piped"));
    let (mut status, mut head) = ("200 OK".to_owned(), String::new());
    loop {
        let mut line = String::new();
        output.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => match line.strip_prefix("Status: ") {
                Some(found) => status = found.to_owned(),
                None => head.push_str(&format!("{line}\r\n")),
            },
        }
    }
    let stream = stream.get_mut();
    stream.write_all(format!("HTTP/1.1 {status}\r\n{head}Connection: close\r\n\r\n").as_bytes())?;
    io::copy(&mut output, stream)?;
    stream.flush()
}
