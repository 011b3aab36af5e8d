//! Remotes by three ways: `git http-backend` behind a small HTTP front, a real sshd, and the folder itself.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{front, git::Reach, until};

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
        let http = front::serve(root).expect("a free port");
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
