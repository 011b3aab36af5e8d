//! Remotes by three ways: `git http-backend` behind a small HTTP front, a real sshd, and the folder itself.
//!
//! Invariant: what a client sends and what git answers passes through in pieces, however large it is.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{git::Reach, until};

/// How a remote is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Http,
    Ssh,
    File,
}

/// All servers of a test, for everything below one folder.
pub struct Servers {
    root: PathBuf,
    http: SocketAddr,
    sshd: Sshd,
}

impl Servers {
    /// Serves what is below `root`; `own` is for the servers' files.
    pub fn start(root: &Path, own: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let http = listener.local_addr().expect("an address");
        let folder = root.to_owned();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let folder = folder.clone();
                // A client that is killed breaks off, which is what some worlds are about.
                thread::spawn(move || answer(stream, &folder));
            }
        });
        Self { root: root.to_owned(), http, sshd: Sshd::start(own) }
    }

    /// Where a repository below the root is found.
    pub fn url(&self, way: Way, repository: &str) -> String {
        let path = self.root.join(repository);
        match way {
            Way::Http => format!("http://{}/{repository}", self.http),
            Way::Ssh => format!("ssh://root@127.0.0.1:{}{}", self.sshd.port, path.display()),
            Way::File => format!("file://{}", path.display()),
        }
    }

    /// What a hook needs to reach it, as a member of `deploy`.
    pub fn credentials(&self, way: Way) -> String {
        match way {
            Way::Ssh => format!(
                ", credentials: {{ssh_key: '{}', known_hosts: '{}'}}",
                self.sshd.key.display(),
                self.sshd.known_hosts.display()
            ),
            Way::Http | Way::File => String::new(),
        }
    }

    /// What git itself needs.
    pub fn reach(&self) -> Reach {
        let (key, hosts) = (self.sshd.key.display(), self.sshd.known_hosts.display());
        Reach(format!("ssh -F none -i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={hosts}"))
    }
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

/// A running `sshd`, ended with the value.
struct Sshd {
    child: Child,
    port: u16,
    key: PathBuf,
    known_hosts: PathBuf,
}

impl Sshd {
    fn start(folder: &Path) -> Self {
        const PROGRAM: &str = "/usr/sbin/sshd";
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: apt install openssh-server");
        // Debian's sshd wants its empty folder, which its service makes at start.
        let _ = fs::create_dir_all("/run/sshd");
        let (host_key, key) = (folder.join("host_key"), folder.join("key"));
        for file in [&host_key, &key] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file);
            assert!(command.status().expect("ssh-keygen is installed").success());
        }
        fs::copy(key.with_extension("pub"), folder.join("authorized_keys")).expect("copied");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
        let lines = [
            format!("ListenAddress 127.0.0.1:{port}"),
            format!("HostKey {}", host_key.display()),
            format!("AuthorizedKeysFile {}", folder.join("authorized_keys").display()),
            "StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no".into(),
            "MaxStartups 100".into(),
        ];
        let config = folder.join("sshd_config");
        fs::write(&config, lines.join("\n")).expect("written");
        let mut command = Command::new(PROGRAM);
        command.args(["-D", "-e", "-f"]).arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("sshd starts");
        until("sshd listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let public = fs::read_to_string(host_key.with_extension("pub")).expect("a public key");
        let public: Vec<&str> = public.split(' ').take(2).collect();
        let known_hosts = folder.join("known_hosts");
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {}\n", public.join(" "))).expect("written");
        Self { child, port, key, known_hosts }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
