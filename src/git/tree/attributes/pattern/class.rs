//! The classes of a pattern, as wildmatch.c reads them: `[a-z]`, `[!a]`, `[[:digit:]]`.
//!
//! Invariant: how long a class is does not depend on what it is held against.

/// A class, as the bytes that are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    is_negated: bool,
    /// A bit for each byte.
    members: [u64; 4],
}

impl Class {
    /// Whether the byte is in it.
    pub(super) fn has(&self, byte: u8) -> bool {
        (self.members[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1) != self.is_negated
    }

    fn add(&mut self, byte: u8) {
        self.members[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
}

/// The class behind a `[`, and its length; `None`: it never ends, or names a class that there is not.
pub(super) fn class(pattern: &[u8]) -> Option<(Class, usize)> {
    let is_negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut class = Class { is_negated, members: [0; 4] };
    let first = usize::from(is_negated);
    let mut at = first;
    // What a range may begin with: the byte before, unless that ended a range or was a named class.
    let mut before = None;
    loop {
        match pattern.get(at..)? {
            [b']', ..] if at > first => return Some((class, at + 1)),
            [b'\\', byte, ..] => {
                class.add(*byte);
                (before, at) = (Some(*byte), at + 2);
            }
            [b'-', end, ..] if before.is_some() && *end != b']' => {
                let (high, length) = match pattern.get(at + 1..)? {
                    [b'\\', byte, ..] => (*byte, 2),
                    [b'\\'] | [] => return None,
                    [byte, ..] => (*byte, 1),
                };
                before.into_iter().flat_map(|low| low..=high).for_each(|it| class.add(it));
                (before, at) = (None, at + 1 + length);
            }
            [b'[', b':', rest @ ..] => {
                let end = rest.iter().position(|it| *it == b']')?;
                match rest[..end].strip_suffix(b":") {
                    Some(name) => {
                        let is_in = named(name)?;
                        (0..=u8::MAX).filter(is_in).for_each(|it| class.add(it));
                        (before, at) = (None, at + 2 + end + 1);
                    }
                    // Not one of those: a bracket like any byte.
                    None => {
                        class.add(b'[');
                        (before, at) = (Some(b'['), at + 1);
                    }
                }
            }
            [b'\\'] | [] => return None,
            [byte, ..] => {
                class.add(*byte);
                (before, at) = (Some(*byte), at + 1);
            }
        }
    }
}

/// Which bytes a named class has.
fn named(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |it| matches!(it, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |it| it.is_ascii_graphic() || *it == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |it| matches!(it, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}
