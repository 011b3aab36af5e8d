//! The folder of a hook's releases: what is where in it, and what is live.
//!
//! ```text
//! current -> releases/<time>-r<run>-<commit>     relative, so the folder may be moved
//! releases/<time>-r<run>-<commit>/               complete trees, each with its REVISION
//! releases/.staging-r<run>/                      a tree in the making
//! shared/                                        what all releases share
//! .landfall/releases.jsonl                       what is known of each, one line each
//! .landfall/failed/<run>/                        trees that never went live, for a look
//! ```
//!
//! Invariant: what is live is what `current` points to, and nothing else says so.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use crate::{
    journal::entries::LiveLink,
    model::{push::CommitId, release::ReleaseName, run::RunId},
};

/// The folder of a hook's releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site(PathBuf);

/// What stands where the link to the live release belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A link of this text.
    Link(PathBuf),
    /// A folder that has not been adopted.
    Folder,
    /// Something that is neither.
    Other,
}

impl Site {
    /// The site at this path.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// The link to the live release.
    pub fn current(&self) -> PathBuf {
        self.0.join("current")
    }

    /// The folder of complete trees.
    pub fn releases(&self) -> PathBuf {
        self.0.join("releases")
    }

    /// The tree of a release.
    pub fn release(&self, name: &ReleaseName) -> PathBuf {
        self.releases().join(name.as_str())
    }

    /// The tree of a run while it is in the making.
    pub fn staging(&self, run: RunId) -> PathBuf {
        self.releases().join(format!(".staging-r{run}"))
    }

    /// The folder of what all releases share.
    pub fn shared(&self) -> PathBuf {
        self.0.join("shared")
    }

    /// Landfall's own folder in it.
    pub fn own(&self) -> PathBuf {
        self.0.join(".landfall")
    }

    /// Trees that never went live.
    pub fn failed(&self) -> PathBuf {
        self.own().join("failed")
    }

    /// What is known of each release; see [`crate::journal::releases`].
    pub fn records(&self) -> PathBuf {
        self.own().join("releases.jsonl")
    }

    /// The text that `current` has when this release is live.
    pub fn link_to(name: &ReleaseName) -> PathBuf {
        Path::new("releases").join(name.as_str())
    }

    /// The release that a link of this text points to, if it points into `releases/` at all.
    pub fn name_in(&self, link: &Path) -> Option<ReleaseName> {
        let inner = link.strip_prefix(&self.0).unwrap_or(link);
        let mut parts = inner.components().filter(|it| *it != Component::CurDir);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Component::Normal(folder)), Some(Component::Normal(name)), None) if folder == "releases" => {
                name.to_str().and_then(ReleaseName::parse)
            }
            _ => None,
        }
    }

    /// What stands at `current`.
    pub fn standing(&self) -> io::Result<Standing> {
        match fs::symlink_metadata(self.current()) {
            Ok(metadata) if metadata.is_symlink() => Ok(Standing::Link(fs::read_link(self.current())?)),
            Ok(metadata) if metadata.is_dir() => Ok(Standing::Folder),
            Ok(_) => Ok(Standing::Other),
            Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Standing::Nothing)
            }
            Err(err) => Err(err),
        }
    }

    /// What a run whose keeper died has left live, by the switches its journal speaks of.
    pub fn left_by(&self, switches: &[LiveLink]) -> Left {
        if switches.is_empty() {
            return Left::Untouched;
        }
        match self.standing() {
            Ok(Standing::Link(link)) => {
                let link = link.to_string_lossy().into_owned();
                let own = switches.iter().rev().find(|it| it.link == link);
                own.map_or_else(|| Left::Before { link: link.clone() }, |it| Left::Switched(it.clone()))
            }
            Ok(Standing::Nothing | Standing::Folder | Standing::Other) => {
                Left::Unknown { why: "`current` is no link".into() }
            }
            Err(err) => Left::Unknown { why: format!("`current` cannot be read: {err}") },
        }
    }
}

/// What a run whose keeper died has left live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It had not come to a switch.
    Untouched,
    /// What was live before it still is.
    Before {
        /// The text of `current`.
        link: String,
    },
    /// Something it has switched to.
    Switched(LiveLink),
    /// Nobody can say.
    Unknown {
        /// Why; a clause.
        why: String,
    },
}

impl Left {
    /// The commit that is live by the run's doing.
    pub fn commit(&self) -> Option<&CommitId> {
        match self {
            Self::Switched(to) => to.commit.as_ref(),
            Self::Untouched | Self::Before { .. } | Self::Unknown { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::{Left, Site, Standing};
    use crate::{
        journal::entries::LiveLink,
        model::{push::CommitId, release::ReleaseName},
    };

    #[test]
    fn only_a_link_into_releases_is_one_of_ours() {
        let site = Site::at("/srv/shop");
        let name = ReleaseName::parse("20260101T000000Z-r7-9f1c2ab");
        for text in ["releases/20260101T000000Z-r7-9f1c2ab", "./releases/20260101T000000Z-r7-9f1c2ab/"] {
            assert_eq!(site.name_in(Path::new(text)), name);
        }
        assert_eq!(site.name_in(Path::new("/srv/shop/releases/20260101T000000Z-r7-9f1c2ab")), name);
        for text in ["releases", "releases/a/b", "../releases/a", "/srv/other/releases/a", "releases/.staging-r7"] {
            assert_eq!(site.name_in(Path::new(text)), None, "{text}");
        }
    }

    #[test]
    fn what_a_dead_run_left_live_is_what_the_link_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let site = Site::at(folder.path());
        assert_eq!(site.standing().expect("readable"), Standing::Nothing);
        let commit = CommitId::parse(&"a1".repeat(20));
        let to = |link: &str| LiveLink { link: link.into(), commit: commit.clone() };
        assert_eq!(site.left_by(&[]), Left::Untouched);
        symlink("releases/old", site.current()).expect("a link");
        assert_eq!(site.left_by(&[to("releases/new")]), Left::Before { link: "releases/old".into() });
        fs::remove_file(site.current()).expect("removed");
        symlink("releases/new", site.current()).expect("a link");
        let left = site.left_by(&[to("releases/new"), to("releases/old")]);
        assert_eq!((left.commit(), &left), (commit.as_ref(), &Left::Switched(to("releases/new"))));
    }
}
