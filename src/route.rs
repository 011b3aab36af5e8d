//! Decides which hooks a verified push starts, and hands out the tickets for their jobs.
//!
//! Invariant: only what is in this file makes a [`Ticket`]: a verified push, a named person, a run that is repeated, or a
//! remote that has another commit than what was accepted. Nothing here does IO or reads a clock.

use std::sync::Arc;

use crate::{
    forge::{Ping, VerifiedPush},
    hooks::Hooks,
    model::{
        baseline::{Known, RemoteRef, RemoteRefs},
        hook::{Hook, Wanted},
        job::{AsOf, Asked, Job, Target, Trigger},
        name::HookName,
        push::{CommitId, Push, RefChange, RefName},
        run::RunId,
        source::SourcePath,
    },
};

/// Permission to queue one job. Only `route` makes one.
#[derive(Clone, Debug)]
pub struct Ticket(Job);

impl Ticket {
    /// The job.
    pub fn job(&self) -> &Job {
        &self.0
    }

    /// The job, for the one who queues it.
    pub fn into_job(self) -> Job {
        self.0
    }
}

/// Where a push leads.
#[derive(Clone, Debug)]
pub enum Routed {
    /// To these jobs.
    Tickets {
        /// One for each hook that wants it; at least one.
        tickets: Vec<Ticket>,
        /// The hooks of the same repository that do not want it, and the rule that says so.
        refused: Vec<(HookName, String)>,
    },
    /// Nowhere.
    Ignored {
        /// The rule, as a sentence without a full stop.
        reason: String,
    },
    /// Nowhere: no hook of that address deploys the repository. A group's hook that was given a hook's own address sends
    /// the pushes of every project there.
    OtherRepo {
        /// Both repositories, as a sentence without a full stop.
        reason: String,
    },
}

/// Decides which hooks a push that was posted to `path` starts.
///
/// Another repository than a hook's own is no error of the sender, also at the hook's own address: GitLab disables a hook
/// after four refusals, and a group's hook hears of every project.
pub fn route(push: &VerifiedPush, path: &SourcePath, hooks: &Hooks) -> Routed {
    let push = push.push();
    match path {
        SourcePath::Hook(name) => match hooks.hook(name) {
            None => Routed::Ignored { reason: format!("there is no hook `{name}`") },
            Some(hook) if hook.repo != push.repo => Routed::OtherRepo {
                reason: format!("hook `{name}` deploys repository `{}`, and this is `{}`", hook.repo, push.repo),
            },
            Some(hook) => judge(push, std::slice::from_ref(hook)),
        },
        SourcePath::Shared(source) => {
            let of_repo = hooks.hooks_of(source, &push.repo);
            match of_repo.is_empty() {
                true => Routed::OtherRepo {
                    reason: format!("no hook of source `{source}` deploys repository `{}`", push.repo),
                },
                false => judge(push, of_repo),
            }
        }
    }
}

/// What a forge is told that tries out the address `path`: whether pushes of that webhook will start anything there.
pub fn of_ping(ping: &Ping, path: &SourcePath, hooks: &Hooks) -> String {
    let mut sentence = "the address works".to_owned();
    let mismatch = ping.repo.as_ref().and_then(|repo| match path {
        SourcePath::Hook(name) => {
            let hook = hooks.hook(name).filter(|it| it.repo != *repo)?;
            Some(format!("this webhook is of repository `{repo}`, and hook `{name}` deploys `{}`", hook.repo))
        }
        SourcePath::Shared(source) => {
            let is_nobodys = hooks.hooks_of(source, repo).is_empty();
            is_nobodys
                .then(|| format!("this webhook is of repository `{repo}`, which no hook of source `{source}` deploys"))
        }
    });
    if let Some(mismatch) = mismatch {
        sentence.push_str(&format!("; but {mismatch}: its pushes start nothing"));
    }
    if ping.sends_no_pushes() {
        sentence.push_str("; but this webhook does not send the event `push`: choose it in the webhook's settings");
    }
    sentence
}

fn judge(push: &Push, candidates: &[Arc<Hook>]) -> Routed {
    let (mut tickets, mut refused) = (Vec::new(), Vec::new());
    for hook in candidates {
        match (hook.wants(push), &push.change) {
            (Wanted::Yes, RefChange::Moved(commit)) => tickets.push(of_push(hook, push, commit)),
            // `wants` has said no to it already; a deletion has no commit that a ticket could name.
            (Wanted::Yes, RefChange::Deleted) => {
                refused.push((hook.name.clone(), "a deletion deploys nothing".to_owned()));
            }
            (Wanted::No(rule), RefChange::Moved(_) | RefChange::Deleted) => refused.push((hook.name.clone(), rule)),
        }
    }
    match (tickets.is_empty(), refused.as_slice()) {
        (false, _) => Routed::Tickets { tickets, refused },
        (true, [(_, rule)]) => Routed::Ignored { reason: rule.clone() },
        (true, _) => Routed::Ignored { reason: each_rule(&refused) },
    }
}

