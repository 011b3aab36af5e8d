//! Makes text that others wrote (commits, refs, reasons, log lines, addresses of pages) safe to pass on.
//!
//! Invariant: a [`Line`] has no control character, no line break and nothing that turns the direction of writing;
//! a [`Link`] is an `http` or `https` address without a character that means something in a letter's markup.

use std::fmt;

use crate::model::text;

/// One line of text that cannot act: it may still have to be escaped for its medium, but it stays one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(String);

impl Line {
    /// The text as one line of at most `characters_max` characters; line breaks become spaces.
    pub fn of(text: &str, characters_max: usize) -> Self {
        Self(shorten(&text::one_line(text), characters_max))
    }

    /// One line of a log: colours and other escapes go, tabs and indentation stay, and of a progress bar only
    /// what it said last.
    pub fn of_log(text: &str, characters_max: usize) -> Self {
        Self(shorten(&text::output_line(text), characters_max))
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
