//! The promises of the store, against real SQLite in a temporary folder.

mod catch_up;
mod clock;
mod damage;
mod deliveries;
mod displaced;
mod holds;
mod letters;
mod policies;
mod queue;
mod retention;
mod upkeep;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use jiff::{Timestamp, ToSpan};
use tempfile::TempDir;

use crate::{
    forge::DedupeKey,
    model::{
        deploy::{Clean, Deploy, Dirty, Git, Strategy},
        hook::{BranchFilter, Hook, On, Poll, QueuePolicy, Retry},
        job::Target,
        letter::{Channel, Notification, Occasion},
        limits::RunLimits,
        name::{HookName, LaneName},
        push::{CommitId, RefName, RepoName},
        remote::WrittenRemote,
        run::{Failure, FailureClass, Outcome, RetryClass, RunFacts, RunId, RunStep},
        source::{Forge, SourcePath},
    },
    route::{Ticket, by_hand},
    store::{Arrival, Claim, Claimed, LetterClaim, LetterTurn, Receipt, RunState, Store, Verdict},
};

/// A store, the folder it lives in, and a clock.
struct World {
    folder: TempDir,
    store: Store,
    now: Timestamp,
    pushes: AtomicUsize,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let store = Store::open(folder.path()).expect("an open store");
        Self { folder, store, now: "2026-11-23T08:00:00Z".parse().expect("a time"), pushes: AtomicUsize::new(0) }
    }

    /// Closes the store and opens it again, as a restart does.
    async fn reopen(self) -> Self {
        self.store.close().await;
        let store = Store::open(self.folder.path()).expect("an open store");
        Self { store, ..self }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time).expect("a time");
    }

    async fn deliver(&self, id: &str, body: &str, hook: &Arc<Hook>, commit: char) -> Receipt {
        let verdict = Verdict::Queue { tickets: vec![ticket(hook, commit)], refused: Vec::new() };
        self.store.accept(arrival(id, body, verdict), self.now).await.expect("accepted")
    }

    /// Queues a push that is like no other.
    async fn queue(&self, hook: &Arc<Hook>, commit: char) -> RunId {
        self.queue_of("refs/heads/main", hook, commit).await
    }

    /// Queues a push of this ref that is like no other.
    async fn queue_of(&self, ref_name: &str, hook: &Arc<Hook>, commit: char) -> RunId {
        let number = self.pushes.fetch_add(1, Ordering::Relaxed);
        let (id, body) = (format!("push {number}"), format!("the body of push {number}"));
        let verdict = Verdict::Queue { tickets: vec![ticket_of(ref_name, hook, commit)], refused: Vec::new() };
        self.store.accept(arrival(&id, &body, verdict), self.now).await.expect("accepted").runs[0].0
    }

    /// Queues what a person asks for.
    async fn ask(&self, hook: &Arc<Hook>, commit: char) -> RunId {
        self.store.enqueue(ticket(hook, commit), self.now).await.expect("queued")
    }

    async fn claim(&self) -> Claim {
        match self.store.claim(self.now).await.expect("a look at the queue") {
            Claimed::Run(claim) => claim,
            Claimed::NothingUntil(due) => panic!("nothing to claim until {due:?}"),
        }
    }

    /// The letter that is due, taken for sending.
    async fn letter(&self) -> LetterClaim {
        match self.store.next_letter(self.now).await.expect("a turn") {
            LetterTurn::Letter(letter) => letter,
            LetterTurn::NothingUntil(due) => panic!("no letter is due before {due:?}"),
        }
    }

    async fn nothing_to_claim(&self) -> Option<Timestamp> {
        match self.store.claim(self.now).await.expect("a look at the queue") {
            Claimed::Run(claim) => panic!("run {} was claimed", claim.run()),
            Claimed::NothingUntil(due) => due,
        }
    }

    /// Claims, starts and finishes the next run; gives it and its retry.
    async fn carry_out(&self, outcome: Outcome) -> (RunId, Option<RunId>) {
        let claim = self.claim().await;
        let run = claim.run();
        self.store.start(&claim, self.now).await.expect("started");
        let finished = self.store.finish(claim, outcome, RunFacts::default(), self.now).await.expect("finished");
        (run, finished.retry)
    }

    async fn outcome(&self, run: RunId) -> Option<Outcome> {
        match self.store.run(run).await.expect("a read").expect("a run").state {
            RunState::Queued { .. } | RunState::Running { .. } => None,
            RunState::Finished { outcome, .. } => Some(outcome),
        }
    }
}

