//! Has work on a folder of releases done by a child, as the hook's user, and knows what a run has to know of it.
//!
//! Invariant: the journal says where `current` is about to point before it does, and that it does after it did.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::{
    journal::{
        entries::{Entry, LiveLink, StepExit},
        releases::Release,
        site::{Site, Standing},
    },
    keeper::{
        attend::End,
        child::{Plan, errand_argv},
        environment,
        family::Exit,
        preflight,
        release::{self, Answer, Errand, Looked, Order},
        run::{Run, failed, unwritable},
    },
    model::{
        deploy::{Keeping, Strategy, UMASK_DEFAULT},
        job::Target,
        push::{CommitFacts, CommitId},
        release::{ReleaseName, Verdict},
        run::{FailureClass, Outcome, RunStep},
    },
    process::errand::{self, ErrandFailure},
};

/// The folder of releases that a run works in, and what was live in it when the run began.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The folder.
    pub site: Site,
    /// How releases are kept.
    pub keeping: Keeping,
    /// What was live.
    pub before: Option<Before>,
}

impl Scene {
    /// Whether this release was live when the run began.
    pub fn is_live(&self, name: &ReleaseName) -> bool {
        self.before.as_ref().and_then(|it| it.release.as_ref()).is_some_and(|it| it.name == *name)
    }
}

/// What was live when a run began.
#[derive(Clone, Debug)]
pub struct Before {
    /// The text of the link.
    pub link: PathBuf,
    /// What is known of it.
    pub release: Option<Release>,
}

impl Before {
    /// The commit that was live, if it is known.
    pub fn commit(&self) -> Option<&CommitId> {
        self.release.as_ref()?.commit.as_ref()
    }

    /// The commit that was live, if it was found good.
    pub fn good_commit(&self) -> Option<&CommitId> {
        match self.release.as_ref()?.verdict {
            Verdict::Good => self.commit(),
            Verdict::Ready | Verdict::Live | Verdict::Bad => None,
        }
    }

    /// Whether it is known that it did not come up.
    pub fn is_bad(&self) -> bool {
        self.release.as_ref().is_some_and(|it| it.verdict == Verdict::Bad)
    }

    /// What people call it.
    pub fn name(&self) -> String {
        self.release.as_ref().map_or_else(|| self.link.display().to_string(), |it| it.name.to_string())
    }
}

/// Looks at the folder of releases, if the hook has one, before anything is changed.
pub async fn look(run: &mut Run) -> Result<(), Outcome> {
    let hook = run.spec.job.hook.clone();
    let Strategy::Releases { path, keeping, .. } = &hook.deploy.strategy else {
        let refusal = || failed(RunStep::Preflight, FailureClass::Permanent, "this hook has no releases".into());
        return if run.spec.job.target.is_fetched() { Ok(()) } else { Err(refusal()) };
    };
    let mut scene = Scene { site: Site::at(path), keeping: keeping.clone(), before: None };
    let wanted = match &run.spec.job.target {
        // It is looked at by the one who adopts it.
        Target::Standing => {
            run.scene = Some(scene);
            return Ok(());
        }
        Target::Release { name, .. } => Some(name.clone()),
        Target::Commit { .. } | Target::Ref(_) | Target::DefaultBranch => None,
    };
    // What stands has its links; what the hook shares by now is nothing to it.
    let shared = if wanted.is_none() { keeping.shared.clone() } else { Vec::new() };
    let order = Order::Look { hook: hook.name.clone(), shared, wanted };
    let Looked { link, live, wanted } = match errand(run, RunStep::Preflight, &scene.site, order).await? {
        Answer::Looked(looked) => *looked,
        Answer::Done | Answer::Adopted(_) | Answer::Tidied(_) => Looked::default(),
    };
    scene.before = link.map(|link| Before { link, release: live });
    write_down_late(run, &mut scene).await;
    if let Some(before) = &scene.before {
        run.facts.previous_release = Some(scene.site.root().join(&before.link));
        run.facts.previous = before.commit().cloned().or(run.facts.previous.take());
    }
    if let Some(release) = wanted {
        // What was live when a person asked for the way back may have been left by then: it did not come up.
        if scene.is_live(&release.name) && !run.spec.is_disturbed {
            let reason = format!("release {} is live again already", release.name);
            return Err(Outcome::Skipped { step: RunStep::Preflight, reason });
        }
        let (subject, author) = (release.subject, release.author);
        run.facts.head = Some(CommitFacts { subject, author, author_email: String::new() });
        run.facts.commit = release.commit;
        run.facts.tree = Some(scene.site.release(&release.name));
        run.facts.is_rollback = true;
    }
    run.scene = Some(scene);
    Ok(())
}

