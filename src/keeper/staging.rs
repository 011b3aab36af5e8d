//! Brings the commit from its remote and its tree to where it belongs, through git work in a child.
//!
//! Invariant: the child runs as the hook's user, so no file of the tree or the mirror is anybody else's.

use std::path::PathBuf;

use crate::{
    git::{self, Against, Answer, Fetch, Filter, GitFailure, Into, Login, Order, Place, Scope, Stage, Verdict},
    keeper::{
        attend::End,
        child::{Plan, errand_argv},
        environment,
        family::Exit,
        preflight::Crew,
        releasing::{self, Before},
        run::{Run, failed},
        workspace::Workspace,
    },
    model::{
        deploy::{Git, Strategy},
        run::{Failure, FailureClass, Outcome, RunStep},
    },
    process::{errand, user::Account},
};

/// Brings the commit from the remote, and decides whether it may go live.
pub async fn fetch(run: &mut Run, crew: &Crew, git: &Git) -> Result<(), Outcome> {
    let account = &crew.landing;
    let logins = logins(run, git)?;
    let into = match &run.spec.job.hook.deploy.strategy {
        Strategy::InPlace { path, .. } => Into::WorkTree(path.clone()),
        Strategy::Checkout { .. } | Strategy::Releases { .. } | Strategy::None { .. } => {
            Into::Mirror(mirror(run, account, git)?)
        }
    };
    let target = run.spec.job.target.clone();
    let (remote, scope, against) = (git.remote.to_string(), scope(git, crew), against(run));
    let (mirrors, silence) = (mirrors(run, account)?, git::SILENCE);
    let order = Order::Fetch(Fetch { into, mirrors, remote, logins, target, scope, against, silence });
    let answer = git_work(run, RunStep::Fetch, account, &order).await?;
    let fetched = answer.and_then(Answer::fetched).map_err(|failure| refused(run, RunStep::Fetch, failure))?;
    run.remark(&format!("commit {} {}", fetched.commit.short(), fetched.facts.subject));
    run.facts.commit = Some(fetched.commit);
    run.facts.ref_name = fetched.ref_name.or(run.facts.ref_name.take());
    run.facts.head = Some(fetched.facts);
    obey(run, fetched.verdict)
}

/// What the hook wants of the repository, and what those who work for it leave alone.
fn scope(git: &Git, crew: &Crew) -> Scope {
    Scope { spares_others: crew.spares_others(), ..Scope::of(git) }
}

/// What the commit is held against.
fn against(run: &Run) -> Against {
    let spec = &run.spec;
    let there = run.scene.as_ref().and_then(|it| it.before.as_ref());
    // Where the state folder was lost, the record of the releases still knows.
    let live = spec.live.clone().or_else(|| there.and_then(Before::commit).cloned());
    let is_good = there.is_some_and(|it| it.good_commit().is_some());
    // A folder that is not what a deploy makes of it is not what was live, whatever ran before.
    let is_another = match &spec.job.hook.deploy.strategy {
        Strategy::InPlace { path, .. } => !path.join(".git").exists(),
        // Somebody may have switched by hand.
        Strategy::Releases { .. } => {
            there.and_then(Before::commit) != live.as_ref() || spec.live.is_none() && there.is_some() && !is_good
        }
        Strategy::Checkout { .. } | Strategy::None { .. } => false,
    };
    let is_disturbed = spec.is_disturbed || is_another;
    let hook = &spec.job.hook;
    let paths = hook.paths.as_ref().map_or_else(Vec::new, |it| it.texts().to_vec());
    let filter = Filter { paths, skip_markers: hook.skip_markers.clone() };
    let (live_ref, is_new_tag) = (spec.live_ref.clone(), spec.job.brings_new_tag());
    Against { live, live_ref, is_new_tag, is_disturbed, asked: spec.job.asked, filter }
}

fn obey(run: &mut Run, verdict: Verdict) -> Result<(), Outcome> {
    let outcome = match verdict {
        Verdict::GoAhead { remark: None } => return Ok(()),
        Verdict::GoAhead { remark: Some(remark) } => {
            run.remark(&remark);
            return run.note(RunStep::Fetch, &remark);
        }
        Verdict::Skipped { reason } => Outcome::Skipped { step: RunStep::Fetch, reason },
        Verdict::Stale { reason, options } => {
            let hook = &run.spec.job.hook.name;
            let reason = format!("{reason}; `landfall deploy {hook} {options}` deploys it all the same");
            Outcome::Stale { reason }
        }
    };
    Err(outcome)
}

