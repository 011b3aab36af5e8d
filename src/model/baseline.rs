//! What catch-up compares: what a remote has at this moment, and what is known of its refs here.
//!
//! Invariant: a commit in here is a commit; the object of an annotated tag stands beside it.

use std::collections::HashMap;

use crate::model::{
    push::{CommitId, RefName},
    run::RunId,
};

/// A branch or tag that a remote has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRef {
    /// Its name.
    pub name: RefName,
    /// The commit it leads to.
    pub commit: CommitId,
    /// The object of an annotated tag, by which some forges name it.
    pub tag: Option<CommitId>,
}

impl RemoteRef {
    /// Whether it points there.
    pub fn is_at(&self, id: &CommitId) -> bool {
        self.commit == *id || self.tag.as_ref() == Some(id)
    }
}

/// The refs of a remote, as it has just told them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteRefs {
    /// Those that were asked for.
    pub refs: Vec<RemoteRef>,
    /// The branch its HEAD stands for, if it says so.
    pub default_branch: Option<String>,
}

/// What is known of the refs of a hook's repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The newest push of each ref that was accepted and did not turn out to be stale.
    pub accepted: HashMap<RefName, AcceptedPush>,
    /// Where refs were at the last look that was for the same ones; `None`: there was none.
    pub seen: Option<HashMap<RefName, CommitId>>,
}

/// The newest accepted push of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedPush {
    /// Where it pointed then.
    pub commit: CommitId,
    /// The run by which the push was accepted.
    pub run: RunId,
    /// Where the ref was by earlier pushes, if it is not decided yet whether a later one is stale.
    pub else_at: Vec<CommitId>,
}
