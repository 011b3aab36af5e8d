//! Carries a script out: against a store, against the model beside it, and before the eyes of the laws.

mod carry_out;
mod hands;

use std::{fmt, rc::Rc, time::Duration};

use jiff::Timestamp;
use landfall::{
    model::run::RunId,
    route::{again, by_hand},
    store::{Hold, Store},
};
use tempfile::TempDir;

use self::hands::Hands;
use crate::{
    acts::{Act, Answer, Delivery},
    cast::{Cast, commit_id, target},
    engine::{Engine, folder},
    laws::{Diary, Event, Law},
    model::Model,
    verbs::{Deed, End, Fate, Posting, Push, Script, Step, Verb},
    view::{Facts, View},
};

/// A store on which a script is carried out.
pub struct Stage<'a> {
    engine: &'a Engine,
    cast: &'a Cast,
    laws: &'a [Law],
    folder: TempDir,
    store: Store,
    now: Timestamp,
    model: Option<Model>,
    hands: Hands,
    view: Rc<View>,
    diary: Diary,
    lines: Vec<String>,
}

/// A law that was broken, and what had happened until then.
#[derive(Debug)]
pub struct Broken {
    pub law: String,
    pub lines: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "broken: {}\n\nafter", self.law)?;
        self.lines.iter().try_for_each(|line| write!(out, "\n    {line}"))
    }
}

type Judged = Result<(), String>;

impl<'a> Stage<'a> {
    /// An empty store; `with_model`: what it shows is compared with the model after every verb.
    pub fn new(engine: &'a Engine, cast: &'a Cast, laws: &'a [Law], with_model: bool) -> Self {
        let folder = folder();
        Self {
            engine,
            cast,
            laws,
            store: engine.open(folder.path()),
            folder,
            now: "2026-11-23T08:00:00Z".parse().expect("a time"),
            model: with_model.then(Model::new),
            hands: Hands::default(),
            view: Rc::default(),
            diary: Diary::default(),
            lines: Vec::new(),
        }
    }

    /// Plays the whole script, then lets everything come to its end.
    pub async fn play(mut self, script: &Script) -> Result<(), Broken> {
        let judged = self.play_on(script).await;
        self.store.close().await;
        judged.map_err(|law| Broken { law, lines: self.lines })
    }

    async fn play_on(&mut self, script: &Script) -> Judged {
        self.view = Rc::new(View::of(&self.store, None, &[]).await);
        for step in &script.0 {
            self.step(step).await?;
        }
        self.come_to_an_end().await
    }

    async fn step(&mut self, step: &Step) -> Judged {
        match &step.verb {
            Verb::Pass(seconds) => self.pass(Duration::from_secs((*seconds).into())),
            Verb::Ahead(seconds) => self.pass(Duration::from_secs((*seconds).into())),
            Verb::SetBack(seconds) => return self.set_back(Duration::from_secs((*seconds).into())).await,
            Verb::Restart => return self.restart().await,
            verb => {
                if let Some(act) = self.choose(verb) {
                    return self.act(act, step.fate).await;
                }
            }
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time).expect("a time");
    }

    /// A daemon looks at its store every few seconds, so the store was told the time shortly before and is told it again
    /// shortly after.
    async fn set_back(&mut self, time: Duration) -> Judged {
        self.act(Act::TellTime, Fate::Good).await?;
        self.now = self.now.saturating_sub(time).expect("a time");
        self.act(Act::TellTime, Fate::Good).await
    }

