//! What a commit says, as git's pretty formats name its parts (its pretty.c).
//!
//! Invariant: a commit that is not what git writes has parts that are empty, and is never a failure.

use git2::{ErrorCode, Mailmap, Odb, Oid, Repository, Signature};

use super::{
    dates::Moment,
    encoding::{from_latin1, is_latin1},
};
use crate::git::{GitFailure, cannot, entries as tree};
use crate::model::push::RefName;

/// What git shows of an id where a repository is small.
const SHORT_LENGTH_MIN: usize = 7;

/// A commit, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::git) struct CommitText {
    pub(in crate::git) id: Oid,
    pub(in crate::git) tree: String,
    pub(in crate::git) parents: Vec<String>,
    pub(in crate::git) short_id: String,
    pub(in crate::git) short_tree: String,
    pub(in crate::git) short_parents: Vec<String>,
    /// How many digits of an id are shown, unless it takes more to tell it from others.
    pub(in crate::git) short_length: usize,
    pub(in crate::git) author: Option<Person>,
    pub(in crate::git) committer: Option<Person>,
    /// The encoding it says it has.
    pub(in crate::git) encoding: Option<Vec<u8>>,
    pub(in crate::git) is_signed: bool,
    /// The whole message, in UTF-8 if we can.
    pub(in crate::git) message: Vec<u8>,
    /// The branch or tag it is known by.
    pub(in crate::git) ref_name: Option<RefName>,
}

/// Who wrote or committed it, and when.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::git) struct Person {
    pub(in crate::git) name: Vec<u8>,
    pub(in crate::git) mail: Vec<u8>,
    /// Name and mail as `.mailmap` has them.
    pub(in crate::git) mapped: (Vec<u8>, Vec<u8>),
    /// The digits as they are written, and what they mean.
    pub(in crate::git) date: Option<(Vec<u8>, Moment)>,
}

impl CommitText {
    /// Reads a commit, and what `.mailmap` of its tree says of its people.
    pub(in crate::git) fn read(repo: &Repository, id: Oid, ref_name: Option<&RefName>) -> Result<Self, GitFailure> {
        let what = || cannot::<git2::Error>(format!("read commit {id:.7}"));
        let odb = repo.odb().map_err(what())?;
        let raw = odb.read(id).map_err(what())?;
        // To git, a text ends where a string ends in C.
        let raw = raw.data().split(|it| *it == 0).next().unwrap_or_default();
        let header = |key: &[u8]| headers(raw).find_map(|it| it.strip_prefix(key)?.strip_prefix(b" "));
        let encoding = header(b"encoding").map(<[u8]>::to_vec);
        let text = if is_latin1(encoding.as_deref()) { from_latin1(raw) } else { raw.to_vec() };
        let tree = repo.find_commit(id).and_then(|it| it.tree()).map_err(what())?;
        let mailmap = tree::entry_at(&tree, b".mailmap").filter(|it| it.kind.is_file());
        let mailmap = mailmap.map(|it| tree::small_file(repo, it.id, ".mailmap")).transpose()?;
        let mailmap = mailmap.and_then(|it| Mailmap::from_buffer(&String::from_utf8_lossy(&it)).ok());
        let person = |key: &[u8]| {
            let line = headers(&text).filter_map(|it| it.strip_prefix(key)?.strip_prefix(b" ")).last()?;
            Person::parse(line, mailmap.as_ref())
        };
        let parents: Vec<Oid> = headers(raw)
            .filter_map(|it| Oid::from_str(std::str::from_utf8(it.strip_prefix(b"parent ")?).ok()?).ok())
            .collect();
        let short_length = short_length(repo);
        let short = |id: Oid| short(&odb, id, short_length);
        Ok(Self {
            id,
            tree: tree.id().to_string(),
            parents: parents.iter().map(Oid::to_string).collect(),
            short_id: short(id),
            short_tree: short(tree.id()),
            short_parents: parents.iter().map(|it| short(*it)).collect(),
            short_length,
            author: person(b"author"),
            committer: person(b"committer"),
            is_signed: header(b"gpgsig").is_some(),
            message: message(&text).to_vec(),
            encoding,
            ref_name: ref_name.cloned(),
        })
    }

    /// The message without empty lines at its beginning.
    pub(in crate::git) fn text(&self) -> &[u8] {
        without_blank_lines(&self.message)
    }

    /// The first lines, up to an empty one, as one line; and what follows it.
    pub(in crate::git) fn subject_and_body(&self) -> (Vec<u8>, &[u8]) {
        let mut rest = self.text();
        let mut lines = Vec::new();
        while let Some((line, behind)) = next_line(rest) {
            rest = behind;
            let line = trim_end(line);
            if line.is_empty() {
                break;
            }
            lines.push(line);
        }
        (lines.join(&b' '), without_blank_lines(rest))
    }
}

