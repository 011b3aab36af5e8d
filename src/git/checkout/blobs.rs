//! Reads blobs straight out of packs: libgit2 reads each of them whole, under locks that all threads share.
//!
//! Invariant: memory does not grow with the size of a blob, and what cannot be read this way is left to libgit2: a
//! delta, a loose object, a pack of another format.

use std::{
    cmp::{Ordering, Reverse},
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use flate2::{Decompress, FlushDecompress, Status};
use git2::{Oid, Repository};

use crate::git::{GitFailure, cannot, mirror::packs};

/// Blobs are read and written in pieces of at most this.
const PIECE_BYTES: usize = 1 << 20;

/// What is read of a pack at once.
const READ_BYTES: usize = 64 << 10;

/// What is read of a blob at first; most are not longer.
const FIRST_BYTES: usize = 8 << 10;

/// Where the names begin in an index of version 2 (<https://git-scm.com/docs/pack-format>).
const NAMES: u64 = 8 + 256 * 4;

/// The packs of a repository.
pub(in crate::git) struct Shelf(Vec<Pack>);

struct Pack {
    index: File,
    objects: File,
    /// How many names begin with a byte up to this one.
    fan_out: Vec<u64>,
}

/// Where a blob is. In the order of packs, and within a pack of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::git) struct Spot {
    pack: usize,
    offset: u64,
}

/// What one thread reads with.
pub(in crate::git) struct Reader {
    inflate: Decompress,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Reader {
    pub(in crate::git) fn new() -> Self {
        Self { inflate: Decompress::new(true), input: vec![0; READ_BYTES], output: Vec::new() }
    }
}

impl Shelf {
    /// Opens all packs.
    pub(in crate::git) fn open(repo: &Repository) -> Result<Self, GitFailure> {
        let folder = packs::pack_folder(repo);
        let what = || format!("read the packs in `{}`", folder.display());
        let mut opened = Vec::new();
        for entry in fs::read_dir(&folder).map_err(cannot(what()))? {
            let path = entry.map_err(cannot(what()))?.path();
            if path.extension().is_some_and(|it| it == "idx") {
                opened.extend(Pack::open(&path).map_err(cannot(what()))?);
            }
        }
        // The largest is the likeliest.
        opened.sort_by_key(|it| Reverse(it.fan_out[255]));
        Ok(Self(opened))
    }

    /// Finds all of these, in their order; `None`: it is in no pack.
    pub(in crate::git) fn find(&self, ids: &[Oid]) -> io::Result<Vec<Option<Spot>>> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|it| ids[*it]);
        let mut spots = vec![None; ids.len()];
        for group in order.chunk_by(|one, two| ids[*one].as_bytes()[0] == ids[*two].as_bytes()[0]) {
            for (number, pack) in self.0.iter().enumerate() {
                if group.iter().all(|it| spots[*it].is_some()) {
                    break;
                }
                let names = pack.names(ids[group[0]].as_bytes()[0])?;
                for at in group {
                    if spots[*at].is_none() {
                        spots[*at] =
                            names.offset(pack, ids[*at].as_bytes())?.map(|offset| Spot { pack: number, offset });
                    }
                }
            }
        }
        Ok(spots)
    }

    /// Writes a blob; answers whether it was one that can be read here.
    pub(in crate::git) fn copy(&self, spot: Spot, reader: &mut Reader, out: &mut impl Write) -> io::Result<bool> {
        const BLOB: u8 = 3;
        let pack = &self.0[spot.pack].objects;
        let Reader { inflate, input, output } = reader;
        // Deflated data is hardly ever longer than what it stands for.
        let mut length = read_some(pack, spot.offset, &mut input[..FIRST_BYTES])?;
        let (kind, size, mut at) = header(&input[..length]).ok_or_else(damaged)?;
        if kind != BLOB {
            return Ok(false);
        }
        inflate.reset(true);
        output.resize(usize::try_from(size).unwrap_or(usize::MAX).clamp(1, PIECE_BYTES), 0);
        let (mut offset, mut filled) = (spot.offset + length as u64, 0);
        loop {
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let flush = FlushDecompress::None;
            let status = inflate.decompress(&input[at..length], &mut output[filled..], flush).map_err(|_| damaged())?;
            at += usize::try_from(inflate.total_in() - before_in).unwrap_or(usize::MAX);
            filled += usize::try_from(inflate.total_out() - before_out).unwrap_or(usize::MAX);
            let is_over = status == Status::StreamEnd;
            let is_stuck = status == Status::BufError && at < length;
            if is_stuck || is_over && inflate.total_out() != size || inflate.total_out() > size {
                return Err(damaged());
            }
            if is_over || filled == output.len() {
                out.write_all(&output[..filled])?;
                filled = 0;
            }
            if is_over {
                return Ok(true);
            }
            if at == length {
                let left = usize::try_from(size - inflate.total_out()).unwrap_or(usize::MAX);
                let wanted = left.saturating_add(512).min(READ_BYTES);
                length = read_some(pack, offset, &mut input[..wanted])?;
                (at, offset) = (0, offset + length as u64);
                if length == 0 {
                    return Err(damaged());
                }
            }
        }
    }
}

