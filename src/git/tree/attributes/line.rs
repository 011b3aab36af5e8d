//! The lines of a `.gitattributes` file, and the names that stand for others (attr.c).
//!
//! A macro is an attribute like any other: what it stands for holds where the macro itself is set in the end, and where
//! nothing that comes later, or is nearer, says otherwise.
//!
//! Invariant: a line that git leaves out as a whole is left out as a whole.

use std::collections::{HashMap, HashSet};

use super::{NAMES, Pattern, Value};

/// What git takes for a blank here.
const BLANK: &[u8] = b" \t\r\n";

/// What a macro's line begins with.
const MACRO: &[u8] = b"[attr]";

/// An attribute: the position in [`NAMES`], or behind those that of a macro.
pub(super) type At = usize;

/// A pattern and what it says, of what matters here.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) pattern: Pattern,
    pub(super) says: Vec<(At, Value)>,
}

/// A line that says something.
pub(super) enum Line {
    Rule { pattern: Pattern, words: Vec<Word> },
    Macro { name: Vec<u8>, words: Vec<Word> },
}

/// An attribute by its name, and what it is to be.
pub(super) type Word = (Vec<u8>, Value);

impl Line {
    /// Takes a line apart.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line = trimmed(line);
        if line.is_empty() || line.starts_with(b"#") {
            return None;
        }
        let (name, rest) = unquoted(line).unwrap_or_else(|| {
            let end = line.iter().position(|it| BLANK.contains(it)).unwrap_or(line.len());
            (line[..end].to_vec(), &line[end..])
        });
        let words = rest.split(|it| BLANK.contains(it)).filter(|it| !it.is_empty());
        let words = words.map(word).collect::<Option<Vec<_>>>()?;
        match name.strip_prefix(MACRO).filter(|it| !it.is_empty()) {
            Some(name) => {
                let name = trimmed(name);
                let end = name.iter().position(|it| BLANK.contains(it)).unwrap_or(name.len());
                is_name(&name[..end]).then(|| Self::Macro { name: name[..end].to_vec(), words })
            }
            // Git says that negative patterns are meaningless here.
            None if name.starts_with(b"!") => None,
            None => Some(Self::Rule { pattern: Pattern::parse(&name), words }),
        }
    }
}

/// Without the blanks before it.
fn trimmed(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|it| BLANK.contains(it)).count()..]
}

/// `name`, `-name`, `!name` or `name=value`.
fn word(word: &[u8]) -> Option<Word> {
    let (name, value) = match word.iter().position(|it| *it == b'=') {
        Some(at) => (&word[..at], Value::Word(word[at + 1..].to_vec())),
        None => (word, Value::Set),
    };
    let (name, value) = match name {
        [b'-', name @ ..] => (name, Value::Unset),
        [b'!', name @ ..] => (name, Value::Unspecified),
        name => (name, value),
    };
    is_name(name).then(|| (name.to_vec(), value))
}

fn is_name(name: &[u8]) -> bool {
    let is_plain = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_');
    !name.is_empty() && !name.starts_with(b"-") && !name.starts_with(b"builtin_") && name.iter().all(is_plain)
}