/// What is live may have been found good, and the disk had no room for the word. The store has it: the commit is that of
/// a run that succeeded, and nothing has gone wrong since.
async fn write_down_late(run: &mut Run, scene: &mut Scene) {
    let Some(release) = scene.before.as_mut().and_then(|it| it.release.as_mut()) else { return };
    let has_succeeded = !run.spec.is_disturbed && release.commit.is_some() && release.commit == run.spec.live;
    match release.verdict {
        Verdict::Live if has_succeeded => (),
        Verdict::Ready | Verdict::Live | Verdict::Good | Verdict::Bad => return,
    }
    release.verdict = Verdict::Good;
    let name = release.name.clone();
    run.remark(&format!("release {name} was found good, which could not be written down then"));
    judge(run, &scene.site, &name, Verdict::Good, None).await;
}

/// Makes the folders that a new tree needs; gives the one it is staged in.
pub async fn prepare(run: &mut Run, path: &Path) -> Result<PathBuf, Outcome> {
    let site = Site::at(path);
    errand(run, RunStep::Stage, &site, Order::Prepare { run: run.spec.run }).await?;
    Ok(site.staging(run.spec.run))
}

/// Completes the staged tree.
pub async fn furnish(run: &mut Run, scene: &Scene, commit: &CommitId) -> Result<(), Outcome> {
    let (run_id, shared) = (run.spec.run, scene.keeping.shared.clone());
    let order = Order::Furnish { run: run_id, commit: commit.clone(), shared };
    errand(run, RunStep::Shared, &scene.site, order).await.map(drop)
}

/// Gives the staged tree its final name.
pub async fn seal(run: &mut Run, scene: &Scene, commit: &CommitId) -> Result<Release, Outcome> {
    let after = scene.before.as_ref().and_then(|it| scene.site.name_in(&it.link));
    let release = Release { after, ..describe(run, Some(commit))? };
    errand(run, RunStep::Seal, &scene.site, Order::Seal { release: release.clone() }).await?;
    run.facts.tree = Some(scene.site.release(&release.name));
    Ok(release)
}

/// Makes a release of the folder that stands at `current`.
pub async fn adopt(run: &mut Run, scene: &Scene) -> Result<Release, Outcome> {
    let release = describe(run, None)?;
    let to = live_link(&Site::link_to(&release.name), None);
    match switching(run, (RunStep::Switch, &scene.site), to, Order::Adopt { release: release.clone() }).await? {
        Answer::Adopted(release) => Ok(release),
        Answer::Done | Answer::Looked(_) | Answer::Tidied(_) => Ok(release),
    }
}

/// Lets `current` point elsewhere.
pub async fn switch(
    run: &mut Run,
    (step, site): (RunStep, &Site),
    link: &Path,
    commit: Option<&CommitId>,
) -> Result<(), Outcome> {
    let order = Order::Switch { run: run.spec.run, link: link.to_owned() };
    let to = live_link(link, commit);
    let result = switching(run, (step, site), to, order).await;
    match result {
        Ok(_) => Ok(()),
        // Whoever was ended in between may have done it.
        Err(_) if site.standing().is_ok_and(|it| it == Standing::Link(link.to_owned())) => {
            run.remark(&format!("{step}: it was done all the same"));
            Ok(())
        }
        Err(outcome) => Err(outcome),
    }
}

/// Writes down what is known of a release. That it could not be written down does not change how the run ends.
pub async fn judge(run: &mut Run, site: &Site, name: &ReleaseName, verdict: Verdict, note: Option<String>) {
    let note = note.map(|it| run.log.borrow().masked(&it));
    let order = Order::Judge { name: name.clone(), verdict, note };
    if let Err(outcome) = ask(run, RunStep::Cleanup, site, order).await {
        let why = outcome.reason().unwrap_or_default();
        run.remark(&format!("that release {name} is {} is not written down: {why}", verdict.word()));
    }
}