fn arrival(id: &str, body: &str, verdict: Verdict) -> Arrival {
    let mut hash = [0; 32];
    hash[..body.len().min(32)].copy_from_slice(&body.as_bytes()[..body.len().min(32)]);
    Arrival {
        path: SourcePath::Hook(HookName::parse("site").expect("a name")),
        forge: Forge::GitHub,
        event: Some("push".into()),
        delivery_id: Some(id.into()),
        dedupe: vec![DedupeKey::Body(hash), DedupeKey::Named(id.into())],
        body: Bytes::copy_from_slice(body.as_bytes()),
        commit: None,
        repository: None,
        verdict,
    }
}

fn ticket(hook: &Arc<Hook>, commit: char) -> Ticket {
    ticket_of("refs/heads/main", hook, commit)
}

fn ticket_of(ref_name: &str, hook: &Arc<Hook>, commit: char) -> Ticket {
    let target = Target::Commit { commit: commit_id(commit), ref_name: RefName::parse(ref_name) };
    by_hand(hook, target, "ana")
}

fn commit_id(digit: char) -> CommitId {
    CommitId::parse(&digit.to_string().repeat(40)).expect("an id")
}

fn failed(class: FailureClass) -> Outcome {
    Outcome::Failed(Failure { step: RunStep::Run, exit_code: Some(1), class, reason: "it broke".into() })
}

/// A hook that lets all its jobs run, and tells one person of everything.
fn hook(name: &str) -> Hook {
    let path = format!("/srv/{name}").into();
    let git = Git::plain(WrittenRemote::parse("https://example.org/acme/site.git").expect("a remote"));
    let strategy = Strategy::InPlace { git, path, dirty: Dirty::Save, clean: Clean::None };
    let name = HookName::parse(name).expect("a name");
    Hook {
        forge: Forge::GitHub,
        source: name.own_source(),
        repo: RepoName::parse("acme/site").expect("a name"),
        on: On { push: BranchFilter::DefaultBranch, tag: None },
        paths: None,
        skip_markers: Vec::new(),
        poll: Poll::AtStart,
        enabled: true,
        deploy: Deploy { strategy, min_free_bytes: 0 },
        run: Vec::new(),
        activate: Vec::new(),
        health: Vec::new(),
        on_failure: Vec::new(),
        finally: Vec::new(),
        env: BTreeMap::new(),
        pass_env: Vec::new(),
        secrets: BTreeMap::new(),
        user: None,
        timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        kill_grace: Duration::from_secs(1),
        limits: RunLimits::default(),
        retry: Retry { max: 2, on: vec![RetryClass::Tempfail], backoff: Duration::from_secs(10) },
        queue: QueuePolicy::All,
        lane: name.own_lane(),
        priority: 0,
        debounce: Duration::ZERO,
        min_interval: Duration::ZERO,
        notify: vec![Notification {
            channel: Channel::Email { to: vec!["ana@example.org".into()] },
            on: Occasion::ALL.to_vec(),
        }],
        environment: "production".into(),
        url: None,
        max_log_bytes: 1 << 20,
        name,
    }
}

fn all(name: &str) -> Arc<Hook> {
    Arc::new(hook(name))
}

fn latest(name: &str) -> Arc<Hook> {
    Arc::new(Hook { queue: QueuePolicy::Latest, ..hook(name) })
}

fn in_lane(name: &str, lane: &str) -> Arc<Hook> {
    Arc::new(Hook { lane: LaneName::parse(lane).expect("a name"), ..hook(name) })
}

fn days_before(now: Timestamp, days: i64) -> Timestamp {
    now.saturating_sub((days * 24).hours()).expect("a time")
}
