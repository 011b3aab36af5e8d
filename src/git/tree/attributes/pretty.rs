//! Git's pretty formats (its pretty.c), as `git archive` expands them.
//!
//! Invariant: what is not expanded stays as it is written; whatever a format asks for, nothing is run.

use git2::Repository;

use super::{
    commit::{CommitText, Person, literal},
    dates::Style,
    describing::{Decoration, Wish, describe},
    encoding::{is_latin1, to_latin1},
};
use crate::model::push::RefName;

/// How a placeholder begins that wraps lines, or pads or cuts the next one.
const WIDTHS: [&[u8]; 9] = [b"w(", b"<(", b"<|(", b">(", b">|(", b">>(", b">>|(", b"><(", b"><|("];

/// Where `%(describe)` gets its text from. Git expands one per archive.
#[derive(Clone, Copy)]
pub(in crate::git) enum Describing<'a> {
    /// It is worked out.
    From(&'a Repository),
    /// It has been.
    Known(&'a [u8]),
    /// Another one was it.
    Spent,
}

/// The file that a format is expanded into. Placeholders may look at what stands before them, as they do in git.
pub(in crate::git) struct Page<'a> {
    commit: &'a CommitText,
    /// Seconds since 1970, for what is said of a date relative to it.
    now: i64,
    out: Vec<u8>,
    describing: Describing<'a>,
    /// What the one `%(describe)` came to.
    pub(in crate::git) described: Option<Vec<u8>>,
    /// The format has asked for more than ids, so git has looked for the commit's encoding.
    is_encoded: bool,
    /// Placeholders that git knows and we do not.
    pub(in crate::git) left_out: Vec<Vec<u8>>,
}

impl<'a> Page<'a> {
    pub(in crate::git) fn new(commit: &'a CommitText, now: i64, describing: Describing<'a>) -> Self {
        let (out, left_out) = (Vec::new(), Vec::new());
        Self { commit, now, out, describing, described: None, is_encoded: false, left_out }
    }

    /// Whether the one `%(describe)` was here.
    pub(in crate::git) fn has_described(&self) -> bool {
        matches!(self.describing, Describing::Spent)
    }

    pub(in crate::git) fn into_text(self) -> Vec<u8> {
        self.out
    }

