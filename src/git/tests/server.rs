//! A git server for the tests: `git http-backend` behind a small HTTP/1.1 front, with TLS by a private authority.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// What the server does with a request, instead of just answering it.
pub(super) type Judge = Box<dyn Fn(&Request) -> Verdict + Send + Sync>;

/// A request, as far as tests care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// The whole `Authorization` header.
    pub(super) authorization: Option<String>,
    /// Where the client thinks we are.
    pub(super) host: String,
    pub(super) body: Vec<u8>,
}

/// What becomes of a request.
pub(super) enum Verdict {
    /// Git answers.
    Serve,
    /// This status line and header lines, and an empty body.
    Answer(String),
    /// A good answer with this body.
    Body(Vec<u8>),
    /// A list of refs that does not end until the client goes away.
    Refs,
    /// Git answers, and the connection stalls for good after half of it.
    Stall,
    /// Good headers, and nothing behind them.
    Headers,
    /// An answer about a pack, with this body.
    Pack(Vec<u8>),
    /// Git answers, but the answer ends early as if it were whole: this many bytes of it are left out.
    Cut(usize),
    /// Git answers, and the connection ends in the middle.
    Break,
}

/// A running server; it ends with the test's process.
pub(super) struct GitServer {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<Mutex<Vec<Request>>>,
}

impl GitServer {
    /// Serves the repositories below `root` over plain HTTP.
    pub(super) fn plain(root: &Path, judge: Judge) -> Self {
        Self::start(root, None, judge)
    }

    /// Serves them over HTTPS, and writes the authority that vouches for it to `authority`.
    pub(super) fn tls(root: &Path, authority: &Path, judge: Judge) -> Self {
        Self::start(root, Some(certify(authority)), judge)
    }

    fn start(root: &Path, tls: Option<Arc<ServerConfig>>, judge: Judge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (root, seen, judge) = (root.to_owned(), requests.clone(), Arc::new(judge));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, seen, judge, tls) = (root.clone(), seen.clone(), judge.clone(), tls.clone());
                // A client that breaks off, or does not trust us, is what some tests are about.
                thread::spawn(move || match tls {
                    Some(tls) => {
                        let session = ServerConnection::new(tls).expect("a good configuration");
                        let _ = answer(StreamOwned::new(session, stream), &root, &seen, &judge);
                    }
                    None => {
                        let _ = answer(stream, &root, &seen, &judge);
                    }
                });
            }
        });
        Self { address, requests }
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics with it").clone()
    }
}

/// A judge who lets everyone in.
pub(super) fn everyone() -> Judge {
    Box::new(|_| Verdict::Serve)
}

/// Makes an authority and a certificate for the loopback address.
pub(super) fn certify(authority: &Path) -> Arc<ServerConfig> {
    let mut parameters = CertificateParams::new(Vec::new()).expect("no names");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.self_signed(&key).expect("an authority");
    fs::write(authority, certificate.pem()).expect("written");
    let issuer = Issuer::new(parameters, key);
    let own_key = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("names");
    let own = own.signed_by(&own_key, &issuer).expect("a certificate");
    let own_key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![own.der().clone()], own_key);
    Arc::new(config.expect("a good certificate"))
}

