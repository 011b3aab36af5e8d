//! What a script of the suite is made of: verbs of the store by those who use it, time that passes, and crashes.
//!
//! A verb chooses what it acts on by a small number, among what is there when its turn comes. So a shorter script is
//! still one, which is what makes shrinking work.

use std::{collections::BTreeSet, fmt};

use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
    strategy::Union,
};

use landfall::model::run::RunStep;

use crate::cast::{COMMITS, HOOKS, REFS};

const DAY: u32 = 24 * 3600;
const YEAR: u32 = 365 * DAY;

/// A whole script. Printed, it is one short line for each step.
#[derive(Clone)]
pub struct Script(pub Vec<Step>);

/// A verb, and what becomes of its commit.
#[derive(Clone, Debug)]
pub struct Step {
    pub verb: Verb,
    pub fate: Fate,
}

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Good,
    /// It fails, and the daemon lives on.
    Refused,
    /// The daemon dies right before it.
    CrashBefore,
    /// The daemon dies right after it, before anybody is told.
    CrashAfter,
}

/// Who sends a delivery, which decides by what it is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// By its body. Its id says nothing.
    GitHub,
    /// By its id.
    GitLab,
    /// By its body, within an hour and until another push of the ref.
    OldGitLab,
}

/// A delivery: few ids and bodies, so that many come twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    pub sender: Sender,
    pub id: u8,
    pub body: u8,
    /// The hooks that want it.
    pub wanted: BTreeSet<u8>,
    /// The hooks that do not, where they are not among those that do.
    pub refused: BTreeSet<u8>,
    pub ref_name: u8,
    pub commit: u8,
    /// Whether it came after hooks.yaml was changed.
    pub after_reload: bool,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Succeeded,
    Tempfail,
    Failed,
    Permanent,
    TimedOut,
    RolledBack,
    RollbackFailed,
    /// It was stopped: for a person, or for a newer push.
    Cancelled,
    Stale,
    Skipped,
    Interrupted,
    /// The commit could not be fetched, so nothing was staged.
    FetchFailed,
    /// The filter of the hook left it out, so nothing was staged.
    LeftOut,
    /// It was stopped at a step that nobody knows.
    CancelledAnywhere,
    /// Its keeper died at a step that nobody knows.
    InterruptedAnywhere,
}

/// What the holder of a claim does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Start,
    NoteStep(RunStep),
    Finish(End),
    /// It never began; `true`: something kept it from it.
    GiveBack(bool),
    StopLane,
}

/// What the holder of a letter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posting {
    Sent,
    TryLater(u16),
    GiveUp,
}

/// One verb of the store, or something else that happens.
#[derive(Clone, Debug)]
pub enum Verb {
    Push(Push),
    /// Deliveries that come at once, and may share a commit.
    Pushes(Vec<Push>),
    /// A person asks for a deploy.
    Ask {
        hook: u8,
        ref_name: u8,
        commit: u8,
        after_reload: bool,
    },
    /// A person asks for an ended run again.
    Repeat(u8),
    Claim,
    /// By the holder of a claim.
    Hand(u8, Deed),
    /// By somebody whose claim a restart has made void.
    Void(u8, Deed),
    Cancel(u8),
    OpenLane(u8),
    Hold {
        hook: Option<u8>,
        seconds: Option<u16>,
    },
    Resume(Option<u8>),
    Forgive {
        hook: u8,
        commit: u8,
    },
    NextLetter,
    Post(u8, Posting),
    Pass(u16),
    /// The clock of the machine jumps ahead.
    Ahead(u32),
    /// The clock of the machine is set back.
    SetBack(u32),
    /// The daemon ends and starts again.
    Restart,
}

/// How often each kind of verb comes up, in parts.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    pub pushes: u32,
    pub people: u32,
    pub work: u32,
    pub void: u32,
    pub holds: u32,
    pub letters: u32,
    pub time: u32,
    pub jumps: u32,
    pub restarts: u32,
    /// Of a hundred commits, how many go wrong.
    pub trouble: u32,
}

/// Some of everything.
pub const EVERYTHING: Mix = Mix {
    pushes: 30,
    people: 8,
    work: 34,
    void: 4,
    holds: 6,
    letters: 10,
    time: 8,
    jumps: 4,
    restarts: 3,
    trouble: 12,
};

/// Scripts of such a mix.
pub fn scripts(mix: Mix, steps_max: usize) -> impl Strategy<Value = Script> {
    let step = (verb(mix), fate(mix.trouble)).prop_map(|(verb, fate)| Step { verb, fate });
    vec(step, 1..=steps_max).prop_map(Script)
}

