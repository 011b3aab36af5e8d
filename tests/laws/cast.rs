//! Who takes part: a few hooks that differ in all a queue can tell apart, before a reload of hooks.yaml and after it.

use std::{fs, sync::Arc};

use landfall::{
    hooks::{Environment, load},
    model::{
        hook::Hook,
        job::Target,
        push::{CommitId, RefName},
    },
};

/// The names, by which verbs choose.
pub const HOOKS: [&str; 6] = ["site", "shop", "api", "busy", "docs", "slow"];

/// Commits, by which verbs choose.
pub const COMMITS: [char; 3] = ['a', 'b', 'c'];

/// Refs, by which verbs choose.
pub const REFS: [&str; 4] = ["heads/main", "heads/next", "tags/v1", "tags/v2"];

const BEFORE: &str = "
  site: {queue: latest, deploy: {path: /srv/site}, retry: {max: 2, on: [tempfail], backoff: 10s}, notify: *all}
  shop: {queue: latest, lane: shared, priority: 5, retry: {max: 1, on: [interrupted], backoff: 0s}, notify: *some}
  api: {queue: all, lane: shared, retry: {max: 0, on: [tempfail], backoff: 10s}, notify: [*all, *more]}
  busy: {queue: cancel, deploy: {path: /srv/busy}, retry: {max: 1, on: [failure], backoff: 1m}, notify: *all}
  docs: {queue: latest, priority: 50, debounce: 10s, notify: *some}
  slow: {queue: all, min_interval: 1m, priority: -20, retry: {max: 0, on: [tempfail], backoff: 10s}, notify: *more}
";

const AFTER: &str = "
  site: {queue: all, lane: shared, deploy: {path: /srv/site}, notify: *some}
  shop: {queue: all, priority: 90, notify: *all}
  api: {queue: latest, notify: *more}
  busy: {queue: latest, lane: other, deploy: {path: /srv/busy}, notify: *more}
  docs: {queue: cancel, lane: other, debounce: 1m, notify: *all}
  slow: {queue: latest, lane: other, min_interval: 10s, retry: {max: 0, on: [tempfail], backoff: 10s}, notify: *all}
";

const HEAD: &str = "
smtp: {host: mail.example.org, from: deploys@example.org}
defaults: {deploy: {strategy: none}, run: ./deploy}
hooks:";

/// All hooks, in both editions of the file.
#[derive(Debug)]
pub struct Cast {
    editions: [Vec<Arc<Hook>>; 2],
}

impl Cast {
    /// Reads both editions.
    pub fn gather() -> Self {
        Self { editions: [BEFORE, AFTER].map(edition) }
    }

    /// A hook, as it is after the reload or before.
    pub fn hook(&self, number: u8, after_reload: bool) -> &Arc<Hook> {
        &self.editions[usize::from(after_reload)][usize::from(number) % HOOKS.len()]
    }
}

fn edition(hooks: &str) -> Vec<Arc<Hook>> {
    let people = [
        ("*all", "{email: ana@example.org, on: all}"),
        ("*some", "{email: ana@example.org, on: [failure, recovery]}"),
        ("*more", "{email: [ana@example.org, bob@example.org], on: [start, success, skipped]}"),
    ];
    let hooks = people.into_iter().fold(hooks.to_owned(), |text, (name, people)| text.replace(name, people));
    let identify = |text: String, name: &&str| {
        text.replace(&format!("{name}: {{"), &format!("{name}: {{github: acme/{name}, secret: {{env: S}}, "))
    };
    let text = format!("{HEAD}{}", HOOKS.iter().fold(hooks, identify));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("hooks.yaml");
    fs::write(&file, text).expect("a file");
    let loaded = load(&file, &Environment::default().with("S", "a long secret")).unwrap_or_else(|err| panic!("{err}"));
    let find = |name: &&str| loaded.hooks.hooks.values().find(|it| it.name.as_str() == *name).map(Arc::clone);
    HOOKS.iter().map(|name| find(name).expect("a hook")).collect()
}

/// What a push or a person asks for.
pub fn target(ref_name: u8, commit: u8) -> Target {
    let ref_name = REFS[usize::from(ref_name) % REFS.len()];
    Target::Commit { commit: commit_id(commit), ref_name: RefName::parse(&format!("refs/{ref_name}")) }
}

/// A commit.
pub fn commit_id(commit: u8) -> CommitId {
    let digit = COMMITS[usize::from(commit) % COMMITS.len()];
    CommitId::parse(&digit.to_string().repeat(40)).expect("an id")
}
