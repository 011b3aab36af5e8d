//! A store with runs that ended, and the loop that tells people of them.
//!
//! Invariant: here alone stands how runs end, how the loop is started, and how a letter's state is waited for.

use std::{fs, sync::Arc, time::Duration};

use jiff::{Timestamp, ToSpan};
use landfall::{
    hooks::{self, Environment, Hooks},
    journal::{folder::RunDir, log::Writer},
    model::{
        job::Target,
        name::HookName,
        push::CommitId,
        run::{Failure, FailureClass, Outcome, RunFacts, RunId, RunStep},
    },
    notify::{self, Desk},
    route,
    store::{Claimed, LetterState, LetterTurn, Store},
};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// No wait of a test lasts longer.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why a letter is due again at once.
const TIME_PASSED: &str = "time passed";

pub struct House {
    pub store: Store,
    hooks: watch::Sender<Arc<Hooks>>,
    environment: Environment,
    loop_: Option<(JoinHandle<()>, CancellationToken)>,
    folder: TempDir,
}

/// A step ended with exit code 3.
pub fn failed() -> Outcome {
    let reason = "step `npm run build` ended with exit code 3".to_owned();
    Outcome::Failed(Failure { step: RunStep::Run, exit_code: Some(3), class: FailureClass::Other, reason })
}

