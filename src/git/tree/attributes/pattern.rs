//! The patterns of a `.gitattributes` file, as git matches them (gitattributes(5), wildmatch.c).
//!
//! Invariant: matching takes time in proportion to pattern times path, whatever the pattern: both come from a repository.

/// A pattern, and what it is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::git) struct Pattern {
    /// Between slashes; one name alone fits at any depth.
    segments: Vec<Vec<u8>>,
    is_anchored: bool,
    only_folders: bool,
}

impl Pattern {
    /// Takes a pattern apart.
    pub(in crate::git) fn parse(text: &[u8]) -> Self {
        let (text, only_folders) = match text.strip_suffix(b"/") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (text, begins_at_root) = match text.strip_prefix(b"/") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let segments: Vec<Vec<u8>> = text.split(|it| *it == b'/').map(<[u8]>::to_vec).collect();
        Self { is_anchored: begins_at_root || segments.len() > 1, segments, only_folders }
    }

    /// Whether it fits a path, relative to the folder the pattern is from.
    pub(in crate::git) fn fits(&self, path: &[u8], is_folder: bool) -> bool {
        if self.only_folders && !is_folder {
            return false;
        }
        let names: Vec<&[u8]> = path.split(|it| *it == b'/').collect();
        match self.is_anchored {
            true => fits_all(&self.segments, &names),
            false => names.last().is_some_and(|name| fits_one(&self.segments[0], name)),
        }
    }
}

/// `**` stands for any number of names; at the end, for at least one.
fn fits_all(segments: &[Vec<u8>], names: &[&[u8]]) -> bool {
    let (mut at, mut name) = (0, 0);
    // Only the last `**` ever has to give way: what an earlier one could take, the last one can.
    let mut back: Option<(usize, usize)> = None;
    loop {
        match segments.get(at) {
            Some(segment) if segment == b"**" => {
                if at + 1 == segments.len() {
                    return name < names.len();
                }
                back = Some((at, name));
                at += 1;
                continue;
            }
            Some(segment) if names.get(name).is_some_and(|it| fits_one(segment, it)) => {
                (at, name) = (at + 1, name + 1);
                continue;
            }
            None if name == names.len() => return true,
            Some(_) | None => (),
        }
        match back {
            Some((star, taken)) if taken < names.len() => {
                back = Some((star, taken + 1));
                (at, name) = (star + 1, taken + 1);
            }
            Some(_) | None => return false,
        }
    }
}

/// One name, where `*` and `?` know no slash.
fn fits_one(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut byte) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            back = Some((at, byte));
            at += 1;
            continue;
        }
        let step = match (pattern.get(at), name.get(byte)) {
            (None, None) => return true,
            (Some(_), Some(byte)) => token(&pattern[at..], *byte),
            (Some(_), None) | (None, Some(_)) => None,
        };
        match (step, back) {
            (Some(length), _) => (at, byte) = (at + length, byte + 1),
            (None, Some((star, taken))) if taken < name.len() => {
                back = Some((star, taken + 1));
                (at, byte) = (star + 1, taken + 1);
            }
            (None, Some(_) | None) => return false,
        }
    }
}

/// The length of the token a pattern begins with, if that fits the byte.
fn token(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', rest @ ..] => class(rest, byte).and_then(|(length, fits)| fits.then_some(length + 1)),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// The length of a class behind its `[`, and whether the byte is in it; `None`: it never ends.
fn class(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let is_negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let first = usize::from(is_negated);
    let (mut at, mut fits) = (first, false);
    loop {
        match pattern.get(at..)? {
            [b']', ..] if at > first => return Some((at + 1, fits != is_negated)),
            [b'[', b':', rest @ ..] => {
                let end = rest.windows(2).position(|it| it == b":]")?;
                fits |= is_in(&rest[..end], byte)?;
                at += end + 4;
            }
            rest => {
                let (low, length) = literal(rest)?;
                at += length;
                match pattern.get(at..)? {
                    [b'-', end @ ..] if !end.starts_with(b"]") => {
                        let (high, length) = literal(end)?;
                        at += length + 1;
                        fits |= (low..=high).contains(&byte);
                    }
                    _ => fits |= low == byte,
                }
            }
        }
    }
}

fn literal(pattern: &[u8]) -> Option<(u8, usize)> {
    match pattern {
        [b'\\', byte, ..] => Some((*byte, 2)),
        [byte, ..] => Some((*byte, 1)),
        [] => None,
    }
}

fn is_in(name: &[u8], byte: u8) -> Option<bool> {
    Some(match name {
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => byte.is_ascii_whitespace() || byte == 0x0b,
        b"upper" => byte.is_ascii_uppercase(),
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn fits(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern.as_bytes()).fits(path.as_bytes(), false)
    }

    #[test]
    fn patterns_fit_as_in_git() {
        for (pattern, path) in [
            ("*.txt", "deep/er/a.txt"),
            ("/a", "a"),
            ("a/b", "a/b"),
            ("a/*.c", "a/x.c"),
            ("**/b", "b"),
            ("**/b", "x/y/b"),
            ("a/**", "a/b/c"),
            ("a/**/z", "a/z"),
            ("a/**/z", "a/b/c/z"),
            ("[a-c]?", "b1"),
            ("[!a]x", "bx"),
            ("[[:digit:]]", "7"),
            (r"\*", "*"),
            ("a*b*c", "aXbXbc"),
            ("**", "x/y"),
        ] {
            assert!(fits(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/a", "x/a"),
            ("a/*", "a/b/c"),
            ("a/**", "a"),
            ("[a", "a"),
            ("[]", "]"),
            ("a*b", "aXc"),
            ("dir/", "dir"),
            ("?", "ab"),
            ("a", "b/a/c"),
        ] {
            assert!(!fits(pattern, path), "{pattern} {path}");
        }
        assert!(Pattern::parse(b"dir/").fits(b"x/dir", true));
    }

    #[test]
    fn a_hostile_pattern_ends_in_time() {
        let pattern = format!("{}b", "*a".repeat(300));
        assert!(!fits(&pattern, &"a".repeat(3000)));
        let pattern = format!("{}b", "**/a/".repeat(100));
        assert!(!fits(&pattern, &"a/".repeat(1000)));
    }
}
