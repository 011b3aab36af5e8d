//! Signed pushes as GitHub sends them, about 8 KB each and no two alike.
//!
//! What differs from push to push stands at the end of the body, so that the signature of all before it is computed
//! once: the generator must not take the processor from the daemon that it measures.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use hmac::{Hmac, KeyInit, Mac};
use landfall::model::push::CommitId;
use serde_json::Value;
use sha2::Sha256;

use crate::daemon::SECRET;

/// The repository of every push.
pub const REPO: &str = "Codertocat/Hello-World";

/// The size of a body, about.
const BODY_BYTES: usize = 8192;

const RECORDED: &str = include_str!("../../tests/deliveries/github/scm.push.json");

/// Who signs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// One who knows the secret.
    Forge,
    /// One who does not.
    Stranger,
}

/// A source of pushes to these paths, in turn.
pub struct Pushes {
    paths: Vec<String>,
    /// The body up to its first commit id.
    head: String,
    /// After that id, up to the second.
    middle: String,
    /// After the second.
    tail: String,
    signed_head: Hmac<Sha256>,
    /// No two sources begin with the same word.
    series: u32,
    sent: AtomicU64,
}

impl Pushes {
    /// Pushes to a branch of [`REPO`].
    pub fn new(signer: Signer, paths: Vec<String>) -> Result<Self> {
        let mut push: Value = serde_json::from_str(RECORDED)?;
        let push = push.as_object_mut().context("an object")?;
        push.remove("after");
        let mut head_commit = push.remove("head_commit").context("a head commit")?;
        head_commit.as_object_mut().context("a commit")?.remove("id");
        let commit_bytes = push["commits"][0].to_string().len() + 1;
        let missing = BODY_BYTES.saturating_sub(serde_json::to_string(&push)?.len() + commit_bytes) / commit_bytes;
        let commits = push["commits"].as_array_mut().context("commits")?;
        commits.extend(std::iter::repeat_n(commits[0].clone(), missing));
        // Without its closing brace: it goes on with what differs.
        let mut head = serde_json::to_string(&push)?;
        head.pop();
        head.push_str(",\"after\":\"");
        let key = match signer {
            Signer::Forge => SECRET,
            Signer::Stranger => "a guess",
        };
        let signed_head = Hmac::<Sha256>::new_from_slice(key.as_bytes())?.chain_update(&head);
        let head_commit = head_commit.to_string();
        let tail = format!("\",{}}}", &head_commit[1..]);
        let middle = "\",\"head_commit\":{\"id\":\"".to_owned();
        let mut series = [0; 4];
        getrandom::fill(&mut series).map_err(|err| anyhow::anyhow!("no random bytes: {err}"))?;
        let series = u32::from_ne_bytes(series);
        Ok(Self { paths, head, middle, tail, signed_head, series, sent: AtomicU64::new(0) })
    }

    /// Writes the next one, as a request on a connection that stays open. The buffer is emptied first.
    pub fn write_next(&self, request: &mut String) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        self.write(number, &format!("{:08x}{number:032x}", self.series), request);
    }

    /// The same, of this commit.
    pub fn write_push_of(&self, commit: &CommitId, request: &mut String) {
        self.write(self.sent.fetch_add(1, Ordering::Relaxed), commit.as_str(), request);
    }

    fn write(&self, number: u64, commit: &str, request: &mut String) {
        let path = &self.paths[usize::try_from(number).unwrap_or(0) % self.paths.len()];
        let end = format!("{commit}{}{commit}{}", self.middle, self.tail);
        let signature = hex::encode(self.signed_head.clone().chain_update(&end).finalize().into_bytes());
        request.clear();
        let length = self.head.len() + end.len();
        write!(
            request,
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: GitHub-Hookshot/bench\r\n\
             Content-Type: application/json\r\nX-GitHub-Event: push\r\n\
             X-GitHub-Delivery: {:08x}-0000-4000-8000-{number:012x}\r\nX-Hub-Signature-256: sha256={signature}\r\n\
             Content-Length: {length}\r\n\r\n",
            self.series
        )
        .expect("a string takes everything");
        request.push_str(&self.head);
        request.push_str(&end);
    }
}
