//! What this room makes of the texts and streams of strangers, as plain values, so that they can be held against git itself.
//!
//! Invariant: these are the readers that a deploy uses, and they see nothing but what is handed over.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use super::{
    config, lfs, modules,
    progress::Meter,
    remote,
    transport::{
        journey::{Journey, NamedBy, Trouble},
        pack_stream::PackStream,
        ref_stream::RefStream,
    },
    tree::attributes::Attributes,
};

/// What a file like git's configuration says: `section.subsection.key`, and the value.
pub fn settings(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let name = |it: &config::Setting| {
        let names = [&it.section, &it.subsection, &it.key];
        names.into_iter().filter(|it| !it.is_empty()).map(Vec::as_slice).collect::<Vec<_>>().join(&b'.')
    };
    config::settings(text).into_iter().map(|it| (name(&it), it.value)).collect()
}

/// What `.gitmodules` says of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmoduleText {
    /// Its name.
    pub name: Vec<u8>,
    /// Where it is to be.
    pub path: Vec<u8>,
    /// Where it comes from.
    pub url: Vec<u8>,
}

/// The repositories that a `.gitmodules` names.
pub fn submodules(text: &[u8]) -> Vec<SubmoduleText> {
    let shown = |it: modules::Module| SubmoduleText { name: it.name, path: it.path, url: it.url };
    modules::parse(text).into_iter().map(shown).collect()
}

/// The SHA-256 and the size of the file that a blob points to, if it is a pointer of Git LFS.
pub fn lfs_pointer(blob: &[u8]) -> Option<(String, u64)> {
    lfs::Pointer::parse(blob).map(|it| (it.oid, it.size))
}

/// The attributes of paths, as `git check-attr` shows them, where each folder (empty, or with a slash at its end) has this
/// `.gitattributes`. A path with a slash at its end is a folder's.
pub fn attributes<'a>(files: &[(&[u8], &[u8])], paths: &[&'a [u8]]) -> Vec<(&'a [u8], &'static str, Vec<u8>)> {
    let mut attributes = Attributes::default();
    let mut files = files.to_vec();
    files.sort_by_key(|(folder, _)| folder.len());
    for (folder, content) in files {
        attributes.add(folder, content, &mut BTreeSet::new());
    }
    let of = |path: &&'a [u8]| {
        let (path, bare) = (*path, path.strip_suffix(b"/"));
        let settings = attributes.of(bare.unwrap_or(path), bare.is_some());
        settings.shown().map(|(name, value)| (path, name, value)).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

/// What libgit2 gets to read of a remote's list of refs, and of what follows.
pub fn after_refs(from: impl Read) -> io::Result<Vec<u8>> {
    let mut passed = Vec::new();
    RefStream::telling(from, |_| ()).read_to_end(&mut passed)?;
    Ok(passed)
}

/// What libgit2 gets to read of a remote's answer with a pack, which goes into this repository, if there is one.
pub fn after_pack(from: impl Read, into: Option<&Path>) -> io::Result<Vec<u8>> {
    let journey = Journey {
        remote: remote::parse("https://git.example.org/acme/site.git").map_err(|it| io::Error::other(it.reason))?,
        proof: None,
        named_by: NamedBy::Hook,
        is_vouched_for: true,
        silence: Duration::from_secs(60),
        trouble: Trouble::default(),
        indexed_into: into.map(Path::to_owned),
        meter: Meter::new(),
    };
    let mut passed = Vec::new();
    PackStream::new(Deaf(from), &journey).read_to_end(&mut passed)?;
    Ok(passed)
}

/// A far side that does not listen.
struct Deaf<R>(R);

impl<R: Read> Read for Deaf<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R> Write for Deaf<R> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