impl Person {
    /// Reads the person of a header, as git's `split_ident_line` does.
    fn parse(line: &[u8], mailmap: Option<&Mailmap>) -> Option<Self> {
        let open = line.iter().position(|it| *it == b'<')?;
        let close = open + line[open..].iter().position(|it| *it == b'>')?;
        let (name, mail) = (trim_end(&line[..open]).to_vec(), line[open + 1..close].to_vec());
        // A mail address may have a mark of its own too many.
        let last = line.iter().rposition(|it| *it == b'>')?;
        let mapped = mailmap.and_then(|it| mapped(it, &name, &mail));
        let mapped = mapped.unwrap_or_else(|| (name.clone(), mail.clone()));
        Some(Self { name, mail, mapped, date: date(&line[last + 1..]) })
    }
}

/// Digits, and a zone with its sign.
fn date(text: &[u8]) -> Option<(Vec<u8>, Moment)> {
    let text = trim_start(text);
    let length = |it: &[u8]| it.iter().take_while(|it| it.is_ascii_digit()).count();
    let (seconds, rest) = text.split_at(length(text));
    let rest = trim_start(rest);
    let (sign, digits) = rest.split_first()?;
    let zone = &rest[..=length(digits)];
    let is_date = !seconds.is_empty() && matches!(sign, b'+' | b'-') && zone.len() > 1;
    is_date.then(|| (seconds.to_vec(), Moment::parse(seconds, zone)))
}

fn mapped(mailmap: &Mailmap, name: &[u8], mail: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (name, mail) = (std::str::from_utf8(name).ok()?, std::str::from_utf8(mail).ok()?);
    let person = Signature::new(name, mail, &git2::Time::new(0, 0)).ok()?;
    // What libgit2 has to mend is nobody that a map knows.
    if (person.name_bytes(), person.email_bytes()) != (name.as_bytes(), mail.as_bytes()) {
        return None;
    }
    let mapped = mailmap.resolve_signature(&person).ok()?;
    Some((mapped.name_bytes().to_vec(), mapped.email_bytes().to_vec()))
}

fn headers(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|it| *it == b'\n').take_while(|it| !it.is_empty())
}

/// What follows the first empty line.
fn message(text: &[u8]) -> &[u8] {
    let end = text.windows(2).position(|it| it == b"\n\n").map(|it| it + 2);
    &text[end.unwrap_or(text.len())..]
}

/// A line, and what follows it.
fn next_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|it| *it == b'\n').map_or(text.len(), |it| it + 1);
    (!text.is_empty()).then(|| text.split_at(end))
}

fn without_blank_lines(mut text: &[u8]) -> &[u8] {
    while let Some((line, rest)) = next_line(text)
        && trim_end(line).is_empty()
    {
        text = rest;
    }
    text
}

/// A space as git knows it; there are fewer than in ASCII.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

pub(in crate::git) fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|it| !is_space(*it)).map_or(0, |it| it + 1);
    &text[..end]
}

fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|it| !is_space(*it)).unwrap_or(text.len());
    &text[start..]
}

/// How many digits git shows of ids: as many as tell one from the others in all likelihood.
fn short_length(repo: &Repository) -> usize {
    let packs = std::fs::read_dir(repo.path().join("objects/pack")).into_iter().flatten().flatten();
    let indexes = packs.map(|it| it.path()).filter(|it| it.extension().is_some_and(|it| it == "idx"));
    let objects: u64 = indexes.filter_map(|it| objects_of(&it)).sum();
    let bits = (u64::BITS - objects.leading_zeros()) as usize;
    bits.div_ceil(2).max(SHORT_LENGTH_MIN)
}

/// The last of the counts at the head of a pack's index (gitformat-pack(5), version 2).
fn objects_of(index: &std::path::Path) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    let mut count = [0; 4];
    std::fs::File::open(index).ok()?.read_exact_at(&mut count, 8 + 255 * 4).ok()?;
    Some(u32::from_be_bytes(count).into())
}

/// As much of an id as tells it from all others.
fn short(odb: &Odb<'_>, id: Oid, length: usize) -> String {
    let is_ambiguous = |length: usize| odb.exists_prefix(id, length).is_err_and(|it| it.code() == ErrorCode::Ambiguous);
    let whole = id.to_string();
    let length = (length..whole.len()).find(|it| !is_ambiguous(*it)).unwrap_or(whole.len());
    whole[..length].to_owned()
}

/// A byte that stands for itself, and the length of its placeholder.
pub(in crate::git) fn literal(rest: &[u8]) -> Option<(u8, usize)> {
    let digit = |it: u8| char::from(it).to_digit(16);
    match rest {
        [b'n', ..] => Some((b'\n', 1)),
        [b'x', high, low, ..] => Some(((digit(*high)? << 4 | digit(*low)?) as u8, 3)),
        _ => None,
    }
}
