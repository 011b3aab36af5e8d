//! What is written for each path of a tree.
//!
//! Invariant: a path has its blob's bytes, unless the attributes of its own tree say otherwise.

use std::path::PathBuf;

use crate::git::{
    GitFailure, Scope,
    entries::{Change, Entry, Kind},
    lfs,
    mirror::repository::LocalRepo,
    tree::attributes::{Attributes, Conversion, Substitution, filter_refusal},
};
use crate::model::deploy::{Lfs, UnknownFilters};

/// One thing to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::git) struct Put<'a> {
    /// Relative to the folder.
    pub(in crate::git) path: &'a [u8],
    pub(in crate::git) entry: Entry,
    /// How the file differs from its blob.
    pub(in crate::git) conversion: Conversion,
    /// What its text says of the commit, once it is converted.
    pub(in crate::git) substitution: Option<&'a Substitution>,
    /// The file whose content it has, instead of that of its blob.
    pub(in crate::git) object: Option<PathBuf>,
    /// Whether it is a link that becomes a file, which holds where the link leads.
    pub(in crate::git) is_written_out: bool,
}

impl Put<'_> {
    /// Whether the file may differ from its blob.
    pub(in crate::git) fn is_converted(&self) -> bool {
        self.conversion.is_needed() || self.substitution.is_some()
    }

    /// The file of its blob.
    pub(in crate::git) fn convert(&self, content: Vec<u8>) -> Vec<u8> {
        let content = self.conversion.apply(self.entry.id, content);
        match self.substitution {
            Some(substitution) => substitution.expand(self.path, &content),
            None => content,
        }
    }
}

/// What the hook wants of files that attributes say something about.
#[derive(Clone, Copy)]
pub(in crate::git) struct Handling<'a> {
    pub(in crate::git) lfs: Lfs,
    pub(in crate::git) filters: UnknownFilters,
    /// Whether links are made at all.
    pub(in crate::git) makes_links: bool,
    /// What is known of the commit, for texts that name it.
    pub(in crate::git) substitution: Option<&'a Substitution>,
}

impl From<&Scope> for Handling<'_> {
    fn from(scope: &Scope) -> Self {
        Self { lfs: scope.lfs, filters: scope.filters, makes_links: true, substitution: None }
    }
}

/// What is there now of `changes`, whose paths begin at `prefix` within the tree that the attributes are from.
pub(in crate::git) fn prepare<'a>(
    mirror: &LocalRepo,
    attributes: &Attributes,
    prefix: &[u8],
    changes: &'a [Change],
    handling: Handling<'a>,
) -> Result<Vec<Put<'a>>, GitFailure> {
    let Handling { lfs, filters, makes_links, substitution } = handling;
    match filters {
        UnknownFilters::Fail => filter_refusal(attributes, prefix, changes).map_or(Ok(()), Err)?,
        UnknownFilters::Ignore => (),
    }
    let mut puts = Vec::with_capacity(changes.len());
    for Change { path, now } in changes {
        let Some(entry) = *now else { continue };
        let is_written_out = entry.kind == Kind::Link && !makes_links;
        let conversion = Conversion::default();
        let mut put = Put { path, entry, conversion, substitution: None, object: None, is_written_out };
        put.substitution = substitution.filter(|it| entry.kind.is_file() && it.concerns(path));
        if attributes.matter() && entry.kind.is_file() {
            let whole = [prefix, path].concat();
            let settings = attributes.of(&whole, false);
            put.conversion = settings.conversion();
            if settings.is_lfs()
                && let Some(pointer) = lfs::pointer(mirror, &whole, entry)?
            {
                put.object = lfs::object(mirror, lfs, &whole, &pointer)?;
            }
        }
        puts.push(put);
    }
    Ok(puts)
}