/// What each hook said, as one sentence.
pub fn each_rule(refused: &[(HookName, String)]) -> String {
    let rules: Vec<_> = refused.iter().map(|(hook, rule)| format!("`{hook}`: {rule}")).collect();
    rules.join("; ")
}

fn of_push(hook: &Arc<Hook>, push: &Push, commit: &CommitId) -> Ticket {
    Ticket(Job {
        hook: Arc::clone(hook),
        hook_as_of: AsOf::Acceptance,
        trigger: match push.ref_name {
            RefName::Branch(_) => Trigger::Push,
            RefName::Tag(_) => Trigger::Tag,
        },
        asked: Asked::Push,
        actor: push.actor.clone(),
        target: Target::Commit { commit: commit.clone(), ref_name: Some(push.ref_name.clone()) },
        push: Some(push.clone()),
        attempt: 1,
        retry_of: None,
    })
}

/// A push that no delivery brought.
#[derive(Clone, Debug)]
pub struct Missed {
    /// For the job that catches up with it.
    pub ticket: Ticket,
    /// What the remote has.
    pub found: RemoteRef,
    /// By which run the push was accepted that it was held against; `None`: none of this ref was.
    pub newest: Option<RunId>,
}

/// What comes of comparing a remote with what was accepted.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The pushes that no delivery brought.
    pub missed: Vec<Missed>,
    /// Where those refs are that only match a pattern of the hook, for the next look.
    pub seen: Vec<(RefName, CommitId)>,
    /// Whether some ref is where an earlier push left it, and it is not decided yet whether a later one is stale.
    pub is_undecided: bool,
}

/// Compares what the remote of a hook has with the newest push of each ref that was accepted, and with what the last look saw.
///
/// A ref that hooks.yaml spells out is missed only if a push of it was accepted before. One that only matches a pattern may be
/// new, or have moved, since the last look; the first look at all only takes note.
pub fn compare(hook: &Arc<Hook>, there: &RemoteRefs, known: &Known) -> Comparison {
    let mut comparison = Comparison::default();
    for found in &there.refs {
        let (accepted, is_spelt_out) = (known.accepted.get(&found.name), hook.spells_out(&found.name));
        let seen = known.seen.as_ref().filter(|_| !is_spelt_out);
        let before = accepted.map(|it| &it.commit).or_else(|| seen.and_then(|it| it.get(&found.name)));
        let push = Push {
            forge: hook.forge,
            repo: hook.repo.clone(),
            default_branch: there.default_branch.clone(),
            ref_name: found.name.clone(),
            change: RefChange::Moved(found.commit.clone()),
            before: before.cloned(),
            actor: UNKNOWN.to_owned(),
            compare_url: None,
            commit_count: None,
            head: None,
        };
        if hook.wants(&push) != Wanted::Yes {
            continue;
        }
        if !is_spelt_out {
            comparison.seen.push((found.name.clone(), found.commit.clone()));
        }
        let is_candidate = accepted.is_some() || seen.is_some();
        if !is_candidate || before.is_some_and(|it| found.is_at(it)) {
            continue;
        }
        if accepted.is_some_and(|it| it.else_at.iter().any(|it| found.is_at(it))) {
            comparison.is_undecided = true;
        } else {
            let Ticket(job) = of_push(hook, &push, &found.commit);
            let ticket = Ticket(Job { trigger: Trigger::CatchUp, ..job });
            comparison.missed.push(Missed { ticket, found: found.clone(), newest: accepted.map(|it| it.run) });
        }
    }
    comparison
}

/// Who is behind a push that only its remote tells of.
const UNKNOWN: &str = "unknown";

/// A ticket for a job that a person asked for.
pub fn by_hand(hook: &Arc<Hook>, target: Target, actor: &str) -> Ticket {
    Ticket(Job {
        hook: Arc::clone(hook),
        hook_as_of: AsOf::Acceptance,
        trigger: Trigger::Manual,
        asked: Asked::ByHand,
        actor: actor.to_owned(),
        target,
        push: None,
        attempt: 1,
        retry_of: None,
    })
}

/// A ticket for the way back to what was live before, which a person asked for.
pub fn back(hook: &Arc<Hook>, target: Target, actor: &str) -> Ticket {
    let Ticket(job) = by_hand(hook, target, actor);
    Ticket(Job { trigger: Trigger::Rollback, ..job })
}