fn fate(trouble: u32) -> BoxedStrategy<Fate> {
    let trouble = trouble.min(99);
    let went_wrong = prop_oneof![Just(Fate::Refused), Just(Fate::CrashBefore), Just(Fate::CrashAfter)];
    Union::new_weighted(vec![(100 - trouble, Just(Fate::Good).boxed()), (trouble.max(1), went_wrong.boxed())]).boxed()
}

fn verb(mix: Mix) -> BoxedStrategy<Verb> {
    let kinds = [
        (mix.pushes, pushes()),
        (mix.people, people()),
        (mix.work, work()),
        (mix.void, (number(), deed()).prop_map(|(claim, deed)| Verb::Void(claim, deed)).boxed()),
        (mix.holds, holds()),
        (mix.letters, letters()),
        (mix.time, seconds().prop_map(Verb::Pass).boxed()),
        (mix.jumps, jump()),
        (mix.restarts, Just(Verb::Restart).boxed()),
    ];
    Union::new_weighted(kinds.into_iter().filter(|(weight, _)| *weight > 0).collect()).boxed()
}

fn number() -> impl Strategy<Value = u8> {
    0..6_u8
}

fn hook() -> impl Strategy<Value = u8> {
    0..u8::try_from(HOOKS.len()).expect("few hooks")
}

/// Branches more often than tags.
fn ref_name() -> impl Strategy<Value = u8> {
    prop_oneof![6 => 0..2_u8, 2 => Just(2_u8), 1 => Just(3_u8)]
}

fn seconds() -> BoxedStrategy<u16> {
    prop_oneof![6 => 1..15_u16, 3 => 55..70_u16, 1 => 3000..8000_u16].boxed()
}

/// What a set clock, a machine without a battery and a person do to it. Less is taken for no jump.
fn jump() -> BoxedStrategy<Verb> {
    let back = prop_oneof![2 => 2..15_u32, 2 => 500..700_u32, 1 => Just(DAY), 1 => Just(YEAR)];
    let ahead = prop_oneof![1 => Just(DAY), 2 => Just(YEAR)];
    prop_oneof![3 => back.prop_map(Verb::SetBack), 2 => ahead.prop_map(Verb::Ahead)].boxed()
}

fn push() -> impl Strategy<Value = Push> {
    let sender = prop_oneof![4 => Just(Sender::GitHub), 2 => Just(Sender::GitLab), 1 => Just(Sender::OldGitLab)];
    let after_reload = prop_oneof![4 => Just(false), 1 => Just(true)];
    let what = (ref_name(), 0..3_u8, after_reload);
    (sender, 0..7_u8, 0..7_u8, btree_set(hook(), 0..=3), btree_set(hook(), 0..=2), what).prop_map(
        |(sender, id, body, wanted, refused, (ref_name, commit, after_reload))| {
            let refused = refused.difference(&wanted).copied().collect();
            Push { sender, id, body, wanted, refused, ref_name, commit, after_reload }
        },
    )
}

fn pushes() -> BoxedStrategy<Verb> {
    prop_oneof![6 => push().prop_map(Verb::Push), 1 => vec(push(), 2..=3).prop_map(Verb::Pushes)].boxed()
}

fn people() -> BoxedStrategy<Verb> {
    let ask = (hook(), ref_name(), 0..3_u8, any::<bool>())
        .prop_map(|(hook, ref_name, commit, after_reload)| Verb::Ask { hook, ref_name, commit, after_reload });
    prop_oneof![
        3 => ask,
        2 => number().prop_map(Verb::Repeat),
        3 => number().prop_map(Verb::Cancel),
        1 => (hook(), 0..3_u8).prop_map(|(hook, commit)| Verb::Forgive { hook, commit }),
    ]
    .boxed()
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        5 => Just(End::Succeeded),
        3 => Just(End::Tempfail),
        2 => Just(End::Failed),
        1 => Just(End::Permanent),
        1 => Just(End::TimedOut),
        2 => Just(End::RolledBack),
        1 => Just(End::RollbackFailed),
        3 => Just(End::Cancelled),
        2 => Just(End::Stale),
        1 => Just(End::Skipped),
        2 => Just(End::Interrupted),
        4 => Just(End::FetchFailed),
        1 => Just(End::LeftOut),
        2 => Just(End::CancelledAnywhere),
        1 => Just(End::InterruptedAnywhere),
    ]
}

/// Before staging, after it, and one that says nothing about it.
fn step() -> impl Strategy<Value = RunStep> {
    prop_oneof![Just(RunStep::Fetch), Just(RunStep::Run), Just(RunStep::Finally)]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => Just(Deed::Start),
        2 => step().prop_map(Deed::NoteStep),
        7 => end().prop_map(Deed::Finish),
        3 => any::<bool>().prop_map(Deed::GiveBack),
        1 => Just(Deed::StopLane),
    ]
}

