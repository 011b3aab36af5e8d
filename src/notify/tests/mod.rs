//! Promises about what a letter says, in each medium.
//!
//! Invariant: every story here is a variation of [`failure`].

mod hostile;

mod words;

use std::time::Duration;

use crate::{
    model::{
        job::Trigger,
        letter::{Address, LetterId, Occasion},
        name::HookName,
        push::{CommitId, RepoName},
        run::{Failure, FailureClass, Outcome, RunId, RunStep},
        source::Forge,
    },
    notify::{
        foreign::{Line, Link},
        story::{Chapter, Commit, LogLine, Story, Streak},
    },
};

fn line(text: &str) -> Line {
    Line::of(text, 5000)
}

fn failed(step: RunStep, exit_code: Option<i32>, reason: &str) -> Outcome {
    Outcome::Failed(Failure { step, exit_code, class: FailureClass::Other, reason: reason.into() })
}

/// The third failure in a row of a hook that deploys in place.
fn failure() -> Story {
    let id = CommitId::parse("9f1c2ab0d4e5f60718293a4b5c6d7e8f90a1b2c3").expect("an id");
    let log = ["added 12 packages", "> build", "error: cart.ts(3,1): `total` is not defined", "exit status 3"];
    Story {
        letter: LetterId(77),
        address: Address::Email { to: "ops@example.org".into() },
        occasion: Occasion::Failure,
        run: RunId(1842),
        chapter: Chapter::Ended {
            at: "2026-03-01T10:02:21Z".parse().expect("a time"),
            took: Some(Duration::from_secs(141)),
            outcome: failed(RunStep::Run, Some(3), "step `npm run build` ended with exit code 3"),
        },
        hook: HookName::parse("shop").expect("a name"),
        repo: RepoName::parse("acme/shop").expect("a name"),
        forge: Forge::GitHub,
        environment: line("production"),
        url: Link::parse("https://shop.example.org"),
        working_tree: Some(line("/srv/shop")),
        commit: Some(Commit {
            page: Link::parse(&format!("https://github.com/acme/shop/commit/{id}")),
            id,
            subject: Some(line("fix cart rounding")),
            author: Some(line("Ana Ruiz")),
        }),
        ref_name: Some(line("main")),
        previous: CommitId::parse("41d0e77aaaaabbbbbcccccdddddeeeeefffff000"),
        compare: Link::parse("https://github.com/acme/shop/compare/41d0e77...9f1c2ab"),
        commit_count: Some(3),
        actor: line("ana"),
        trigger: Trigger::Push,
        attempt: (1, 3),
        streak: Some(Streak {
            first: RunId(1838),
            since: "2026-03-01T09:15:00Z".parse().expect("a time"),
            failures: 3,
        }),
        fields: vec![(line("artifact"), line("shop-1.4.2.tar.gz"))],
        log_tail: (309..).zip(log).map(|(number, it)| LogLine { number, text: line(it) }).collect(),
        run_page: Link::parse("https://ci.example.org/runs/1842"),
        told_of: vec![Occasion::Failure, Occasion::Recovery],
        server: line("ci.example.org"),
    }
}
