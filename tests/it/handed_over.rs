//! Sockets that outlive the daemon, several addresses, and how many files may be open.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    path::Path,
    process::Stdio,
    thread,
};

use landfall::web::{listeners::Local, outgoing};

use crate::world::{
    house::{HAND_OVER, House, post, signed},
    until,
};

const HOOK: &str = r#"on: {push: main}
deploy: {path: "{live}", remote: "{remote}"}
run: ./deploy.sh
queue: all
pass_env: [LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES]"#;

/// Prints its limit of open files, and whatever has reached it of a socket that was handed over.
const DEPLOY_SH: &str = "#!/bin/sh
echo limit $(ulimit -Sn)
env | grep ^LISTEN || true
for it in /proc/$$/fd/*; do readlink $it; done | grep socket || true
";

fn house(server: &str) -> (House, String) {
    let house = House::with(&format!("server: {server}"), HOOK);
    let commit = house.repo.commit(&[("deploy.sh", DEPLOY_SH)]);
    (house, commit)
}

/// What the daemon says when it refuses to start.
fn refused(house: &House, commands: &str, stdin: Stdio) -> String {
    let output = house.in_shell(commands).stdin(stdin).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_push_that_comes_between_two_daemons_is_answered_by_the_next() {
    for server in ["{listen: systemd}", "{grace: 10s}"] {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address").to_string();
        let (mut house, first) = house(server);
        house.start_handed(socket.try_clone().expect("a copy"));
        assert_eq!(house.listen(), address, "{server}");
        let run = house.queue(&first);
        assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
        let output = house.output(run);
        assert!(output.len() == 1 && output[0].starts_with("limit "), "something reached the script: {output:?}");
        house.stop();
        let second = signed(house.push_of(&house.repo.commit(&[("page", "two")]), "refs/heads/main"));
        let pushing = {
            let address = address.clone();
            thread::spawn(move || post(&address, "/hooks/site", second))
        };
        until("the push waits in the queue of the kernel", || (waiting_at(&address) > 0).then_some(()));
        assert!(!pushing.is_finished());
        house.start_handed(socket.try_clone().expect("a copy"));
        let (status, answer) = pushing.join().expect("an answer");
        assert_eq!(status, 202, "{answer}");
        let run = answer["runs"][0]["id"].as_i64().expect("a run");
        assert_eq!(house.ended(run)["outcome"], "succeeded", "{}", house.whole_log(run));
        house.stop();
    }
}

/// Connections that nobody has accepted yet: the receive queue of a listening socket, in proc(5), `/proc/net/tcp`.
fn waiting_at(address: &str) -> usize {
    let port = address.parse::<SocketAddr>().expect("an address").port();
    let table = fs::read_to_string("/proc/net/tcp").expect("a table");
    let queues = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_it = words[1].ends_with(&format!(":{port:04X}")) && words[3] == "0A";
        is_it.then(|| usize::from_str_radix(words[4].split(':').nth(1).expect("a queue"), 16).expect("a number"))
    });
    queues.sum()
}

#[test]
fn a_unix_socket_that_was_handed_over_is_a_proxys_only_if_hooks_yaml_says_so() {
    for (trusted, status) in [("", 403), (", trusted_proxies: \"unix:\"", 202)] {
        let server = format!("{{listen: systemd, allow_from: 192.0.2.0/24{trusted}}}");
        let (mut house, commit) = house(&server);
        let path = house.folder.path().join("public.sock");
        house.start_handed(UnixListener::bind(&path).expect("a socket"));
        assert_eq!(house.listen(), format!("unix:{}", path.display()));
        let mut push = signed(house.push_of(&commit, "refs/heads/main"));
        push.headers.push(("X-Forwarded-For", "192.0.2.7".into()));
        assert_eq!(post_to_unix(&path, push), status, "{}", house.log());
        if status == 403 {
            assert!(house.log().contains("write \"unix:\" into `server.trusted_proxies`"), "{}", house.log());
        }
        house.stop();
        assert!(path.exists(), "the socket is not ours to remove");
    }
}

fn post_to_unix(path: &Path, push: landfall::forge::rehearsal::Rehearsal) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(outgoing::post(Local::Unix(path.into()), "/hooks/site", push)).expect("an answer").0
}

#[test]
fn a_test_delivery_goes_to_a_unix_socket_too() {
    let (mut house, commit) = house("{listen: systemd}");
    let path = house.folder.path().join("public.sock");
    house.start_handed(UnixListener::bind(&path).expect("a socket"));
    let output = house.landfall(&["send", "site", "--sha", &commit, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    house.stop();
}

#[test]
fn without_a_socket_to_take_and_with_one_that_cannot_be_taken_the_daemon_says_what_to_do() {
    let (systemd, _) = house("{listen: systemd}");
    let said = refused(&systemd, "export LISTEN_PID=1 LISTEN_FDS=1", Stdio::null());
    assert!(said.contains("systemctl enable --now landfall.socket"), "{said}");
    let said = refused(&systemd, HAND_OVER, Stdio::null());
    assert!(said.contains("`landfall.socket` (descriptor 3)") && said.contains("it is no socket"), "{said}");
    let unbound = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let said = refused(&systemd, HAND_OVER, Stdio::from(std::os::fd::OwnedFd::from(unbound)));
    assert!(said.contains("`ListenStream=`"), "{said}");
}

#[test]
fn a_socket_that_is_not_used_is_told() {
    let (mut house, _) = house("{listen: \"127.0.0.1:0\"}");
    house.start_handed(TcpListener::bind("127.0.0.1:0").expect("a port"));
    assert!(house.log().contains("socket `landfall.socket` was handed over and is not used"), "{}", house.log());
    house.stop();
}

#[test]
fn every_address_of_a_list_is_listened_at() {
    let (mut house, commit) = house("{listen: [\"127.0.0.1:0\", \"127.0.0.2:0\"]}");
    house.start();
    let listen = house.listen();
    let addresses: Vec<&str> = listen.split(", ").collect();
    assert!(addresses.len() == 2 && addresses[1].starts_with("127.0.0.2:"), "{listen}");
    assert_eq!(house.post_to(addresses[1], &commit).0, 202);
    assert_eq!(house.post_to(addresses[0], &commit).0, 200, "the same body again");
    house.stop();
}

#[test]
fn the_daemon_takes_all_files_that_it_may_have_open_and_gives_scripts_what_it_was_given() {
    let (mut house, commit) = house("{listen: \"127.0.0.1:0\"}");
    house.start_after("ulimit -Sn 500");
    let limits = fs::read_to_string(format!("/proc/{}/limits", house.pid())).expect("limits");
    let files = limits.lines().find(|it| it.starts_with("Max open files")).expect("a line");
    let words: Vec<&str> = files.split_ascii_whitespace().collect();
    assert_eq!(words[3], words[4], "{files}");
    assert_ne!(words[3], "500", "the hard limit of this machine is too low to see anything");
    let run = house.queue(&commit);
    assert_eq!(house.ended(run)["outcome"], "succeeded");
    assert_eq!(house.output(run), ["limit 500"]);
    house.stop();
    assert!(!house.log().contains("files may be open"), "{}", house.log());
    house.start_after("ulimit -n 300");
    assert!(house.log().contains("only 300 files may be open, so `server.max_connections.all` is 150 and not 1024"));
    house.stop();
}
