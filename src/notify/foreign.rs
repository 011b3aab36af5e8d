//! Makes text that others wrote (commits, refs, reasons, log lines, addresses of pages) safe to pass on.
//!
//! Invariant: a [`Line`] has no control character, no line break and nothing that turns the direction of writing;
//! a [`Link`] is an `http` or `https` address without a character that means something in a letter's markup.

use std::{fmt, iter::Peekable, str::Chars};

/// One line of text that cannot act: it may still have to be escaped for its medium, but it stays one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// The text as one line of at most `characters_max` characters; line breaks become spaces.
    pub fn of(text: &str, characters_max: usize) -> Self {
        let mut line = String::new();
        for character in without_escapes(text).chars() {
            match harmless(character) {
                // A run of white space is one space, as in a mail's subject.
                Some(' ') | None if line.ends_with(' ') => (),
                Some(character) => line.push(character),
                None => line.push(' '),
            }
        }
        Self(shorten(line.trim(), characters_max))
    }

    /// One line of a log: colours and other escapes go, tabs and indentation stay, and of a progress bar only
    /// what it said last.
    pub fn of_log(text: &str, characters_max: usize) -> Self {
        let text = without_escapes(text);
        let last = text.rsplit('\r').find(|it| !it.trim().is_empty()).unwrap_or("");
        let keep = |it: char| if it == '\t' { Some(it) } else { harmless(it) };
        let line: String = last.chars().filter_map(keep).collect();
        Self(shorten(line.trim_end(), characters_max))
    }

    /// The line as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The address of a page that a letter may point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link(String);

impl Link {
    /// The address, if it is one that no medium could take for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let is_plain = |it: u8| it.is_ascii_graphic() && !b"<>\"'`|\\^{}".contains(&it);
        let is_link = text.len() <= 1000 && rest.bytes().all(is_plain) && !rest.starts_with(['/', '?', '#', '@']);
        (is_link && !rest.is_empty()).then(|| Self(text.to_owned()))
    }

    /// Scheme and host, without a trailing slash.
    pub fn origin(&self) -> &str {
        let scheme = self.0.find("://").map_or(0, |at| at + 3);
        let end = self.0[scheme..].find(['/', '?', '#']).map_or(self.0.len(), |at| scheme + at);
        &self.0[..end]
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// At most `characters_max` characters; what was cut is three dots.
pub fn shorten(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(characters_max.saturating_sub(3)).collect();
    format!("{}...", kept.trim_end())
}

/// The character as a reader may see it. `None`: it only acts.
fn harmless(character: char) -> Option<char> {
    match character {
        // Line and paragraph separators, and all that turns the direction of writing: "Trojan Source",
        // CVE-2021-42574. They are shown, since a reader should know that something was there.
        '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200e}' | '\u{200f}' => Some('\u{fffd}'),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => Some('\u{fffd}'),
        '\u{feff}' => None,
        it if it.is_control() => None,
        it => Some(it),
    }
}

/// The text without terminal escapes (ECMA-48: CSI, OSC and its kin, two-character sequences).
fn without_escapes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => match rest.next() {
                Some('[') => skip_csi(&mut rest),
                Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut rest),
                Some(' '..='/') => {
                    while rest.next_if(|it| (' '..='/').contains(it)).is_some() {}
                    rest.next_if(|it| ('0'..='~').contains(it));
                }
                Some(_) | None => (),
            },
            '\u{9b}' => skip_csi(&mut rest),
            it => kept.push(it),
        }
    }
    kept
}

/// Parameters and intermediates, then one final character.
fn skip_csi(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|it| (' '..='?').contains(it)).is_some() {}
    rest.next_if(|it| ('@'..='~').contains(it));
}

/// Up to BEL or `ESC \`. Without an end it is no such string, and only its beginning goes.
fn skip_string(rest: &mut Peekable<Chars<'_>>) {
    let mut ahead = rest.clone();
    while let Some(character) = ahead.next() {
        if character == '\u{7}' || (character == '\u{1b}' && ahead.next_if_eq(&'\\').is_some()) {
            *rest = ahead;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Link};

    #[test]
    fn a_foreign_text_becomes_one_line_that_cannot_act() {
        let cases = [
            ("fix cart\r\nBcc: all@acme.org", "fix cart Bcc: all@acme.org"),
            ("  a\t\tb\u{0}c ", "a b c"),
            ("user\u{202e}gnp.exe\u{2066}", "user\u{fffd}gnp.exe\u{fffd}"),
            ("a\u{2028}b", "a\u{fffd}b"),
            ("\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}rest", "red rest"),
            ("Grüße, 世界 👩‍👩‍👧", "Grüße, 世界 👩‍👩‍👧"),
        ];
        for (foreign, line) in cases {
            assert_eq!(Line::of(foreign, 100).as_str(), line);
        }
        assert_eq!(Line::of(&"x".repeat(5000), 72).as_str(), format!("{}...", "x".repeat(69)));
    }

    #[test]
    fn a_log_line_keeps_its_indentation_and_loses_its_colours_and_progress() {
        let cases = [
            ("\t  at main.rs:3", "\t  at main.rs:3"),
            ("10%\r50%\r100%\r", "100%"),
            ("\u{1b}[1;38;5;196mE\u{1b}[m\u{9b}2K\u{1b}(B x", "E x"),
            ("\u{1b}]8;;https://x.org\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]not ended", "not ended"),
            ("\u{1b}", ""),
        ];
        for (foreign, line) in cases {
            assert_eq!(Line::of_log(foreign, 100).as_str(), line);
        }
    }

    #[test]
    fn only_a_plain_web_address_is_a_link() {
        for good in ["https://github.com/a/b/compare/1...2", "http://127.0.0.1:9001/runs/1", "https://x.org/?a=1&b=2"] {
            assert!(Link::parse(good).is_some(), "{good}");
        }
        let bad =
            ["", "https://", "https:///x", "javascript:alert(1)", "https://x.org/|<!channel>", "https://x.org/ y"];
        for bad in bad.into_iter().chain(["https://x.org/\"onclick", "https://x.org/\u{202e}", "ftp://x.org"]) {
            assert!(Link::parse(bad).is_none(), "{bad}");
        }
        let link = Link::parse("https://git.acme.org:8443/a/b?c").expect("a link");
        assert_eq!(link.origin(), "https://git.acme.org:8443");
    }
}