fn work() -> BoxedStrategy<Verb> {
    prop_oneof![
        8 => Just(Verb::Claim),
        16 => (number(), deed()).prop_map(|(claim, deed)| Verb::Hand(claim, deed)),
        1 => number().prop_map(Verb::OpenLane),
    ]
    .boxed()
}

fn holds() -> BoxedStrategy<Verb> {
    let of_what = || option::weighted(0.7, hook());
    let hold = (of_what(), option::weighted(0.5, seconds())).prop_map(|(hook, seconds)| Verb::Hold { hook, seconds });
    prop_oneof![1 => hold, 1 => of_what().prop_map(Verb::Resume)].boxed()
}

fn letters() -> BoxedStrategy<Verb> {
    let posting =
        prop_oneof![3 => Just(Posting::Sent), 2 => seconds().prop_map(Posting::TryLater), 1 => Just(Posting::GiveUp)];
    prop_oneof![1 => Just(Verb::NextLetter), 1 => (number(), posting).prop_map(|(letter, it)| Verb::Post(letter, it))]
        .boxed()
}

impl fmt::Debug for Script {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(out, "\n    {step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.verb)?;
        match self.fate {
            Fate::Good => Ok(()),
            Fate::Refused => out.write_str("  ! the commit fails"),
            Fate::CrashBefore => out.write_str("  ! a crash before the commit"),
            Fate::CrashAfter => out.write_str("  ! a crash after the commit"),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |hook: &Option<u8>| hook.map_or("everything", |it| HOOKS[usize::from(it)]);
        match self {
            Self::Push(push) => write!(out, "push {push}"),
            Self::Pushes(pushes) => {
                let pushes: Vec<_> = pushes.iter().map(Push::to_string).collect();
                write!(out, "at once: push {}", pushes.join(" | push "))
            }
            Self::Ask { hook, ref_name, commit, after_reload } => {
                let (hook, ref_name) = (HOOKS[usize::from(*hook)], REFS[usize::from(*ref_name)]);
                write!(out, "ask {hook} {ref_name} {}{}", COMMITS[usize::from(*commit)], reloaded(*after_reload))
            }
            Self::Repeat(run) => write!(out, "repeat ended run #{run}"),
            Self::Claim => out.write_str("claim"),
            Self::Hand(claim, deed) => write!(out, "with claim #{claim}: {deed:?}"),
            Self::Void(claim, deed) => write!(out, "with void claim #{claim}: {deed:?}"),
            Self::Cancel(run) => write!(out, "cancel run #{run}"),
            Self::OpenLane(lane) => write!(out, "open stopped lane #{lane}"),
            Self::Hold { hook, seconds: None } => write!(out, "hold {}", of(hook)),
            Self::Hold { hook, seconds: Some(seconds) } => write!(out, "hold {} for {seconds} s", of(hook)),
            Self::Resume(hook) => write!(out, "resume {}", of(hook)),
            Self::Forgive { hook, commit } => {
                write!(out, "forgive {} {}", HOOKS[usize::from(*hook)], COMMITS[usize::from(*commit)])
            }
            Self::NextLetter => out.write_str("take a letter"),
            Self::Post(letter, posting) => write!(out, "with letter #{letter}: {posting:?}"),
            Self::Pass(seconds) => write!(out, "{seconds} s pass"),
            Self::Ahead(seconds) => write!(out, "the clock jumps ahead by {seconds} s"),
            Self::SetBack(seconds) => write!(out, "the clock is set back by {seconds} s"),
            Self::Restart => out.write_str("restart"),
        }
    }
}

fn reloaded(after_reload: bool) -> &'static str {
    if after_reload { " after the reload" } else { "" }
}

impl fmt::Display for Push {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |hooks: &BTreeSet<u8>| {
            let names: Vec<_> = hooks.iter().map(|it| HOOKS[usize::from(*it)]).collect();
            if names.is_empty() { "nobody".to_owned() } else { names.join("+") }
        };
        let (ref_name, commit) = (REFS[usize::from(self.ref_name)], COMMITS[usize::from(self.commit)]);
        write!(
            out,
            "{:?} id {} body {} {ref_name} {commit} to {}",
            self.sender,
            self.id,
            self.body,
            names(&self.wanted)
        )?;
        if !self.refused.is_empty() {
            write!(out, " not {}", names(&self.refused))?;
        }
        out.write_str(reloaded(self.after_reload))
    }
}