fn answer(stream: impl Read + Write, root: &Path, seen: &Mutex<Vec<Request>>, judge: &Judge) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut request, length, media_type) = read_head(&mut stream)?;
    request.body = vec![0; length];
    stream.read_exact(&mut request.body)?;
    let verdict = judge(&request);
    seen.lock().expect("no test panics with it").push(request.clone());
    let stream = stream.get_mut();
    if let Verdict::Answer(head) = verdict {
        stream.write_all(format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())?;
        return stream.flush();
    }
    if let Verdict::Body(body) = verdict {
        let length = body.len();
        stream.write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(),
        )?;
        stream.write_all(&body)?;
        return stream.flush();
    }
    if let Verdict::Pack(body) = &verdict {
        let (length, kind) = (body.len(), "application/x-git-upload-pack-result");
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n").as_bytes())?;
        stream.write_all(b"Connection: close\r\n\r\n")?;
        stream.write_all(body)?;
        return stream.flush();
    }
    if matches!(verdict, Verdict::Refs | Verdict::Headers) {
        let kind = "application/x-git-upload-pack-advertisement";
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n").as_bytes())?;
        if matches!(verdict, Verdict::Headers) {
            stream.flush()?;
            return stream.read(&mut [0]).map(|_| ());
        }
        stream.write_all(b"001e# service=git-upload-pack\n0000")?;
        let id = "ab".repeat(20);
        let lines = |from: usize| -> String {
            (from..from + 1000).map(|it| format!("{:04x}{id} refs/heads/{it:010}\n", 67)).collect()
        };
        return (0..).try_for_each(|it| stream.write_all(lines(it * 1000).as_bytes()));
    }
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut backend = Command::new("git");
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("PATH_INFO", path).env("QUERY_STRING", query).env("REQUEST_METHOD", &request.method);
    backend.env("CONTENT_TYPE", media_type).env("REMOTE_ADDR", "127.0.0.1").env("GIT_CONFIG_COUNT", "1");
    backend.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    let mut backend = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    backend.stdin.take().expect("piped").write_all(&request.body)?;
    let output = backend.wait_with_output()?.stdout;
    let end = output.windows(4).position(|it| it == b"\r\n\r\n").expect("CGI headers");
    let (head, body) = (String::from_utf8_lossy(&output[..end]), &output[end + 4..]);
    let status = head.lines().find_map(|it| it.strip_prefix("Status: ")).unwrap_or("200 OK");
    let body = match verdict {
        Verdict::Cut(bytes) => &body[..body.len().saturating_sub(bytes)],
        _ => body,
    };
    let length = body.len();
    stream.write_all(format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n").as_bytes())?;
    stream.write_all(b"Connection: close\r\n\r\n")?;
    if matches!(verdict, Verdict::Stall | Verdict::Break) {
        stream.write_all(&body[..length / 2])?;
        stream.flush()?;
        if matches!(verdict, Verdict::Break) {
            return Ok(());
        }
        // Nothing more comes until the client goes away.
        return stream.read(&mut [0]).map(|_| ());
    }
    stream.write_all(body)?;
    stream.flush()
}

fn read_head(stream: &mut impl BufRead) -> io::Result<(Request, usize, String)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let fits = |line: &&String| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        lines.iter().find(fits).and_then(|it| it.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let mut words = lines[0].split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let length = header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    let media_type = header("content-type").unwrap_or_default();
    let (authorization, host) = (header("authorization"), header("host").unwrap_or_default());
    Ok((Request { method, target, authorization, host, body: Vec::new() }, length, media_type))
}

/// A running `sshd`, ended with the value.
pub(super) struct Sshd {
    child: std::process::Child,
    pub(super) port: u16,
    /// A key that it lets in.
    pub(super) key: PathBuf,
    /// A folder on the `PATH` of whoever comes in.
    pub(super) programs: PathBuf,
    /// Its host key, as a line of a `known_hosts` file.
    pub(super) known_hosts_line: String,
}

impl Sshd {
    pub(super) fn start(folder: &Path) -> Self {
        const PROGRAM: &str = "/usr/sbin/sshd";
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: apt install openssh-server");
        // Debian's sshd wants its empty folder, which its service makes at start.
        let _ = fs::create_dir_all("/run/sshd");
        let (host_key, key) = (folder.join("host_key"), folder.join("key"));
        for file in [&host_key, &key] {
            make_key(file);
        }
        fs::copy(key.with_extension("pub"), folder.join("authorized_keys")).expect("copied");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let programs = folder.join("programs");
        fs::create_dir_all(&programs).expect("a folder");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("a PATH"));
        let lines = [
            format!("ListenAddress 127.0.0.1:{port}"),
            format!("HostKey {}", host_key.display()),
            format!("AuthorizedKeysFile {}", folder.join("authorized_keys").display()),
            format!("SetEnv PATH={path}"),
            "StrictModes no".into(),
            "UsePAM no".into(),
            "PidFile none".into(),
            "PermitRootLogin yes".into(),
            "PasswordAuthentication no".into(),
        ];
        let config = folder.join("sshd_config");
        fs::write(&config, lines.join("\n")).expect("written");
        let mut command = Command::new(PROGRAM);
        command.args(["-D", "-e", "-f"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("sshd starts");
        super::wait_for("sshd to listen", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let public = fs::read_to_string(host_key.with_extension("pub")).expect("a public key");
        let public: Vec<&str> = public.split(' ').take(2).collect();
        Self { child, port, key, programs, known_hosts_line: format!("[127.0.0.1]:{port} {}\n", public.join(" ")) }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes an ssh key without a passphrase.
pub(super) fn make_key(file: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file);
    assert!(command.status().expect("ssh-keygen is installed").success());
}
