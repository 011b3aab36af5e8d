//! The patterns of a `.gitattributes` file, as git matches them (gitattributes(5), dir.c, wildmatch.c).
//!
//! Invariant: matching takes time in proportion to pattern times path, whatever the pattern: both come from a repository.

mod class;

use self::class::{Class, class};

/// A pattern, and what it is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::git) struct Pattern {
    /// What it begins with that stands for itself.
    literal: Vec<u8>,
    /// What follows.
    tokens: Vec<Token>,
    /// Without a slash, it is held against the last name of a path, at any depth.
    is_of_names: bool,
    only_folders: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: any byte but a slash.
    One,
    /// `[...]`: neither does it know a slash.
    Class(Class),
    /// `*`: any number of bytes, without a slash.
    Star,
    /// `**`: any number of bytes.
    Deep,
    /// `**/` begins: nothing, or what [`Token::WithinFolders`] takes, which follows.
    Folders,
    /// Any number of bytes, and a slash.
    WithinFolders,
    /// A class that never ends, or a backslash with nothing behind it.
    Never,
}

impl Pattern {
    /// Takes a pattern apart.
    pub(in crate::git) fn parse(text: &[u8]) -> Self {
        // To git a pattern is a string of C.
        let text = text.split(|it| *it == 0).next().unwrap_or_default();
        let (text, only_folders) = match text.strip_suffix(b"/") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let is_of_names = !text.contains(&b'/');
        let text = text.strip_prefix(b"/").unwrap_or(text);
        let end = text.iter().position(|it| b"*?[\\".contains(it)).unwrap_or(text.len());
        // Git parses what follows as a pattern of its own, so `a/b**` is `a/b` and then anything, slashes too.
        Self { literal: text[..end].to_vec(), tokens: tokens(&text[end..]), is_of_names, only_folders }
    }

    /// Whether it fits a path, relative to the folder the pattern is from.
    pub(in crate::git) fn fits(&self, path: &[u8], is_folder: bool) -> bool {
        if self.only_folders && !is_folder {
            return false;
        }
        let text = match self.is_of_names {
            true => path.rsplit(|it| *it == b'/').next().unwrap_or_default(),
            false => path,
        };
        text.strip_prefix(self.literal.as_slice()).is_some_and(|rest| fit(&self.tokens, rest))
    }
}

/// What a pattern consists of, from its first byte that does not stand for itself.
fn tokens(pattern: &[u8]) -> Vec<Token> {
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(byte) = pattern.get(at) {
        let rest = &pattern[at + 1..];
        let (token, length) = match byte {
            b'*' => star(pattern, at),
            b'?' => (Token::One, 1),
            b'[' => class(rest).map_or((Token::Never, 1), |(class, length)| (Token::Class(class), length + 1)),
            b'\\' => rest.first().map_or((Token::Never, 1), |it| (Token::Byte(*it), 2)),
            byte => (Token::Byte(*byte), 1),
        };
        let is_folders = token == Token::Folders;
        tokens.push(token);
        tokens.extend(is_folders.then_some(Token::WithinFolders));
        at += length;
    }
    tokens
}

/// What one star or more of them are, and how many bytes that takes.
fn star(pattern: &[u8], at: usize) -> (Token, usize) {
    let stars = pattern[at..].iter().take_while(|it| **it == b'*').count();
    let (before, after) = (&pattern[..at], &pattern[at + stars..]);
    let is_between_slashes = before.last().is_none_or(|it| *it == b'/')
        && (after.is_empty() || after.starts_with(b"/") || after.starts_with(b"\\/"));
    match (stars, is_between_slashes) {
        (2.., true) if after.starts_with(b"/") => (Token::Folders, stars + 1),
        (2.., true) => (Token::Deep, stars),
        (_, true | false) => (Token::Star, stars),
    }
}

/// Whether the tokens fit the whole text. All ways to read a star are followed at once: `at` says which tokens may come next.
fn fit(tokens: &[Token], text: &[u8]) -> bool {
    match tokens {
        [] => return text.is_empty(),
        // `*.png`, as most of them are.
        [Token::Star, end @ ..] if end.iter().all(|it| matches!(it, Token::Byte(_))) => {
            let Some(length) = text.len().checked_sub(end.len()) else { return false };
            let is_byte = |(token, byte): (&Token, &u8)| *token == Token::Byte(*byte);
            return !text[..length].contains(&b'/') && end.iter().zip(&text[length..]).all(is_byte);
        }
        [..] => (),
    }
    let mut at = vec![false; tokens.len() + 1];
    at[0] = true;
    pass_by(tokens, &mut at);
    let mut next = vec![false; at.len()];
    for byte in text {
        next.fill(false);
        for (index, token) in tokens.iter().enumerate().filter(|(index, _)| at[*index]) {
            match token {
                Token::Byte(it) => next[index + 1] |= it == byte,
                Token::One => next[index + 1] |= *byte != b'/',
                Token::Class(class) => next[index + 1] |= *byte != b'/' && class.has(*byte),
                Token::Star => next[index] |= *byte != b'/',
                Token::Deep => next[index] = true,
                Token::WithinFolders => {
                    next[index] = true;
                    next[index + 1] |= *byte == b'/';
                }
                Token::Folders | Token::Never => (),
            }
        }
        std::mem::swap(&mut at, &mut next);
        if !at.contains(&true) {
            return false;
        }
        pass_by(tokens, &mut at);
    }
    at[tokens.len()]
}

/// What may stand for nothing may be passed by.
fn pass_by(tokens: &[Token], at: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        match token {
            Token::Star | Token::Deep => at[index + 1] |= at[index],
            Token::Folders => {
                at[index + 1] |= at[index];
                at[index + 2] |= at[index];
            }
            Token::Byte(_) | Token::One | Token::Class(_) | Token::WithinFolders | Token::Never => (),
        }
    }
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
            ("a/***/z", "a/b/c/z"),
            ("a/b**", "a/bc/d"),
            ("[a-c]?", "b1"),
            ("[!a]x", "bx"),
            ("[[:digit:]]", "7"),
            ("[a/]b", "ab"),
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
            ("a/?**", "a/bc/d"),
            ("[a", "a"),
            ("[]", "]"),
            ("a*b", "aXc"),
            ("dir/", "dir"),
            ("?", "ab"),
            ("a", "b/a/c"),
            ("**/b", "ab"),
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