    /// Adds a text as it is.
    pub(in crate::git) fn push(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    /// Expands a format at the end of the page.
    pub(in crate::git) fn expand(&mut self, format: &[u8]) {
        self.is_encoded = false;
        let mut rest = format.split(|it| *it == 0).next().unwrap_or_default();
        while let Some(at) = rest.iter().position(|it| *it == b'%') {
            self.push(&rest[..at]);
            rest = &rest[at + 1..];
            let consumed = match rest.strip_prefix(b"%") {
                Some(_) => {
                    self.push(b"%");
                    1
                }
                None => self.item(rest),
            };
            if consumed == 0 {
                self.push(b"%");
            }
            rest = &rest[consumed..];
        }
        self.push(rest);
        // Git brings all that is there so far into the commit's encoding, whoever wrote it.
        if self.is_encoded
            && is_latin1(self.commit.encoding.as_deref())
            && let Some(encoded) = to_latin1(&self.out)
        {
            self.out = encoded;
        }
    }

    /// Expands a placeholder, and returns its length; 0: it is none.
    fn item(&mut self, rest: &[u8]) -> usize {
        let [sign @ (b'-' | b'+' | b' '), rest @ ..] = rest else { return self.one(rest) };
        if rest.starts_with(b"w") {
            return 0;
        }
        let before = self.out.len();
        let consumed = self.one(rest);
        match (sign, self.out.len() == before) {
            (b'-', true) => {
                let end = self.out.iter().rposition(|it| *it != b'\n').map_or(0, |it| it + 1);
                self.out.truncate(end);
            }
            (b'+', false) => self.out.insert(before, b'\n'),
            (b' ', false) => self.out.insert(before, b' '),
            _ => (),
        }
        consumed + 1
    }

    fn one(&mut self, rest: &[u8]) -> usize {
        if let Some((byte, length)) = literal(rest) {
            self.out.push(byte);
            return length;
        }
        let Some(first) = rest.first() else { return self.of_header(rest) };
        match first {
            b'C' => self.color(rest),
            b'w' | b'<' | b'>' => match bracketed(rest, &WIDTHS) {
                width if width.contains(&b'%') => 0,
                width => self.leave_out(width),
            },
            b'(' if rest.starts_with(b"(describe") => self.describe(rest),
            b'(' if rest.starts_with(b"(decorate") => self.decorate(rest),
            b'H' => self.add(self.commit.id.to_string(), 1),
            b'h' => self.add(&self.commit.short_id, 1),
            b'T' => self.add(&self.commit.tree, 1),
            b't' => self.add(&self.commit.short_tree, 1),
            b'P' => self.add(self.commit.parents.join(" "), 1),
            b'p' => self.add(self.commit.short_parents.join(" "), 1),
            b'm' => self.add(">", 1),
            b'd' => self.decorations(&Decoration::default(), 1),
            b'D' => {
                self.decorations(&Decoration { prefix: Vec::new(), suffix: Vec::new(), ..Decoration::default() }, 1)
            }
            // Of a reflog, which there is none of; of notes and of a walk, which there are none of either.
            b'g' if matches!(rest.get(1), Some(b'd' | b'D' | b's' | b'n' | b'N' | b'e' | b'E')) => 2,
            b'g' | b'S' | b'N' => 0,
            b'G' => self.signature(rest),
            _ => self.of_header(rest),
        }
    }

    /// What git has to read the whole commit for; so it does for what it does not know.
    fn of_header(&mut self, rest: &[u8]) -> usize {
        self.is_encoded = true;
        let commit = self.commit;
        match rest {
            [b'a', ..] => self.person(commit.author.as_ref(), rest),
            [b'c', ..] => self.person(commit.committer.as_ref(), rest),
            [b'e', ..] => self.add(commit.encoding.as_deref().unwrap_or_default(), 1),
            [b'B', ..] => self.add(&commit.message, 1),
            [b's', ..] => self.add(commit.subject_and_body().0, 1),
            [b'b', ..] => self.add(commit.subject_and_body().1, 1),
            [b'f', ..] => self.add(file_name(commit.text().split(|it| *it == b'\n').next().unwrap_or_default()), 1),
            [b'(', ..] if rest.starts_with(b"(trailers") => {
                self.leave_out(bracketed(rest, &[b"(trailers)", b"(trailers:"]))
            }
            _ => 0,
        }
    }

    fn add(&mut self, text: impl AsRef<[u8]>, length: usize) -> usize {
        self.push(text.as_ref());
        length
    }

    /// Keeps a placeholder as it is, and notes that git would not.
    fn leave_out(&mut self, placeholder: &[u8]) -> usize {
        if !placeholder.is_empty() {
            let placeholder = [b"%", placeholder].concat();
            self.push(&placeholder);
            self.left_out.push(placeholder);
        }
        placeholder.len()
    }

    /// No colors in a file, unless somebody insists.
    fn color(&mut self, rest: &[u8]) -> usize {
        let inner = bracketed(rest, &[b"C("]);
        if inner.starts_with(b"C(always,") {
            return self.leave_out(inner);
        }
        let names: [&[u8]; 4] = [b"Cred", b"Cgreen", b"Cblue", b"Creset"];
        let name = names.into_iter().find(|it| rest.starts_with(it));
        inner.len().max(name.map_or(0, <[u8]>::len))
    }

    /// Of a commit without a signature. To judge one, git runs a program.
    fn signature(&mut self, rest: &[u8]) -> usize {
        let text = match rest.get(1) {
            Some(b'?') => "N",
            Some(b'T') => "undefined",
            Some(b'G' | b'S' | b'K' | b'F' | b'P') => "",
            Some(_) | None => return 0,
        };
        if self.commit.is_signed { self.leave_out(&rest[..2]) } else { self.add(text, 2) }
    }

    fn describe(&mut self, rest: &[u8]) -> usize {
        let describing = std::mem::replace(&mut self.describing, Describing::Spent);
        if matches!(describing, Describing::Spent) {
            return 0;
        }
        let Some((wish, length)) = Wish::parse(rest) else { return 0 };
        if wish.is_beyond_us() {
            return self.leave_out(&rest[..length]);
        }
        let text = match describing {
            Describing::From(repo) => describe(repo, self.commit, &wish).unwrap_or_default().into_bytes(),
            Describing::Known(text) => text.to_vec(),
            Describing::Spent => return 0,
        };
        self.push(&text);
        self.described = Some(text);
        length
    }

    fn decorate(&mut self, rest: &[u8]) -> usize {
        match Decoration::parse(rest) {
            Some((decoration, length)) => self.decorations(&decoration, length),
            None => 0,
        }
    }

    fn decorations(&mut self, decoration: &Decoration, length: usize) -> usize {
        let Some(ref_name) = &self.commit.ref_name else { return length };
        let tag = match ref_name {
            RefName::Tag(_) => &decoration.tag[..],
            RefName::Branch(_) => b"",
        };
        let text = [&decoration.prefix, tag, ref_name.short().as_bytes(), &decoration.suffix].concat();
        self.add(text, length)
    }

    fn person(&mut self, person: Option<&Person>, rest: &[u8]) -> usize {
        let Some(part) = rest.get(1) else { return 0 };
        let Some(person) = person else { return is_always_known(*part) };
        let moment = match (part, &person.date) {
            (b'n', _) => return self.add(&person.name, 2),
            (b'N', _) => return self.add(&person.mapped.0, 2),
            (b'e', _) => return self.add(&person.mail, 2),
            (b'E', _) => return self.add(&person.mapped.1, 2),
            (b'l', _) => return self.add(local_part(&person.mail), 2),
            (b'L', _) => return self.add(local_part(&person.mapped.1), 2),
            (_, None) => return is_always_known(*part),
            (b't', Some((digits, _))) => return self.add(digits, 2),
            (_, Some((_, moment))) => *moment,
        };
        let style = match part {
            b'd' => Style::Normal,
            b'D' => Style::Rfc2822,
            b'i' => Style::Iso8601,
            b'I' => Style::Iso8601Strict,
            b's' => Style::Short,
            b'r' => return self.add(moment.ago(self.now), 2),
            b'h' => return self.leave_out(&rest[..2]),
            _ => return 0,
        };
        self.add(moment.print(style), 2)
    }
}

/// The length of a part of a person that git takes for a placeholder even if there is nobody.
fn is_always_known(part: u8) -> usize {
    if matches!(part, b'n' | b'e' | b't' | b'd' | b'D' | b'r' | b'i') { 2 } else { 0 }
}

fn local_part(mail: &[u8]) -> &[u8] {
    mail.split(|it| *it == b'@').next().unwrap_or_default()
}

/// The placeholder with one of these beginnings, up to its bracket; empty: it is none.
fn bracketed<'b>(rest: &'b [u8], heads: &[&[u8]]) -> &'b [u8] {
    let end = rest.iter().position(|it| *it == b')').map_or(0, |it| it + 1);
    if heads.iter().any(|it| rest.starts_with(it)) { &rest[..end] } else { b"" }
}

/// A subject as a file's name, as `git format-patch` makes it.
fn file_name(subject: &[u8]) -> Vec<u8> {
    let mut name = Vec::new();
    let (mut has_gap, mut last) = (false, 0);
    for byte in subject.iter().copied() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') {
            if has_gap && !name.is_empty() {
                name.push(b'-');
            }
            has_gap = false;
            if byte != b'.' || last != b'.' {
                name.push(byte);
            }
        } else {
            has_gap = true;
        }
        last = byte;
    }
    let end = name.iter().rposition(|it| !matches!(it, b'.' | b'-')).map_or(0, |it| it + 1);
    name.truncate(end);
    name
}