/// A pattern in double quotes, with C's escapes, and what follows it.
fn unquoted(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = line.strip_prefix(b"\"")?;
    let mut pattern = Vec::new();
    loop {
        match rest {
            [b'"', rest @ ..] => return Some((pattern, rest)),
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                pattern.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            [b'\\', escape, tail @ ..] => {
                pattern.push(match escape {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    b'"' | b'\\' => *escape,
                    _ => return None,
                });
                rest = tail;
            }
            [byte, tail @ ..] => {
                pattern.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
}

/// The names that stand for others.
#[derive(Debug)]
pub(super) struct Macros {
    /// Where each is, behind those of [`NAMES`], unless it is one of them.
    places: HashMap<Vec<u8>, At>,
    written: HashMap<At, Vec<Word>>,
    /// The same, of what matters here.
    stand_for: HashMap<At, Vec<(At, Value)>>,
}

impl Default for Macros {
    /// Git's own: `-diff -merge -text`, of which the last matters here.
    fn default() -> Self {
        let mut macros = Self { places: HashMap::new(), written: HashMap::new(), stand_for: HashMap::new() };
        macros.define(b"binary".to_vec(), vec![(b"text".to_vec(), Value::Unset)]);
        macros.settle();
        macros
    }
}

impl Macros {
    /// Takes a definition; the last one of a name counts.
    pub(super) fn define(&mut self, name: Vec<u8>, words: Vec<Word>) {
        let at = self.place(&name).unwrap_or_else(|| {
            let at = NAMES.len() + self.places.len();
            self.places.insert(name, at);
            at
        });
        self.written.insert(at, words);
    }

    /// All of them are defined: what they stand for may be other macros.
    pub(super) fn settle(&mut self) {
        self.stand_for = self.written.iter().map(|(at, words)| (*at, self.known(words))).collect();
    }

    fn place(&self, name: &[u8]) -> Option<At> {
        NAMES.iter().position(|(text, _)| *text == name).or_else(|| self.places.get(name).copied())
    }

    /// What matters here of these words.
    pub(super) fn known(&self, words: &[Word]) -> Vec<(At, Value)> {
        words.iter().filter_map(|(name, value)| Some((self.place(name)?, value.clone()))).collect()
    }

    /// All that any of them stands for.
    pub(super) fn all_words(&self) -> impl Iterator<Item = &(At, Value)> {
        self.stand_for.values().flatten()
    }

    /// Says this where nothing has been said yet: the last word of a line comes first, and a macro that is set is followed by
    /// what it stands for.
    pub(super) fn say<'a>(&'a self, says: &'a [(At, Value)], said: &mut Said<'a>) {
        let mut saying = vec![says.iter().rev()];
        while let Some(words) = saying.last_mut() {
            match words.next() {
                None => drop(saying.pop()),
                Some((at, value)) => {
                    if said.is_news(*at, value)
                        && *value == Value::Set
                        && let Some(words) = self.stand_for.get(at)
                    {
                        saying.push(words.iter().rev());
                    }
                }
            }
        }
    }
}

/// What has been said of one path.
#[derive(Default)]
pub(super) struct Said<'a> {
    pub(super) values: [Option<&'a Value>; NAMES.len()],
    macros: HashSet<At>,
}

impl<'a> Said<'a> {
    fn is_news(&mut self, at: At, value: &'a Value) -> bool {
        match self.values.get_mut(at) {
            Some(place @ None) => {
                *place = Some(value);
                true
            }
            Some(Some(_)) => false,
            None => self.macros.insert(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Attributes;

    /// The value of an attribute of `sub/x`, where the root and `sub/` have these files.
    fn value(root: &str, sub: &str, name: &str) -> String {
        let mut attributes = Attributes::default();
        attributes.add(b"", root.as_bytes(), &mut BTreeSet::new());
        attributes.add(b"sub/", sub.as_bytes(), &mut BTreeSet::new());
        let (_, value) = attributes.of(b"sub/x", false).shown().find(|it| it.0 == name).expect("one that matters");
        String::from_utf8_lossy(&value).into_owned()
    }

    #[test]
    fn a_macro_holds_where_it_is_set_in_the_end_and_what_is_nearer_wins() {
        // Taken back, it says nothing.
        assert_eq!(value("* binary\nx !binary", "", "text"), "unspecified");
        assert_eq!(value("* binary\nx -binary", "", "text"), "unspecified");
        assert_eq!(value("* binary\nx text", "", "text"), "set");
        assert_eq!(value("x text\n* binary", "", "text"), "unset");
        // Defined behind its use, by way of another, and anew.
        assert_eq!(value("x m\n[attr]m n\n[attr]n eol=crlf", "", "eol"), "crlf");
        assert_eq!(value("[attr]binary text=auto\nx binary", "", "text"), "auto");
        // One that stands for itself, and an attribute that is one.
        assert_eq!(value("[attr]m m text\nx m", "", "text"), "set");
        assert_eq!(value("[attr]ident export-ignore\nx ident", "", "export-ignore"), "set");
        // Only the root defines any.
        assert_eq!(value("", "[attr]m text\nx m", "text"), "unspecified");
        assert_eq!(value("[attr]m text", "x m", "text"), "set");
    }

    #[test]
    fn a_line_that_git_leaves_out_is_left_out_as_a_whole() {
        for line in ["x text b@d", "x text =y", "x text --a", "x builtin_x text", "!x text", "[attr]b@d text\ny b@d"] {
            assert_eq!(value(line, "", "text"), "unspecified", "{line}");
        }
        assert_eq!(value("x -text=auto", "", "text"), "unset");
        assert_eq!(value("x\u{c}text\nx text", "", "text"), "set");
        assert_eq!(value("a text\0\nx text", "", "text"), "unspecified", "to git the file ends at a NUL");
    }
}