/// Writes the tree of the commit to where it belongs.
pub async fn stage(run: &mut Run, crew: &Crew, git: &Git) -> Result<(), Outcome> {
    let account = &crew.landing;
    let impossible = |what: &str, err: &dyn std::fmt::Display| {
        failed(RunStep::Stage, FailureClass::Other, format!("cannot make the folder of {what}: {err}"))
    };
    let Some(commit) = run.facts.commit.clone() else {
        return Err(failed(RunStep::Stage, FailureClass::Permanent, "no commit was fetched".into()));
    };
    let desk = run.workspace.desk(account).map_err(|err| impossible("the run", &err))?;
    let patch = desk.folder.join("local-edits.patch");
    let changed_files = desk.folder.join("changed-files");
    let strategy = run.spec.job.hook.deploy.strategy.clone();
    let (tree, place) = match strategy {
        Strategy::InPlace { git: _, path, dirty, clean } => {
            let ref_name = run.facts.ref_name.clone();
            (path.clone(), Place::InPlace { path, ref_name, dirty, clean, patch: patch.clone() })
        }
        Strategy::Releases { path, .. } => {
            let tree = releasing::prepare(run, &path).await?;
            (
                tree.clone(),
                Place::Fresh { mirror: mirror(run, account, git)?, tree, ref_name: run.facts.ref_name.clone() },
            )
        }
        Strategy::Checkout { .. } | Strategy::None { .. } => {
            let tree = run.workspace.tree(account).map_err(|err| impossible("the tree", &err))?;
            (
                tree.clone(),
                Place::Fresh { mirror: mirror(run, account, git)?, tree, ref_name: run.facts.ref_name.clone() },
            )
        }
    };
    let previous = run.facts.previous.clone();
    let (remote, scope) = (git.remote.to_string(), scope(git, crew));
    let order = Order::Stage(Stage { remote, commit, place, scope, previous, changed_files: changed_files.clone() });
    let answer = git_work(run, RunStep::Stage, account, &order).await?;
    let staged = answer.and_then(Answer::staged).map_err(|failure| refused(run, RunStep::Stage, failure))?;
    run.facts.previous = run.facts.previous.take().or(staged.previous);
    run.facts.commit_count = staged.commit_count.or(run.facts.commit_count);
    run.facts.changed_files = Some(changed_files);
    run.facts.tree = Some(tree);
    if staged.patch_saved {
        let kept = run.workspace.keep_edits(&patch, &run.dir).map_err(|err| {
            failed(RunStep::Stage, FailureClass::Other, format!("cannot keep the patch of local edits: {err}"))
        })?;
        let kept: Vec<String> = kept.iter().map(|it| it.display().to_string()).collect();
        run.remark(&format!("local edits were saved in {} and overwritten", kept.join(" and ")));
    }
    Ok(())
}

/// Has an order carried out, and hands back the answer.
async fn git_work(
    run: &mut Run,
    step: RunStep,
    account: &Account,
    order: &Order,
) -> Result<Result<Answer, GitFailure>, Outcome> {
    let desk = run.workspace.desk(account);
    let desk = desk.map_err(|err| failed(step, FailureClass::Other, format!("cannot make the run's folder: {err}")))?;
    run.remark(step.word());
    let plan = Plan {
        argv: errand_argv("git-work", &run.spec.token),
        cwd: &desk.folder,
        env: environment::of_git(&run.spec, account),
        account,
        order: Some(errand::encode(order)),
    };
    let limits = run.limits(run.whole, None);
    let (end, answer) = run.attend((step, None), plan, limits).await?;
    let judged = match end {
        End::Exited(Exit::Code(_)) if !answer.is_empty() => Ok(errand::decode(&answer)),
        End::Exited(Exit::Code(code)) => {
            let reason = format!("git work ended with exit code {code} and no answer");
            let failure = Failure { step, exit_code: Some(code), class: FailureClass::Other, reason };
            Err(Outcome::Failed(failure))
        }
        End::Exited(Exit::Signal(number)) => {
            Err(failed(step, FailureClass::Other, format!("git work was killed by signal {number}")))
        }
        End::Stopped(stop) => Err(run.stopped(step, &format!("`{step}`"), stop)),
    };
    judged.map_err(|outcome| run.with_what_it_met(outcome))
}

fn refused(run: &Run, step: RunStep, failure: GitFailure) -> Outcome {
    run.remark(&format!("{step}: {}", failure.reason));
    failed(step, failure.class, failure.reason)
}

/// The folder of the user's mirrors.
fn mirrors(run: &Run, account: &Account) -> Result<PathBuf, Outcome> {
    let mirrors = run.workspace.mirrors(account);
    mirrors
        .map_err(|err| failed(RunStep::Fetch, FailureClass::Other, format!("cannot make the mirrors' folder: {err}")))
}

/// Where the user's mirror of the hook's remote is, or will be.
fn mirror(run: &Run, account: &Account, git: &Git) -> Result<PathBuf, Outcome> {
    Ok(mirrors(run, account)?.join(Workspace::mirror_name(git.remote.as_str())))
}

/// The credentials of the hook, each with its value.
fn logins(run: &Run, git: &Git) -> Result<Vec<Login>, Outcome> {
    // The tokens were handed over in the order of the credentials.
    let mut tokens = run.secrets.git_tokens.iter();
    git::logins(&git.credentials, |token| {
        tokens.next().cloned().ok_or_else(|| {
            let reason = format!("the token of the remote was not handed over: {token}");
            failed(RunStep::Fetch, FailureClass::Permanent, reason)
        })
    })
}