impl Pack {
    fn open(index: &Path) -> io::Result<Option<Self>> {
        let objects = File::open(index.with_extension("pack"))?;
        let index = File::open(index)?;
        let mut head = vec![0; usize::try_from(NAMES).expect("it is small")];
        (&index).read_exact(&mut head)?;
        if !head.starts_with(b"\xfftOc\0\0\0\x02") {
            return Ok(None);
        }
        let fan_out = head[8..].chunks_exact(4).map(|it| u64::from(u32_of(it))).collect();
        Ok(Some(Self { index, objects, fan_out }))
    }

    /// The names that begin with a byte.
    fn names(&self, first: u8) -> io::Result<Names> {
        let begin = first.checked_sub(1).map_or(0, |it| self.fan_out[usize::from(it)]);
        let count = self.fan_out[usize::from(first)].checked_sub(begin).ok_or_else(damaged)?;
        let count = usize::try_from(count).map_err(|_| damaged())?;
        let (mut names, mut offsets) = (vec![0; count * 20], vec![0; count * 4]);
        self.index.read_exact_at(&mut names, NAMES + begin * 20)?;
        self.index.read_exact_at(&mut offsets, NAMES + self.fan_out[255] * 24 + begin * 4)?;
        Ok(Names { names, offsets })
    }
}

/// Names that begin with the same byte, and where their objects are.
struct Names {
    names: Vec<u8>,
    offsets: Vec<u8>,
}

impl Names {
    fn offset(&self, pack: &Pack, id: &[u8]) -> io::Result<Option<u64>> {
        let (mut low, mut high) = (0, self.offsets.len() / 4);
        while low < high {
            let middle = low.midpoint(high);
            match self.names[middle * 20..middle * 20 + 20].cmp(id) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return self.nth(pack, middle).map(Some),
            }
        }
        Ok(None)
    }

    /// Offsets from 2 GiB on are in a table of their own.
    fn nth(&self, pack: &Pack, number: usize) -> io::Result<u64> {
        let short = u64::from(u32_of(&self.offsets[number * 4..number * 4 + 4]));
        if short >> 31 == 0 {
            return Ok(short);
        }
        let mut long = [0; 8];
        pack.index.read_exact_at(&mut long, NAMES + pack.fan_out[255] * 28 + (short & 0x7fff_ffff) * 8)?;
        Ok(u64::from_be_bytes(long))
    }
}

/// Kind, size and own length of an object's header.
fn header(bytes: &[u8]) -> Option<(u8, u64, usize)> {
    let first = *bytes.first()?;
    let (mut size, mut shift, mut at, mut last) = (u64::from(first & 15), 4, 1, first);
    while last & 0x80 != 0 {
        last = *bytes.get(at)?;
        if shift > 57 {
            return None;
        }
        size |= u64::from(last & 0x7f) << shift;
        (shift, at) = (shift + 7, at + 1);
    }
    Some((first >> 4 & 7, size, at))
}

fn read_some(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => (),
            read => return read,
        }
    }
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a pack is damaged")
}
