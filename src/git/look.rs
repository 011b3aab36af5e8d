//! Asks a remote for its refs, without a repository of this machine.
//!
//! Invariant: what is answered is the remote's own word of this moment; nothing is fetched and nothing is written.

use git2::Direction;

use super::{
    GitFailure, Look, Looked, LookedRef, WantedRefs,
    mirror::{
        network::{address, refusal},
        refs::Offered,
    },
    remote,
    transport::{
        journey::{Journey, NamedBy},
        library::{self, travel},
    },
};
use crate::model::{
    hook::Patterns,
    push::{CommitId, RefName},
};

/// Does the order.
pub(super) fn look(order: &Look) -> Result<Looked, GitFailure> {
    library::settle()?;
    let journey = Journey::new(&order.logins, order.silence, &remote::parse(&order.remote)?, (NamedBy::Hook, true));
    let offered = travel(&journey, || offered(&journey)).map_err(|err| refusal(&err, &journey))?;
    let default_branch = offered.head().and_then(|(_, branch)| branch.as_ref()).map(|it| it.short().to_owned());
    let takes =
        order.wanted.iter().map(|it| Takes::new(it, default_branch.as_deref())).collect::<Result<Vec<_>, _>>()?;
    let found = offered.names().filter_map(|full| {
        let name = RefName::parse(full).filter(|name| takes.iter().any(|it| it.takes(name)))?;
        let id = offered.id_of(full)?;
        let commit = offered.commit_of(full)?;
        let parsed = |id: git2::Oid| CommitId::parse(&id.to_string());
        Some(LookedRef { name, commit: parsed(commit)?, tag: parsed(id).filter(|_| id != commit) })
    });
    Ok(Looked { refs: found.collect(), default_branch })
}

fn offered(journey: &Journey) -> Result<Offered, git2::Error> {
    let mut remote = git2::Remote::create_detached(address(journey))?;
    remote.connect(Direction::Fetch)?;
    let heads = remote.list()?;
    let each =
        |head: &git2::RemoteHead<'_>| (head.name().to_owned(), head.oid(), head.symref_target().map(str::to_owned));
    Ok(Offered::new(heads.iter().map(each)))
}

/// Which refs are taken.
enum Takes {
    Branches(Patterns),
    Tags(Patterns),
    Branch(Option<String>),
}

impl Takes {
    fn new(wanted: &WantedRefs, default_branch: Option<&str>) -> Result<Self, GitFailure> {
        let compiled = |texts: &[String]| Patterns::parse(texts).map_err(GitFailure::permanent);
        Ok(match wanted {
            WantedRefs::Branches(texts) => Self::Branches(compiled(texts)?),
            WantedRefs::Tags(texts) => Self::Tags(compiled(texts)?),
            WantedRefs::DefaultBranch => Self::Branch(default_branch.map(str::to_owned)),
        })
    }

    fn takes(&self, name: &RefName) -> bool {
        match (self, name) {
            (Self::Branches(patterns), RefName::Branch(name)) | (Self::Tags(patterns), RefName::Tag(name)) => {
                patterns.match_name(name)
            }
            (Self::Branch(branch), RefName::Branch(name)) => branch.as_ref() == Some(name),
            (Self::Branches(_) | Self::Branch(_), RefName::Tag(_)) | (Self::Tags(_), RefName::Branch(_)) => false,
        }
    }
}