/// Puts away what is not kept. It never changes how the run ends.
pub async fn put_away(run: &mut Run) {
    let Some(scene) = run.scene.clone() else { return };
    // The run ended before it made anything there.
    if !scene.site.own().exists() {
        return;
    }
    let mut spared: Vec<ReleaseName> = release::in_use(&scene.site.releases()).into_iter().collect();
    spared.extend(scene.before.as_ref().and_then(|it| scene.site.name_in(&it.link)));
    run.remark("cleanup");
    // A broken tree is worth a look, not the room that the next run has to have.
    let has_room = preflight::room(&run.spec.job.hook, &run.spec.state).is_ok();
    let failed = if has_room { scene.keeping.failed as usize } else { 0 };
    let good = scene.keeping.good as usize;
    let order = Order::Tidy { run: run.spec.run, good, failed, spared };
    let troubles = match errand(run, RunStep::Cleanup, &scene.site, order).await {
        Ok(Answer::Tidied(troubles)) => troubles,
        Ok(Answer::Done | Answer::Looked(_) | Answer::Adopted(_)) => Vec::new(),
        Err(outcome) => outcome.reason().into_iter().collect(),
    };
    for trouble in troubles {
        let text = format!("cleanup: {trouble}");
        run.remark(&text);
        let text = run.log.borrow().masked(&text);
        // The outcome stands, whatever stays behind.
        let _ = run.records.note(text);
    }
}

fn describe(run: &Run, commit: Option<&CommitId>) -> Result<Release, Outcome> {
    let at = Timestamp::now();
    let stamp = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let name = ReleaseName::of(&stamp, run.spec.run, commit);
    let head = run.facts.head.as_ref();
    Ok(Release {
        name: name.ok_or_else(|| failed(RunStep::Seal, FailureClass::Other, "the release has no name".into()))?,
        commit: commit.cloned(),
        run: run.spec.run,
        at,
        after: None,
        verdict: if commit.is_some() { Verdict::Ready } else { Verdict::Good },
        subject: head.map(|it| it.subject.clone()).unwrap_or_default(),
        author: head.map(|it| it.author.clone()).unwrap_or_default(),
        size_bytes: 0,
        note: None,
    })
}

fn live_link(link: &Path, commit: Option<&CommitId>) -> LiveLink {
    LiveLink { link: link.to_string_lossy().into_owned(), commit: commit.cloned() }
}

/// An errand that changes what is live, between its intent and its fact.
async fn switching(
    run: &mut Run,
    (step, site): (RunStep, &Site),
    to: LiveLink,
    order: Order,
) -> Result<Answer, Outcome> {
    let log_from = run.begin((step, None))?;
    let write = |run: &mut Run, entry| run.records.add(&entry).map_err(|err| unwritable(step, &err));
    write(run, Entry::Switching { at: Timestamp::now(), to: to.clone() })?;
    let result = ask(run, step, site, order).await;
    if result.is_ok() {
        write(run, Entry::Switched { at: Timestamp::now(), to })?;
    }
    bracket_end(run, step, log_from, result)
}

/// An errand as a step of its own, or a part of one.
async fn errand(run: &mut Run, step: RunStep, site: &Site, order: Order) -> Result<Answer, Outcome> {
    let log_from = run.begin((step, None))?;
    let result = ask(run, step, site, order).await;
    bracket_end(run, step, log_from, result)
}

fn bracket_end(
    run: &mut Run,
    step: RunStep,
    log_from: u64,
    result: Result<Answer, Outcome>,
) -> Result<Answer, Outcome> {
    let exit = match &result {
        Ok(_) => StepExit::Good,
        Err(outcome) => StepExit::Stopped(run.log.borrow().masked(&outcome.reason().unwrap_or_default())),
    };
    run.end((step, None), log_from, exit).and(result)
}

/// Has an order carried out, and hands back the answer.
async fn ask(run: &mut Run, step: RunStep, site: &Site, order: Order) -> Result<Answer, Outcome> {
    let other = |reason: String| failed(step, FailureClass::Other, reason);
    let crew = run.crew.clone().ok_or_else(|| other("the user of the hook is not known".into()))?;
    let account = crew.landing;
    let desk = run.workspace.desk(&account).map_err(|err| other(format!("cannot make the run's folder: {err}")))?;
    let umask = run.spec.job.hook.deploy.strategy.git().map_or(UMASK_DEFAULT, |it| it.umask);
    let errand = Errand { root: site.root().to_owned(), umask, order };
    let plan = Plan {
        argv: errand_argv("release-work", &run.spec.token),
        cwd: &desk.folder,
        env: environment::of_git(&run.spec, &account),
        account: &account,
        order: Some(errand::encode(&errand)),
    };
    let limits = run.limits(run.whole, None);
    let (end, answer) = run.stay_with(step, plan, limits).await?;
    match end {
        End::Exited(Exit::Code(_)) => errand::decode(&answer).map_err(|ErrandFailure { class, reason }| {
            run.remark(&format!("{step}: {reason}"));
            failed(step, class, reason)
        }),
        End::Exited(Exit::Signal(number)) => Err(other(format!("the work on releases was killed by signal {number}"))),
        End::Stopped(stop) => Err(run.stopped(step, &format!("`{step}`"), stop)),
    }
}
