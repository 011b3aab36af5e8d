//! The hooks of the scene, and what the checker has to know of each.
//!
//! Invariant: hooks.yaml is written from this table alone, so the checker judges the very hooks that ran.

/// What a new job does to a waiting one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Nothing.
    All,
    /// It takes the place of one of the same ref.
    LatestOfRef,
    /// It takes the place of any of the hook.
    LatestOfHook,
    /// It takes the place of one of the same ref, also of one under way.
    CancelOfRef,
}

/// Where people hear of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// By Slack, of everything.
    Slack,
    /// By mail, of everything.
    Mail,
    /// Nowhere.
    Nobody,
}

/// One hook.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: &'static str,
    pub repo: &'static str,
    /// Its pushes come to the address that all hooks of `acme` share.
    pub is_shared: bool,
    pub lane: &'static str,
    pub queue: Queue,
    pub told: Told,
    /// It brings a working tree to the commit of a real repository.
    pub has_tree: bool,
    /// How many of a hundred pushes are for it; a hook that shares a repository is pushed to with the other.
    pub weight: u64,
    /// The branches that are pushed to.
    pub branches: &'static [&'static str],
    /// Further lines of hooks.yaml.
    pub lines: &'static str,
}

impl Rule {
    /// Where its pushes are posted to.
    pub fn path(&self) -> String {
        if self.is_shared { "/sources/acme".to_owned() } else { format!("/hooks/{}", self.name) }
    }

    /// Whether a push of a body posted there, about that repository, starts it.
    pub fn is_started_by(&self, path: &str, repo: &str) -> bool {
        self.path() == path && self.repo == repo
    }
}

const USUAL: Rule = Rule {
    name: "",
    repo: "",
    is_shared: false,
    lane: "",
    queue: Queue::All,
    told: Told::Nobody,
    has_tree: false,
    weight: 0,
    branches: &["main"],
    lines: "",
};

/// Every hook. Another policy is one more line here.
pub const RULES: &[Rule] = &[
    Rule {
        name: "site",
        repo: "acme/site",
        lane: "site",
        queue: Queue::LatestOfHook,
        told: Told::Slack,
        has_tree: true,
        weight: 18,
        ..USUAL
    },
    Rule { name: "docs", repo: "acme/docs", lane: "docs", told: Told::Mail, has_tree: true, weight: 7, ..USUAL },
    Rule {
        name: "shop",
        repo: "acme/shop",
        lane: "shared",
        queue: Queue::LatestOfRef,
        weight: 16,
        branches: &["main", "next"],
        lines: "finally: sh $CHAOS_SCENE/job.sh finally",
        ..USUAL
    },
    Rule { name: "stock", repo: "acme/stock", lane: "shared", told: Told::Slack, weight: 8, ..USUAL },
    Rule {
        name: "api",
        repo: "acme/api",
        is_shared: true,
        lane: "api",
        queue: Queue::LatestOfRef,
        told: Told::Slack,
        weight: 11,
        lines: "retry: {max: 3, on: [tempfail, interrupted], backoff: 100ms}\nfinally: sh $CHAOS_SCENE/job.sh finally",
        ..USUAL
    },
    Rule { name: "api-docs", repo: "acme/api", is_shared: true, lane: "jobs", told: Told::Mail, ..USUAL },
    Rule {
        name: "jobs",
        repo: "acme/jobs",
        lane: "jobs",
        weight: 10,
        lines: "finally: sh $CHAOS_SCENE/job.sh finally",
        ..USUAL
    },
    Rule {
        name: "batch",
        repo: "acme/batch",
        lane: "jobs",
        queue: Queue::LatestOfRef,
        told: Told::Mail,
        weight: 15,
        branches: &["main", "a", "b/c"],
        ..USUAL
    },
    Rule {
        name: "preview",
        repo: "acme/preview",
        lane: "preview",
        queue: Queue::CancelOfRef,
        told: Told::Slack,
        weight: 8,
        ..USUAL
    },
    Rule { name: "urgent", repo: "acme/urgent", lane: "urgent", weight: 4, lines: "priority: 50", ..USUAL },
    Rule {
        name: "calm",
        repo: "acme/calm",
        lane: "calm",
        queue: Queue::LatestOfRef,
        told: Told::Mail,
        weight: 8,
        lines: "debounce: 300ms",
        ..USUAL
    },
];