    /// What a verb acts on, if there is anything.
    fn choose(&self, verb: &Verb) -> Option<Act> {
        let name = |hook: &u8| self.cast.hook(*hook, false).name.clone();
        let facts = &self.view.facts;
        Some(match verb {
            Verb::Push(push) => Act::Receive(self.send(std::slice::from_ref(push))),
            Verb::Pushes(pushes) => Act::Receive(self.send(pushes)),
            Verb::Ask { hook, ref_name, commit, after_reload } => {
                Act::Ask(Box::new(by_hand(self.cast.hook(*hook, *after_reload), target(*ref_name, *commit), "ana")))
            }
            Verb::Repeat(number) => {
                let ended: Vec<_> = facts.runs.iter().rev().filter(|(_, it)| it.outcome().is_some()).collect();
                let (run, _) = pick(&ended, *number)?;
                Act::Ask(Box::new(again(&self.view.jobs[run], RunId(**run), 1, Some("ana"))))
            }
            Verb::Claim => Act::Claim,
            Verb::Hand(number, deed) => self.deed(*number, *deed, false)?,
            Verb::Void(number, deed) => self.deed(*number, *deed, true)?,
            Verb::Cancel(number) => {
                let mut runs: Vec<_> = facts.runs.iter().rev().collect();
                runs.sort_by_key(|(_, it)| it.outcome().is_some());
                Act::Cancel(*pick(&runs, *number)?.0)
            }
            Verb::OpenLane(number) => {
                let lanes: Vec<_> = facts.stopped.keys().collect();
                Act::OpenLane((*pick(&lanes, *number)?).clone())
            }
            Verb::Hold { hook, seconds } => Act::Hold(Hold {
                hook: hook.as_ref().map(name),
                reason: format!("held at {}", self.now),
                author: "ana".into(),
                since: self.now,
                until: seconds.map(|it| self.now + Duration::from_secs(it.into())),
            }),
            Verb::Resume(hook) => Act::Resume(hook.as_ref().map(name)),
            Verb::Forgive { hook, commit } => Act::Forgive(name(hook), commit_id(*commit)),
            Verb::NextLetter => Act::NextLetter,
            Verb::Post(number, posting) => {
                let (letter, attempts) = *pick(&self.hands.letters(), *number)?;
                Act::Post { letter, attempts, posting: *posting }
            }
            Verb::Pass(_) | Verb::Ahead(_) | Verb::SetBack(_) | Verb::Restart => return None,
        })
    }

    fn send(&self, pushes: &[Push]) -> Vec<Delivery> {
        let serials = self.diary.deliveries_sent..;
        pushes.iter().zip(serials).map(|(push, serial)| Delivery::of(push, self.cast, serial)).collect()
    }

    fn deed(&self, number: u8, deed: Deed, is_void: bool) -> Option<Act> {
        let right = pick(&self.hands.rights(is_void), number)?.clone();
        Some(Act::Deed { right, deed, is_void })
    }

    /// Does it, with whatever becomes of its commit. Whoever was not told what became of it asks again, as callers of
    /// the store do.
    async fn act(&mut self, act: Act, fate: Fate) -> Judged {
        let answer = self.carry_out(&act, fate).await;
        match fate {
            Fate::Good | Fate::Refused => self.judge(act, fate, answer, false).await,
            Fate::CrashBefore | Fate::CrashAfter => {
                self.open_again().await;
                self.judge(act.clone(), fate, answer, false).await?;
                self.adopt().await?;
                if fate == Fate::CrashAfter && act.may_be_asked_again() {
                    let act = act.sent_again(self.diary.deliveries_sent..);
                    let answer = self.carry_out(&act, Fate::Good).await;
                    self.judge(act, Fate::Good, answer, true).await?;
                }
                Ok(())
            }
        }
    }

    /// The daemon ends as it should, and starts again.
    async fn restart(&mut self) -> Judged {
        self.open_again().await;
        self.judge(Act::Open, Fate::Good, Answer::Done, false).await?;
        self.adopt().await
    }

    async fn open_again(&mut self) {
        self.store.close().await;
        self.store = self.engine.open(self.folder.path());
        self.hands.make_void();
    }

    async fn adopt(&mut self) -> Judged {
        let answer = self.carry_out(&Act::Adopt, Fate::Good).await;
        self.judge(Act::Adopt, Fate::Good, answer, false).await
    }

