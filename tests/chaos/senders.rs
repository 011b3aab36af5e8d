//! Senders: they push, push again what they pushed before, and hang up, as forges and people do.
//!
//! Invariant: each request stands in the history before its first byte is sent, and what became of it after.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::{
    dice::Dice,
    history::Event,
    http::{self, Reply},
    pause::Ending,
    rules::{RULES, Rule},
    scene::{Repo, SECRET, Scene},
};

/// How many earlier pushes may be sent again.
const REMEMBERED: usize = 40;

/// A push as its forge would send it.
#[derive(Clone)]
struct Push {
    id: String,
    path: String,
    repo: String,
    sha: String,
    ref_name: String,
    tree: String,
    body: String,
}

/// What the senders share.
pub struct Senders<'a> {
    scene: &'a Scene,
    seed: u64,
    turns: AtomicU64,
    /// Of each repository with commits of its own, which comes next. Who has the lock is the next to push to it.
    next: Vec<Mutex<usize>>,
    /// What may be sent again, by any of them.
    earlier: Mutex<Vec<Push>>,
}

impl<'a> Senders<'a> {
    pub fn at(scene: &'a Scene, seed: u64) -> Self {
        let next = scene.repos.iter().map(|_| Mutex::new(0)).collect();
        Self { scene, seed, turns: AtomicU64::new(0), next, earlier: Mutex::default() }
    }

    /// Sends until the end.
    pub fn send(&self, name: &str, ending: &Ending) {
        let mut dice = Dice::of(self.seed, name);
        while !ending.comes_within(dice.millis(50, 250)) {
            let push = match self.again(&mut dice) {
                Some(push) => push,
                None => self.new_push(&mut dice),
            };
            let is_hasty = dice.chance(3);
            self.deliver(&push, is_hasty);
            // What a forge does not know to have arrived, a person sends again.
            if is_hasty && dice.chance(50) {
                self.deliver(&push, false);
            }
        }
    }

    /// Now and then an earlier push: as it was, or the same body under another id.
    fn again(&self, dice: &mut Dice) -> Option<Push> {
        let is_due = dice.chance(15);
        let (lot, has_new_id, number) = (dice.draw(), dice.chance(40), dice.draw());
        let earlier = self.earlier.lock().expect("no panic");
        if !is_due || earlier.is_empty() {
            return None;
        }
        let mut push = earlier[(lot % earlier.len() as u64) as usize].clone();
        if has_new_id {
            push.id = format!("again-{number:016x}");
        }
        Some(push)
    }

    fn new_push(&self, dice: &mut Dice) -> Push {
        let rule = dice.weighted(RULES, |it| it.weight);
        let branch = rule.branches[dice.below(rule.branches.len() as u64) as usize];
        let (mut sha, mut tree) = (dice.commit(), String::new());
        let own = self.scene.repos.iter().zip(&self.next).find(|(it, _)| it.repo == rule.repo);
        if let Some((repo, next)) = own {
            (sha, tree) = next_commit(repo, &mut next.lock().expect("no panic"));
        }
        let push = Push {
            id: format!("push-{:016x}", dice.draw()),
            path: rule.path(),
            repo: rule.repo.to_owned(),
            body: body(rule, branch, &sha),
            sha,
            ref_name: format!("refs/heads/{branch}"),
            tree,
        };
        let mut earlier = self.earlier.lock().expect("no panic");
        if earlier.len() == REMEMBERED {
            earlier.remove((dice.draw() % REMEMBERED as u64) as usize);
        }
        earlier.push(push.clone());
        push
    }

    fn deliver(&self, push: &Push, is_hasty: bool) {
        let turn = self.turns.fetch_add(1, Ordering::SeqCst);
        let Push { id, path, repo, sha, ref_name, tree, body } = push.clone();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
        mac.update(body.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let headers =
            format!("X-GitHub-Event: push\r\nX-GitHub-Delivery: {id}\r\nX-Hub-Signature-256: sha256={signature}\r\n");
        self.scene.pen.note(Event::Sent { turn, id, path: path.clone(), repo, sha, ref_name, tree });
        self.scene.pen.note(match http::post(self.scene.address, &path, &headers, &body, is_hasty) {
            Reply::Answer { status, body } => {
                let runs = body["runs"].as_array().into_iter().flatten().filter_map(|it| it["id"].as_i64());
                let word = body["result"].as_str().or(body["error"].as_str()).unwrap_or_default().to_owned();
                Event::Answered { turn, status, result: word, runs: runs.collect() }
            }
            Reply::Unsent => Event::Unsent { turn },
            Reply::Unknown(why) => Event::Unknown { turn, why },
        });
    }
}

/// Pushes the next commit to the repository itself; gives its id and what its tree says.
fn next_commit(repo: &Repo, next: &mut usize) -> (String, String) {
    assert!(*next + 1 < repo.commits.len(), "{} has no more commits", repo.repo);
    *next += 1;
    repo.point_at(*next);
    (repo.commits[*next].clone(), repo.serial(*next))
}

fn body(rule: &Rule, branch: &str, sha: &str) -> String {
    json!({
        "ref": format!("refs/heads/{branch}"), "before": "0".repeat(40), "after": sha,
        "created": false, "deleted": false, "forced": false, "commits": [],
        "head_commit": {"id": sha, "message": "a commit", "author": {"name": "Ana", "email": "ana@example.org"}},
        "pusher": {"name": "ana"}, "sender": {"login": "ana"},
        "repository": {"full_name": rule.repo, "default_branch": "main"},
    })
    .to_string()
}
