//! The placeholders `%(describe:...)` and `%(decorate:...)`, and what stands behind their colons.
//!
//! Invariant: git's own reading of them, its oddities included: a truth that is none is passed over.

use git2::{DescribeFormatOptions, DescribeOptions, Repository};

use super::commit::{CommitText, literal};

/// Git shows no fewer digits of an id.
const ABBREV_MIN: i64 = 4;

/// How a commit is to be described.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::git) struct Wish {
    /// Lightweight tags count, too.
    has_tags: bool,
    /// How many digits of the id.
    abbrev: Option<i64>,
    matches: Vec<Vec<u8>>,
    excludes: Vec<Vec<u8>>,
}

impl Wish {
    /// Reads the placeholder, and tells its length.
    pub(in crate::git) fn parse(text: &[u8]) -> Option<(Self, usize)> {
        let mut wish = Self::default();
        let mut rest = text.strip_prefix(b"(describe")?;
        if let Some(arguments) = rest.strip_prefix(b":") {
            rest = arguments;
            while wish.take_one(&mut rest)? {}
        }
        rest.starts_with(b")").then(|| (wish, text.len() - rest.len() + 1))
    }

    /// Reads one argument, and tells whether there was one; `None`: git gives up.
    fn take_one(&mut self, rest: &mut &[u8]) -> Option<bool> {
        // Git passes a truth that is none, and looks for the others behind it.
        if let Some(value) = argument(rest, b"tags")
            && let Some(value) = value.map_or(Some(true), truth)
        {
            self.has_tags = value;
            return Some(true);
        }
        if let Some(value) = argument(rest, b"abbrev") {
            self.abbrev = Some(std::str::from_utf8(value?).ok()?.parse().ok()?);
            return Some(true);
        }
        for (name, list) in [(&b"exclude"[..], &mut self.excludes), (b"match", &mut self.matches)] {
            if let Some(value) = argument(rest, name) {
                list.push(value.filter(|it| !it.is_empty())?.to_vec());
                return Some(true);
            }
        }
        Some(false)
    }

    /// Whether libgit2 cannot do it.
    pub(in crate::git) fn is_beyond_us(&self) -> bool {
        !self.excludes.is_empty() || self.matches.len() > 1
    }
}

/// Describes a commit by the tags of the repository; `None`: none reaches it, which to git is an empty text.
pub(in crate::git) fn describe(repo: &Repository, commit: &CommitText, wish: &Wish) -> Option<String> {
    let commit_object = repo.find_object(commit.id, None).ok()?;
    let mut options = DescribeOptions::new();
    if wish.has_tags {
        options.describe_tags();
    }
    if let [pattern] = &wish.matches[..] {
        options.pattern(std::str::from_utf8(pattern).ok()?);
    }
    let length = match wish.abbrev {
        None => commit.short_length as u32,
        Some(0) => 0,
        Some(length) => length.clamp(ABBREV_MIN, 40) as u32,
    };
    let mut format = DescribeFormatOptions::new();
    format.abbreviated_size(length);
    commit_object.describe(&options).and_then(|it| it.format(Some(&format))).ok()
}

/// How a branch or a tag is named.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::git) struct Decoration {
    pub(in crate::git) prefix: Vec<u8>,
    pub(in crate::git) suffix: Vec<u8>,
    pub(in crate::git) tag: Vec<u8>,
}

impl Default for Decoration {
    fn default() -> Self {
        Self { prefix: b" (".to_vec(), suffix: b")".to_vec(), tag: b"tag: ".to_vec() }
    }
}

impl Decoration {
    /// Reads the placeholder, and tells its length.
    pub(in crate::git) fn parse(text: &[u8]) -> Option<(Self, usize)> {
        let mut decoration = Self::default();
        let mut rest = text.strip_prefix(b"(decorate")?;
        if let Some(arguments) = rest.strip_prefix(b":") {
            rest = arguments;
            // One branch or tag needs nothing between it and others, nor an arrow from HEAD.
            let (mut separator, mut pointer) = (Vec::new(), Vec::new());
            let mut fields = [
                (&b"prefix"[..], &mut decoration.prefix),
                (b"suffix", &mut decoration.suffix),
                (b"separator", &mut separator),
                (b"pointer", &mut pointer),
                (b"tag", &mut decoration.tag),
            ];
            while fields.iter_mut().any(|(name, field)| match argument(&mut rest, name) {
                Some(value) => {
                    **field = literals(value.unwrap_or_default());
                    true
                }
                None => false,
            }) {}
        }
        rest.starts_with(b")").then(|| (decoration, text.len() - rest.len() + 1))
    }
}

/// Reads `name` or `name=value` up to a comma or a bracket, and passes the comma. `None`: it is another one.
fn argument<'a>(rest: &mut &'a [u8], name: &[u8]) -> Option<Option<&'a [u8]>> {
    let behind = rest.strip_prefix(name)?;
    let (value, behind) = match behind.strip_prefix(b"=") {
        Some(text) => {
            let end = text.iter().position(|it| matches!(it, b',' | b')')).unwrap_or(text.len());
            (Some(&text[..end]), &text[end..])
        }
        None => (None, behind),
    };
    match behind {
        [b',', behind @ ..] => *rest = behind,
        [b')', ..] => *rest = behind,
        _ => return None,
    }
    Some(value)
}

/// A truth as git-config(1) has it.
fn truth(text: &[u8]) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|it| text.eq_ignore_ascii_case(it.as_bytes()));
    if is(&["true", "yes", "on"]) {
        return Some(true);
    }
    if text.is_empty() || is(&["false", "no", "off"]) {
        return Some(false);
    }
    std::str::from_utf8(text).ok()?.parse::<i64>().ok().map(|it| it != 0)
}

/// A value with its `%n`, `%x2c` and `%%` resolved.
fn literals(mut text: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    while let Some((byte, rest)) = text.split_first() {
        let (byte, length) = match (byte, rest) {
            (b'%', [b'%', ..]) => (b'%', 1),
            (b'%', _) => literal(rest).unwrap_or((b'%', 0)),
            (byte, _) => (*byte, 0),
        };
        value.push(byte);
        text = &rest[length..];
    }
    value
}