    async fn judge(&mut self, act: Act, fate: Fate, answer: Answer, is_repeat: bool) -> Judged {
        let before = Rc::clone(&self.view);
        let is_new_daemon = matches!(act, Act::Open) || matches!(fate, Fate::CrashBefore | Fate::CrashAfter);
        let touched = touched(&act, &answer, &before.facts);
        // Whom a commit is forgiven shows in a glance alone, and a clock that was set back in letters of any run.
        let looks_anew = is_new_daemon || matches!(act, Act::Forgive(..) | Act::TellTime);
        let after = View::of(&self.store, (!looks_anew).then_some(&*before), &touched).await;
        let event = Event { act, fate, answer, is_repeat, at: self.now, before, after: Rc::new(after) };
        self.lines.push(event.to_string());
        self.diary.note_places(&event);
        for law in self.laws {
            (law.judge)(&self.diary, &event).map_err(|why| format!("{}: {why}", law.name))?;
        }
        self.diary.note(&event);
        self.view = Rc::clone(&event.after);
        self.compare(&event)
    }

    /// What the model says to it.
    fn compare(&mut self, event: &Event) -> Judged {
        let Some(model) = &mut self.model else { return Ok(()) };
        let answer = match event.fate {
            Fate::Good | Fate::CrashAfter => Some(model.carry_out(&event.act.as_stored(&event.after.facts), event.at)),
            Fate::Refused | Fate::CrashBefore => None,
        };
        if matches!(event.fate, Fate::CrashBefore | Fate::CrashAfter) {
            model.carry_out(&Act::Open, event.at);
        }
        let shown = event.after.facts.without_messages();
        model.learn(&shown);
        if let (Fate::Good, Some(meant)) = (event.fate, answer) {
            let said = event.answer.in_order_of_storing();
            if said != meant {
                return Err(format!("the store agrees with the model: it answered {said:?}\n     and not {meant:?}"));
            }
        }
        let differences = shown.as_of(event.at).differences(&model.facts().as_of(event.at));
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!("the store agrees with the model: it shows\n  {}", differences.join("\n  ")))
    }

    /// Nothing is in the way any more and everybody does their work: so everything has to end.
    async fn come_to_an_end(&mut self) -> Judged {
        for hook in self.view.facts.holds.values().map(|it| it.hook.clone()).collect::<Vec<_>>() {
            self.act(Act::Resume(hook), Fate::Good).await?;
        }
        for lane in self.view.facts.stopped.keys().cloned().collect::<Vec<_>>() {
            self.act(Act::OpenLane(lane), Fate::Good).await?;
        }
        self.restart().await?;
        for _ in 0..=10 * self.view.facts.runs.len() {
            for right in self.hands.rights(false) {
                let deed = Deed::Finish(End::Succeeded);
                self.act(Act::Deed { right, deed, is_void: false }, Fate::Good).await?;
            }
            self.act(Act::Claim, Fate::Good).await?;
            match self.diary.last_answer() {
                Some(Answer::Idle(Some(due))) => self.now = self.now.max(*due),
                Some(Answer::Idle(None)) => break,
                Some(_) | None => (),
            }
        }
        self.send_all().await?;
        let left = self.view.facts.counts;
        let is_over = (left.queued, left.running, left.letters) == (0, 0, 0);
        if is_over { Ok(()) } else { Err(format!("everything comes to an end: {left:?} are left for ever")) }
    }

    async fn send_all(&mut self) -> Judged {
        for _ in 0..=3 * self.view.facts.letters.len() {
            self.act(Act::NextLetter, Fate::Good).await?;
            match self.diary.last_answer() {
                Some(Answer::Letter(handed)) => {
                    let (letter, attempts) = (handed.letter, handed.attempts);
                    self.act(Act::Post { letter, attempts, posting: Posting::Sent }, Fate::Good).await?;
                }
                Some(Answer::NoLetter(Some(due))) => self.now = self.now.max(*due),
                Some(_) | None => break,
            }
        }
        Ok(())
    }
}

/// The runs whose letters may have changed although they had ended.
fn touched(act: &Act, answer: &Answer, before: &Facts) -> Vec<i64> {
    let posted = match act {
        Act::Post { letter, .. } => before.letters.get(letter).map(|it| it.run),
        _ => None,
    };
    let handed = match answer {
        Answer::Letter(handed) => Some(handed.run),
        _ => None,
    };
    posted.into_iter().chain(handed).collect()
}

fn pick<T>(all: &[T], number: u8) -> Option<&T> {
    (!all.is_empty()).then(|| &all[usize::from(number) % all.len()])
}
