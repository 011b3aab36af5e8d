//! What the daemon tells about runs, deliveries and itself: the JSON of the API and of `--json`.
//!
//! Invariant: names of fields here are public; one may be added, none renamed or taken away.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// The hook it is of.
    pub hook: String,
    /// The lane it waits and runs in.
    pub lane: String,
    /// `queued`, `running` or `finished`.
    pub state: String,
    /// How it ended; null before. `unreadable`: what is stored of it is damaged, however far it is.
    pub outcome: Option<String>,
    /// The step that decided the outcome, or the one under way.
    pub step: Option<String>,
    /// The exit code that decided the outcome.
    pub exit_code: Option<i32>,
    /// The commit; null while a ref has not been resolved.
    pub sha: Option<String>,
    /// The full ref name, if there is one.
    #[serde(rename = "ref")]
    pub ref_name: Option<String>,
    /// `push`, `tag`, `manual`, `retry`, `rollback` or `catch_up`.
    pub trigger: String,
    /// Who is behind it.
    pub actor: String,
    /// Why it ended as it did, or what it waits for.
    pub reason: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC.
    pub started_at: Option<String>,
    /// RFC 3339, UTC.
    pub finished_at: Option<String>,
    /// Which execution of its job this is, from 1.
    pub attempt: u32,
    /// The run this one repeats.
    pub retry_of: Option<i64>,
    /// The run that repeats this one; null: none does.
    pub repeated_by: Option<i64>,
    /// The waiting runs whose place it took, and those whose places they had taken, oldest first, a hundred at most; what
    /// they were to deploy comes with it.
    pub supersedes: Vec<i64>,
    /// The repository.
    pub repo: String,
    /// What people call the place it deploys to.
    pub environment: String,
    /// First line of the commit's message, as the forge told it.
    pub subject: Option<String>,
    /// A page that shows the difference.
    pub compare_url: Option<String>,
    /// The delivery behind it.
    pub delivery: Option<i64>,
    /// Its lane's fence when it was last claimed: later claims of the lane have higher ones.
    pub fence: Option<i64>,
    /// What its scripts wrote to `DEPLOY_OUTPUT`.
    pub fields: BTreeMap<String, String>,
    /// The release that it goes back to.
    pub release: Option<String>,
    /// Why a person wants that, if they said.
    pub because: Option<String>,
}

/// A run with the letters it caused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunInFull {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Who was told, or is to be.
    pub letters: Vec<Letter>,
    /// Its folder on the daemon's host: spec, journal, log.
    pub folder: String,
    /// Its log: `none` (it has not begun), `kept`, `put_away` (retention removed it), or `missing` (something else did).
    #[serde(default)]
    pub log: String,
}

/// A letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    /// Its number.
    pub id: i64,
    /// To whom; a secret address is named by where it is found.
    pub to: String,
    /// `start`, `success`, `failure`, `recovery` or `skipped`.
    pub occasion: String,
    /// `waiting`, `sent` or `given_up`.
    pub state: String,
    /// How many times it has been tried.
    pub attempts: u32,
    /// What the last try met with.
    pub trouble: Option<String>,
    /// RFC 3339, UTC: not before when it is tried next, or when it was sent or given up.
    pub at: Option<String>,
}

/// A delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// Its number here.
    pub id: i64,
    /// The path it was posted to.
    pub path: String,
    /// The forge's own id.
    pub delivery_id: Option<String>,
    /// The event's name.
    pub event: Option<String>,
    /// The HTTP status it was answered with.
    pub status: u16,
    /// The word of the answer.
    pub result: String,
    /// The sentence of the answer.
    pub message: String,
    /// The runs it made, or had made before.
    pub runs: Vec<i64>,
    /// RFC 3339, UTC.
    pub received_at: String,
}

/// The daemon and its hooks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Landfall's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// The hooks.yaml it follows.
    pub config: String,
    /// Why the file as it is now was not taken; null while it is the one in force.
    pub config_trouble: Option<String>,
    /// What is damaged of the database, since when nothing is accepted; null: nothing.
    pub damage: Option<String>,
    /// What the store did not know any more when it was opened, for thirty days; null: nothing.
    pub loss: Option<Loss>,
    /// Where deliveries are received.
    pub listen: String,
    /// The state folder.
    pub state: String,
    /// How the processes of a run are held together.
    pub holding: Holding,
    /// Why all hooks are on hold; null while they are not.
    pub hold: Option<Hold>,
    /// Letters that wait to be sent.
    pub letters_waiting: u64,
    /// Requests refused since the start because the sender could not be proven.
    pub unauthenticated: u64,
    /// The hooks, by name.
    pub hooks: Vec<HookStatus>,
}

/// A store that was put back, lost or emptied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// When that was noticed. RFC 3339, UTC.
    pub at: String,
    /// What is missing, as a sentence without a full stop.
    pub message: String,
}

/// How the processes of a run are held together, so that all of them can be ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holding {
    /// The control group below which each run gets its own; null: sessions and the keepers hold them together.
    pub cgroup: Option<String>,
    /// Why there is none; null where there is one.
    pub why_none: Option<String>,
    /// The `limits` that do not hold, each as a sentence with its reason.
    #[serde(default)]
    pub unheld_limits: Vec<String>,
}