impl House {
    /// A house whose hook `shop` has this `notify`, beside this rest of hooks.yaml. Nobody is told yet.
    pub fn new(notify: &str, rest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, state) = (folder.path().join("hooks.yaml"), folder.path().join("state"));
        let hook = "github: acme/shop\n    secret: {env: SECRET}\n    run: 'true'";
        let server = format!("server: {{state: {}, public_url: https://ci.example.org}}", state.display());
        fs::write(&file, format!("{server}\nhooks:\n  shop:\n    {hook}\n    notify: {notify}\n{rest}\n"))
            .expect("a file");
        let environment = Environment::default().with("SECRET", "a-secret").with("PASSWORD", "hunter2-hunter2");
        let environment = environment.with("SLACK", "http://127.0.0.1:1/services/T0/B0/none");
        let loaded = hooks::load(&file, &environment).unwrap_or_else(|refused| panic!("{refused}"));
        let store = Store::open(&state).expect("a store");
        Self { store, hooks: watch::channel(Arc::new(loaded.hooks)).0, environment, loop_: None, folder }
    }

    /// Sets a variable that secrets are read from, for loops started afterwards.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment = self.environment.clone().with(name, value);
    }

    /// A run of `shop` ends like this, after printing these lines.
    pub async fn run_ends(&self, outcome: Outcome, output: &[&str]) -> RunId {
        let hook = self.hooks.borrow().hook(&HookName::parse("shop").expect("a name")).cloned().expect("the hook");
        let commit = CommitId::parse("9f1c2ab0d4e5f60718293a4b5c6d7e8f90a1b2c3").expect("an id");
        let target = Target::Commit { commit, ref_name: None };
        self.store.enqueue(route::by_hand(&hook, target, "ana"), Timestamp::now()).await.expect("queued");
        self.next_run_ends(outcome, output).await
    }

    /// The same with the run that waits, however long it was to.
    pub async fn next_run_ends(&self, outcome: Outcome, output: &[&str]) -> RunId {
        let claimed = match self.store.claim(Timestamp::now()).await.expect("a look") {
            Claimed::Run(claim) => Claimed::Run(claim),
            // The clock of the store jumps ahead, so other waits end as well.
            Claimed::NothingUntil(_) => {
                let later = Timestamp::now().checked_add(2.hours()).expect("a time");
                self.store.claim(later).await.expect("a look")
            }
        };
        let Claimed::Run(claim) = claimed else { panic!("no run waits") };
        let run = claim.run();
        self.store.start(&claim, Timestamp::now()).await.expect("started");
        let folder = RunDir::of(&self.folder.path().join("state"), run);
        folder.create().expect("a folder");
        let mut log = Writer::open(&folder, 1 << 20).expect("a log");
        output.iter().for_each(|it| log.output(Timestamp::now(), it.as_bytes()).expect("a line"));
        log.flush().expect("a log");
        self.store.finish(claim, outcome, RunFacts::default(), Timestamp::now()).await.expect("finished");
        run
    }

    /// Starts the loop.
    pub fn tell(&mut self) {
        let stop = CancellationToken::new();
        let desk = Desk {
            store: self.store.clone(),
            hooks: self.hooks.subscribe(),
            environment: Arc::new(self.environment.clone()),
            state: self.folder.path().join("state"),
        };
        self.loop_ = Some((tokio::spawn(notify::serve(desk, stop.clone())), stop));
    }

    /// Stops the loop and waits for its end.
    pub async fn be_silent(&mut self) {
        let (task, stop) = self.loop_.take().expect("a loop");
        stop.cancel();
        timeout(DEADLINE, task).await.expect("an end in time").expect("no panic");
    }

    /// Closes the store and opens it again, as a restart does.
    pub async fn restart(&mut self) {
        self.be_silent().await;
        self.store.close().await;
        self.store = Store::open(&self.folder.path().join("state")).expect("a store");
        self.tell();
    }

    /// Waits until the letters of the run are as the test wants them, and gives them by address.
    async fn letters_when(&self, run: RunId, wanted: impl Fn(&LetterState) -> bool) -> Vec<(String, LetterState)> {
        let look = async {
            let mut pace = interval(Duration::from_millis(5));
            loop {
                pace.tick().await;
                let letters = self.store.letters_of(run).await.expect("letters");
                if !letters.is_empty() && letters.iter().all(|it| wanted(&it.state)) {
                    return letters.into_iter().map(|it| (it.address.to_string(), it.state)).collect();
                }
            }
        };
        timeout(DEADLINE, look).await.expect("letters in time")
    }

    /// Waits until every letter of the run has come to something.
    pub async fn letters(&self, run: RunId) -> Vec<(String, LetterState)> {
        self.letters_when(run, |it| !matches!(it, LetterState::Owed { why: None, .. })).await
    }

    /// Waits until the only letter of the run has come to something, and says why that is not yet the end.
    pub async fn why_later(&self, run: RunId) -> (Timestamp, String) {
        match self.letters(run).await.remove(0).1 {
            LetterState::Owed { due: Some(due), why: Some(why) } => (due, why),
            other => panic!("not tried again: {other:?}"),
        }
    }

    /// The same for a letter that is given up.
    pub async fn why_never(&self, run: RunId) -> String {
        match self.letters(run).await.remove(0).1 {
            LetterState::GivenUp { why, .. } => why,
            other => panic!("not given up: {other:?}"),
        }
    }

    /// Waits until the only letter of the run has failed once more since [`House::time_passes`].
    pub async fn is_tried_again(&self, run: RunId) {
        let is_news = |it: &LetterState| !matches!(it, LetterState::Owed { why: Some(why), .. } if why == TIME_PASSED);
        self.letters_when(run, is_news).await;
    }

    /// Waits until the only letter of the run was sent.
    pub async fn is_sent(&self, run: RunId) {
        self.letters_when(run, |it| matches!(it, LetterState::Sent { .. })).await;
    }

    /// Lets so much time pass that the letter that is due first is due now.
    pub async fn time_passes(&self) {
        let later = Timestamp::now().checked_add(2.hours()).expect("a time");
        match self.store.next_letter(later).await.expect("a look") {
            LetterTurn::Letter(claim) => {
                self.store.try_later(claim, Duration::ZERO, TIME_PASSED, Timestamp::now()).await.expect("stored");
            }
            LetterTurn::NothingUntil(due) => panic!("no letter before {due:?}"),
        }
    }
}