/// A ticket that repeats `run` as its `attempt`-th execution; `actor` is the person who asked for it, if one did.
///
/// The hook stays as it was in the job: a retry repeats what was, and a reload changes nothing about it. A person who
/// has a push deployed again means it, also where its commit is live; but an old push is no less old for that.
pub fn again(job: &Job, run: RunId, attempt: u32, actor: Option<&str>) -> Ticket {
    Ticket(Job {
        trigger: Trigger::Retry,
        asked: match (actor, job.asked) {
            (Some(_), Asked::Push | Asked::Again) => Asked::Again,
            (_, asked) => asked,
        },
        actor: actor.unwrap_or(&job.actor).to_owned(),
        attempt,
        retry_of: Some(run),
        ..job.clone()
    })
}

/// A ticket that repeats `run` with the hook as hooks.yaml has it now, for the person who asked for it: they may have
/// mended there what made it fail.
pub fn again_with(hook: &Arc<Hook>, job: &Job, run: RunId, actor: &str) -> Ticket {
    let Ticket(job) = again(job, run, 1, Some(actor));
    Ticket(Job { hook: Arc::clone(hook), hook_as_of: AsOf::Retry, ..job })
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use super::{again, again_with, back, by_hand, compare};
    use crate::{
        hooks::{Environment, load},
        model::{
            baseline::{AcceptedPush, Known, RemoteRef, RemoteRefs},
            hook::Hook,
            job::{AsOf, Asked, Job, Target, Trigger},
            push::{CommitId, RefName},
            run::RunId,
        },
    };

    fn hook() -> Arc<Hook> {
        hook_with("")
    }

    fn hook_with(lines: &str) -> Arc<Hook> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hooks.yaml");
        fs::write(&file, format!("hooks: {{site: {{github: a/b, secret: {{env: S}}, run: x{lines}}}}}"))
            .expect("a file");
        let loaded = load(&file, &Environment::default().with("S", "secret")).expect("a good file");
        Arc::clone(loaded.hooks.hooks.values().next().expect("a hook"))
    }

    #[test]
    fn a_job_by_hand_is_its_persons_doing_and_the_first_try() {
        let job = by_hand(&hook(), Target::DefaultBranch, "ann").into_job();
        assert_eq!((job.trigger, job.actor.as_str(), job.attempt), (Trigger::Manual, "ann", 1));
        assert_eq!((job.retry_of, job.push), (None, None));
        assert_eq!(back(&hook(), Target::DefaultBranch, "ann").into_job().trigger, Trigger::Rollback);
    }

    #[test]
    fn a_repeated_job_keeps_hook_and_target_and_names_the_run_it_repeats() {
        let job = by_hand(&hook(), Target::DefaultBranch, "ann").into_job();
        let unasked = again(&job, RunId(7), 2, None).into_job();
        assert_eq!((unasked.trigger, unasked.actor.as_str(), unasked.attempt), (Trigger::Retry, "ann", 2));
        assert_eq!((unasked.retry_of, &unasked.target), (Some(RunId(7)), &job.target));
        assert!(Arc::ptr_eq(&unasked.hook, &job.hook));
        assert_eq!(again(&job, RunId(7), 1, Some("bob")).into_job().actor, "bob");
    }

    #[test]
    fn a_person_repeats_a_run_with_the_hook_of_now_and_retries_of_that_run_keep_it() {
        let job = by_hand(&hook(), Target::DefaultBranch, "ann").into_job();
        assert_eq!(job.hook_as_of, AsOf::Acceptance);
        let now = hook();
        let anew = again_with(&now, &job, RunId(7), "bob").into_job();
        assert!(Arc::ptr_eq(&anew.hook, &now));
        assert_eq!((anew.hook_as_of, anew.retry_of, anew.actor.as_str()), (AsOf::Retry, Some(RunId(7)), "bob"));
        let retried = again(&anew, RunId(8), 2, None).into_job();
        assert!(Arc::ptr_eq(&retried.hook, &now) && retried.hook_as_of == AsOf::Retry);
    }

    #[test]
    fn a_retry_asks_for_more_than_what_it_repeats_only_if_a_person_does() {
        let by_hand = by_hand(&hook(), Target::DefaultBranch, "ann").into_job();
        let pushed = Job { asked: Asked::Push, ..by_hand.clone() };
        let asked = |job: &Job, actor| again(job, RunId(7), 2, actor).into_job().asked;
        assert_eq!((asked(&pushed, None), asked(&pushed, Some("bob"))), (Asked::Push, Asked::Again));
        assert_eq!((asked(&by_hand, None), asked(&by_hand, Some("bob"))), (Asked::ByHand, Asked::ByHand));
        let once_more = Job { asked: Asked::Again, ..by_hand };
        assert_eq!(asked(&once_more, None), Asked::Again);
    }

    fn at(digit: char) -> CommitId {
        CommitId::parse(&digit.to_string().repeat(40)).expect("an id")
    }

    fn refs(all: &[(&str, char)]) -> Vec<(RefName, CommitId)> {
        all.iter().map(|(name, digit)| (RefName::parse(name).expect("a ref"), at(*digit))).collect()
    }

    /// What is missed of a remote that has these, where those were accepted, and the last look saw these.
    fn missed(
        on: &str,
        there: &[(&str, char)],
        accepted: &[(&str, char)],
        seen: Option<&[(&str, char)]>,
    ) -> Vec<String> {
        let hook = hook_with(&format!(", on: {on}"));
        let remote = |(name, commit): (RefName, CommitId)| RemoteRef { name, commit, tag: Some(at('f')) };
        let there = refs(there).into_iter().map(remote).collect();
        let there = RemoteRefs { refs: there, default_branch: Some("main".into()) };
        let known = |(name, commit): (RefName, CommitId)| {
            (name, AcceptedPush { commit, run: RunId(7), else_at: vec![at('e')] })
        };
        let seen = seen.map(|it| refs(it).into_iter().collect());
        let known = Known { accepted: refs(accepted).into_iter().map(known).collect(), seen };
        let comparison = compare(&hook, &there, &known);
        let told = comparison.missed.iter().map(|it| {
            let (job, newest) = (it.ticket.job(), it.newest.map_or(0, |run| run.0));
            assert_eq!((job.trigger, job.asked), (Trigger::CatchUp, Asked::Push));
            let before = job.push.as_ref().and_then(|it| it.before.as_ref()).map_or("new", |it| &it.as_str()[..1]);
            format!("{} {before} {newest}", it.found.name.short())
        });
        told.collect()
    }

    #[test]
    fn what_is_spelt_out_is_missed_where_the_remote_has_another_commit_than_was_accepted() {
        let (main, there) = ("refs/heads/main", [("refs/heads/main", 'b'), ("refs/heads/dev", 'b')]);
        assert_eq!(missed("{push: main}", &there, &[(main, 'a')], None), ["main a 7"]);
        assert_eq!(missed("{push: main}", &there, &[(main, 'b')], None), [""; 0]);
        assert_eq!(missed("{push: main}", &[(main, 'e')], &[(main, 'b')], None), [""; 0], "it may be stale");
        assert_eq!(missed("{push: main}", &there, &[], Some(&[])), [""; 0], "it never was accepted");
        assert_eq!(missed("{push: main}", &[], &[(main, 'a')], None), [""; 0], "it was deleted");
        assert_eq!(missed("{tag: v1}", &there, &[(main, 'a')], None), [""; 0], "nobody wants it any more");
    }

    #[test]
    fn what_matches_a_pattern_is_missed_if_it_is_new_or_has_moved_since_the_last_look() {
        let (old, new) = ("refs/heads/rel/1", "refs/heads/rel/2");
        let there = [(old, 'b'), (new, 'b')];
        let on = "{push: [main, 'rel/*']}";
        assert_eq!(missed(on, &there, &[], None), [""; 0], "the first look");
        assert_eq!(missed(on, &there, &[], Some(&[(old, 'b')])), ["rel/2 new 0"]);
        assert_eq!(missed(on, &there, &[], Some(&[(old, 'a'), (new, 'b')])), ["rel/1 a 0"]);
        assert_eq!(
            missed(on, &there, &[(old, 'b'), (new, 'b')], Some(&[(old, 'a')])),
            [""; 0],
            "it was accepted since"
        );
        assert_eq!(missed(on, &there, &[(old, 'a')], None), ["rel/1 a 7"], "it was accepted before the first look");
        assert_eq!(missed("{push: [main, 'rel/*', '!rel/2']}", &there, &[], Some(&[])), ["rel/1 new 0"]);
    }

    #[test]
    fn an_annotated_tag_is_known_by_its_commit_and_by_its_object() {
        let (there, tag) = ([("refs/tags/v1", 'b')], "refs/tags/v1");
        for digit in ['b', 'f'] {
            assert_eq!(missed("{tag: 'v*'}", &there, &[(tag, digit)], Some(&[])), [""; 0]);
        }
        assert_eq!(missed("{tag: 'v*'}", &there, &[(tag, 'a')], Some(&[])), ["v1 a 7"]);
    }
}