/// One hook, as it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HookStatus {
    /// Its name.
    pub hook: String,
    /// Its repository.
    pub repo: String,
    /// Its lane.
    pub lane: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The payload URL to enter at the forge.
    pub payload_url: String,
    /// The last commit that was deployed with success; where there is none on record, the one that stands there.
    pub live_sha: Option<String>,
    /// What people should know of it; null: nothing.
    #[serde(default)]
    pub live_note: Option<String>,
    /// Runs that wait.
    pub waiting: u64,
    /// The run under way.
    pub running: Option<Run>,
    /// The newest finished run.
    pub last: Option<Run>,
    /// Why its lane is stopped, if it is.
    pub lane_stopped: Option<String>,
    /// Why it is on hold; null while it is not.
    pub hold: Option<Hold>,
    /// Commits that did not come up; pushes of them are not queued.
    pub bad_commits: Vec<BadCommit>,
    /// What the forge calls its repository by now, where hooks.yaml has an earlier name.
    #[serde(default)]
    pub renamed_to: Option<String>,
    /// Why its remote cannot be asked for pushes that no delivery brought; null while it can.
    #[serde(default)]
    pub remote_trouble: Option<String>,
}

/// What a person has put on hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: String,
    /// RFC 3339, UTC.
    pub since: String,
    /// RFC 3339, UTC: when it ends by itself; null: when a person ends it.
    pub until: Option<String>,
}

/// A commit that went live and did not come up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BadCommit {
    /// Which.
    pub sha: String,
    /// The run that found out.
    pub run: i64,
}

/// What a request to act has brought about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The run it is about.
    pub run: i64,
    /// One sentence.
    pub message: String,
}

/// The releases of a hook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Releases {
    /// Those whose trees are there, newest first.
    pub releases: Vec<Release>,
    /// What people should know besides; sentences.
    pub remarks: Vec<String>,
}

/// A release whose tree is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Release {
    /// Its name.
    pub release: String,
    /// The run that made it.
    pub run: i64,
    /// RFC 3339, UTC: when it was complete.
    pub at: String,
    /// Its commit; null if it was adopted and did not say.
    pub sha: Option<String>,
    /// First line of the commit's message.
    pub subject: String,
    /// Who wrote the commit.
    pub author: String,
    /// `ready`: never was live; `live`: is, or was, and is not judged; `good`; `bad`.
    pub verdict: String,
    /// Whether it is live.
    pub is_live: bool,
    /// Whether it can be gone back to.
    pub is_candidate: bool,
    /// Bytes in its files, as it was complete.
    pub size_bytes: u64,
    /// Why it is bad, or was left.
    pub note: Option<String>,
}

/// A piece of a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogPiece {
    /// Whole lines, in order.
    pub lines: Vec<LogLine>,
    /// Where the next piece begins.
    pub next: u64,
    /// Whether the run has ended and nothing will follow.
    pub is_over: bool,
}

/// A line of a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// RFC 3339, UTC, with milliseconds.
    pub at: String,
    /// Whether Landfall itself says it, and no script.
    pub is_remark: bool,
    /// The line, secrets masked.
    pub text: String,
}

/// What became of a test delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    /// Where it was posted to.
    pub url: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The answer, as the forge would have seen it.
    pub answer: serde_json::Value,
}

/// The sentences of `why`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked about, as it was understood.
    pub about: String,
    /// The chain of decisions, oldest first.
    pub sentences: Vec<String>,
}

/// Why the daemon did not do as asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// A word for programs.
    pub error: String,
    /// A sentence for people.
    pub message: String,
}

/// `POST /v1/hooks/{hook}/deploy`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// Exactly this commit.
    pub sha: Option<String>,
    /// Where this ref points when the run begins: full, or a branch's short name.
    #[serde(rename = "ref")]
    pub ref_name: Option<String>,
    /// Who asks.
    pub actor: String,
}

/// `POST /v1/runs/{id}/cancel` and `/v1/hooks/{hook}/adopt`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// Who asks.
    pub actor: String,
    /// Why, if they say.
    pub reason: Option<String>,
}

/// `POST /v1/runs/{id}/retry`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// Who asks.
    pub actor: String,
    /// With the hook as it was in that run, and not as hooks.yaml has it now.
    #[serde(default)]
    pub as_it_was: bool,
}

/// `POST /v1/hold`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Which hook; null: all of them.
    pub hook: Option<String>,
    /// Why.
    pub reason: String,
    /// Who asks.
    pub actor: String,
    /// For how many seconds; null: until a person ends it.
    pub seconds: Option<u64>,
}

/// `POST /v1/resume`. Without a commit or a lane it ends the hold of the hook, or that of all hooks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// Which hook.
    pub hook: Option<String>,
    /// A commit of the hook that did not come up, to be queued again when it is pushed.
    pub commit: Option<String>,
    /// A lane that was stopped since something of an interrupted run could not be ended.
    pub lane: Option<String>,
    /// Who asks.
    pub actor: String,
}

/// What has been held or resumed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    /// One sentence.
    pub message: String,
}

/// `POST /v1/hooks/{hook}/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// A release, a commit's first digits, or `-N`; by default `-1`.
    pub to: Option<String>,
    /// Why, if they say.
    pub reason: Option<String>,
    /// Who asks.
    pub actor: String,
}

/// `POST /v1/hooks/{hook}/send`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// The ref of the made-up push; by default the hook's branch.
    #[serde(rename = "ref")]
    pub ref_name: Option<String>,
    /// The commit of the made-up push; by default where the remote's ref points.
    pub sha: Option<String>,
    /// A body to send as it is, instead of a made-up one.
    pub payload: Option<String>,
    /// The event's name that goes with `payload`; by default a push.
    pub event: Option<String>,
}
