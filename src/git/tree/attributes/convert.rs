//! What line ends, `$Id$` and letters become when a blob is written (git's convert.c).
//!
//! Invariant: the same bytes as `git checkout` writes where nobody's configuration says otherwise.

use git2::Oid;
use memchr::{memchr, memmem};

use super::encoding::Encoding;

/// How a blob differs from its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::git) struct Conversion {
    pub(in crate::git) line_ends: LineEnds,
    pub(in crate::git) ids: Ids,
    pub(in crate::git) encoding: Encoding,
}

/// What happens to lines that end in LF alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::git) enum LineEnds {
    #[default]
    Stay,
    Crlf,
    /// As [`LineEnds::Crlf`], if the blob looks like a text that is all LF.
    CrlfIfText,
}

/// What happens to `$Id$`. Git has two ways to write a file, which differ where a text only resembles an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::git) enum Ids {
    #[default]
    Stay,
    /// As git does it in memory, where it has to look at the whole text to know its line ends.
    InMemory,
    /// As git does it everywhere else, while the text passes by.
    InPassing,
}

impl Conversion {
    /// Whether the file may differ from its blob.
    pub(in crate::git) fn is_needed(self) -> bool {
        self != Self::default()
    }

    /// The file of a blob.
    pub(in crate::git) fn apply(self, id: Oid, mut content: Vec<u8>) -> Vec<u8> {
        content = match self.ids {
            Ids::InMemory if has_id(&content) => with_id(id, &content),
            Ids::InPassing => with_passing_id(id, &content),
            Ids::Stay | Ids::InMemory => content,
        };
        let to_crlf = match self.line_ends {
            LineEnds::Stay => false,
            LineEnds::Crlf => true,
            LineEnds::CrlfIfText => is_text_of_lf(&content),
        };
        if to_crlf {
            content = with_crlf(&content);
        }
        self.encoding.encode(&content).unwrap_or(content)
    }
}

fn with_crlf(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 20);
    let mut rest = content;
    while let Some(end) = memchr(b'\n', rest) {
        out.extend_from_slice(&rest[..end]);
        if !rest[..end].ends_with(b"\r") {
            out.push(b'\r');
        }
        out.push(b'\n');
        rest = &rest[end + 1..];
    }
    out.extend_from_slice(rest);
    out
}

fn is_text_of_lf(content: &[u8]) -> bool {
    let (mut printable, mut other) = (0_usize, 0_usize);
    for byte in content {
        match byte {
            // Some CR: git leaves such a file alone. A NUL: it is none.
            b'\r' | 0 => return false,
            b'\n' => (),
            0x08 | b'\t' | 0x1b | 0x0c | 32..=126 | 128.. => printable += 1,
            127 | 1..32 => other += 1,
        }
    }
    // The end mark of DOS is not held against a text.
    if content.ends_with(b"\x1a") {
        other -= 1;
    }
    printable >> 7 >= other
}

/// Whether there is anything for [`with_id`] to do, as git finds out before it does it.
fn has_id(content: &[u8]) -> bool {
    let mut rest = content;
    while let Some(at) = memmem::find(rest, b"$Id") {
        rest = &rest[at + 3..];
        match rest.first() {
            Some(b'$') => return true,
            Some(b':') if rest.iter().find(|it| matches!(it, b'$' | b'\n')) == Some(&b'$') => return true,
            Some(_) | None => (),
        }
    }
    false
}

fn with_id(id: Oid, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 64);
    let mut rest = content;
    while let Some(dollar) = memchr(b'$', rest) {
        out.extend_from_slice(&rest[..=dollar]);
        rest = &rest[dollar + 1..];
        let length = match rest {
            [b'I', b'd', b'$', ..] => 3,
            [b'I', b'd', b':', behind @ ..] => {
                let Some(end) = memchr(b'$', behind) else { break };
                let within = &behind[..end];
                // Line ends and spaces within are those of another system's id.
                let space = within.get(1..).and_then(|it| memchr(b' ', it)).map(|it| it + 1);
                if memchr(b'\n', within).is_some() || space.is_some_and(|it| it + 1 < end) {
                    continue;
                }
                end + 4
            }
            _ => continue,
        };
        rest = &rest[length..];
        out.extend_from_slice(format!("Id: {id} $").as_bytes());
    }
    out.extend_from_slice(rest);
    out
}

/// Git's `ident_filter_fn`, with all its ways.
fn with_passing_id(id: Oid, content: &[u8]) -> Vec<u8> {
    // With the NUL that ends a string in C: git takes one in the text for a part of the head.
    const HEAD: &[u8] = b"$Id\0";
    let mut out = Vec::with_capacity(content.len() + 64);
    // What is held back, how much of the head has been seen, and whether an id's end is looked for.
    let (mut held, mut seen, mut is_within) = (Vec::new(), 0, false);
    for &byte in content {
        if is_within {
            held.push(byte);
            if !matches!(byte, b'\n' | b'$') {
                continue;
            }
            if byte == b'$' && !is_foreign(&held) {
                held.truncate(3);
                held.extend_from_slice(format!(": {id} $").as_bytes());
            }
            is_within = false;
        } else if HEAD.get(seen) == Some(&byte) {
            seen += 1;
            continue;
        } else {
            held.extend_from_slice(&HEAD[..seen]);
            let is_head = seen == 3;
            seen = 0;
            match byte {
                b'$' if is_head => held.extend_from_slice(format!(": {id} $").as_bytes()),
                _ => held.push(byte),
            }
            is_within = is_head && byte == b':';
            if is_within || is_head && byte != b'$' {
                continue;
            }
        }
        out.append(&mut held);
    }
    held.extend_from_slice(&HEAD[..seen]);
    out.append(&mut held);
    out
}

/// Whether an expanded id is one of another version control system: it has more words than one.
fn is_foreign(id: &[u8]) -> bool {
    let Some(words) = id.strip_prefix(b"$Id: ") else { return false };
    let is_space = |it: u8| matches!(it, b' ' | b'\t' | b'\n' | b'\r');
    words.iter().enumerate().any(|(at, byte)| is_space(*byte) && words.get(at + 1) != Some(&b'$'))
}
