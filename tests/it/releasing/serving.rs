//! Promises about a web server in front of `current`: real nginx, asked all the time.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use landfall::journal::entries::{self, Entry};

use crate::world::{house::House, until};

/// The two pages that take turns. Long enough to be sent in more than one piece.
const PAGES: [char; 2] = ['a', 'b'];
const PAGE_BYTES: usize = 100_000;

const SWITCHES: usize = 200;

/// How many ask at once.
const CLIENTS: usize = 3;

/// nginx with `root <live>/current`.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn serving(root: &Path, folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let (root, folder) = (root.display(), folder.display());
        let config = format!(
            "daemon off; user root; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;
            events {{ worker_connections 256; }}
            http {{ access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
                fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
                server {{ listen {free}; root {root}; }} }}"
        );
        let config = if nix::unistd::geteuid().is_root() { config } else { config.replace("user root;", "") };
        fs::create_dir_all(folder.to_string()).expect("made");
        let file = format!("{folder}/nginx.conf");
        fs::write(&file, config).expect("written");
        let mut command = Command::new("nginx");
        command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").args(["-e", &format!("{folder}/error.log"), "-c", &file]);
        let child = command.stdin(Stdio::null()).spawn().expect("nginx is installed by scripts/test");
        let nginx = Self { child, address: free };
        until("nginx answers", || TcpStream::connect(nginx.address).ok());
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked to end, so that its workers end with it.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A request that was answered with a whole page.
struct Asked {
    began: Timestamp,
    ended: Timestamp,
    page: char,
}

/// Asks for the page until `stop`, each time anew; gives all requests, or the first answer that is not a whole page.
fn ask_on(address: SocketAddr, stop: &AtomicBool) -> Result<Vec<Asked>, String> {
    let mut asked = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let began = Timestamp::now();
        let answer = ask(address).map_err(|err| format!("request {}: {err}", asked.len()))?;
        let ended = Timestamp::now();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
        let page = body.chars().next().unwrap_or('?');
        let is_whole = body.len() == PAGE_BYTES && PAGES.contains(&page) && body.chars().all(|it| it == page);
        if !head.starts_with("HTTP/1.1 200 ") || !is_whole {
            let first = head.lines().next().unwrap_or_default();
            return Err(format!("request {}: {first} with {} bytes", asked.len(), body.len()));
        }
        asked.push(Asked { began, ended, page });
    }
    Ok(asked)
}

/// When each run of a house said that it was about to switch, and that it had.
fn switches(house: &House, runs: std::ops::RangeInclusive<i64>) -> Vec<(Timestamp, Timestamp)> {
    let of = |run| {
        let entries = entries::read(&house.run_dir(run)).expect("a journal");
        let from = entries.iter().find_map(|it| match it {
            Entry::Switching { at, .. } => Some(*at),
            _ => None,
        });
        let to = entries.iter().find_map(|it| match it {
            Entry::Switched { at, .. } => Some(*at),
            _ => None,
        });
        from.zip(to).expect("it has switched")
    };
    runs.map(of).collect()
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET /index.html HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn not_one_request_fails_while_releases_take_turns() {
    let hook = "on: {push: main}\ndeploy: {strategy: releases, path: \"{live}\", remote: \"{remote}\"}";
    let mut house = House::with_hook(hook);
    house.start();
    for page in PAGES {
        let commit = house.repo.commit(&[("index.html", &page.to_string().repeat(PAGE_BYTES))]);
        assert_eq!(house.ended(house.queue(&commit))["outcome"], "succeeded");
    }
    let nginx = Nginx::serving(&house.live().join("current"), &house.folder.path().join("nginx"));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (address, stop) = (nginx.address, Arc::clone(&stop));
            thread::spawn(move || ask_on(address, &stop))
        })
        .collect();
    let names: Vec<String> = {
        let list = house.json(&["releases", "site"]);
        let names = list.as_array().expect("an array").iter().rev();
        names.map(|it| it["release"].as_str().expect("a name").to_owned()).collect()
    };
    for turn in 0..SWITCHES {
        let output = house.landfall(&["rollback", "site", "--to", &names[turn % 2], "--wait"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // The last switch was seen once each client has asked after it.
    let last = PAGES[(SWITCHES - 1) % 2];
    until("the last switch is seen", || ask(nginx.address).ok().filter(|it| it.ends_with(last)));
    stop.store(true, Ordering::SeqCst);
    let asked = clients.into_iter().map(|it| it.join().expect("a client").expect("not one request fails"));
    let asked: Vec<Vec<Asked>> = asked.collect();
    let first_run = i64::try_from(PAGES.len()).expect("small") + 1;
    let switches = switches(&house, first_run..=first_run - 1 + i64::try_from(SWITCHES).expect("small"));
    let mut overlaps = 0;
    for (from, to) in &switches {
        let during = asked.iter().flatten().filter(|it| it.began < *to && it.ended > *from).count();
        assert!(during >= CLIENTS, "each client asks all the time, also during the switch at {from}");
        overlaps += during;
    }
    for asked in &asked {
        let turns = asked.windows(2).filter(|it| it[0].page != it[1].page).count();
        assert!((SWITCHES - 1..=SWITCHES).contains(&turns), "a client saw the page change {turns} times");
    }
    let total: usize = asked.iter().map(Vec::len).sum();
    println!("{total} requests, {overlaps} of them during one of {} switches, not one failed", switches.len());
}
