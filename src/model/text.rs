//! Text that others wrote, made fit to be read: which characters act instead of being read, and what becomes of them.
//!
//! What acts is: control characters (C0, DEL and C1), the bidirectional controls of Unicode ("Trojan Source",
//! CVE-2021-42574), line and paragraph separators, and the byte order mark. Joiners stay: emoji and many scripts are
//! written with them. Terminal escapes are those of ECMA-48.
//!
//! Invariant: what these functions return holds no character that [`acts`], but for what each of them names.

use std::{borrow::Cow, iter::Peekable, str::Chars};

/// What stands for a character that would have acted, where a reader should know that something was there.
const SOMETHING: char = '\u{fffd}';

/// Whether a character does something to whatever shows it, other than being read.
pub fn acts(character: char) -> bool {
    character.is_control() || turns(character) || character == '\u{feff}'
}

/// Whether a character begins a line or turns the direction of writing.
fn turns(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// The text in one line, each character that would act replaced by one that says so.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|it| if acts(it) { SOMETHING } else { it }).collect())
}

/// The text in one line, as a subject has it: without terminal escapes, white space as single blanks.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for character in without_escapes(text).chars() {
        match harmless(character) {
            Some(' ') | None if line.ends_with(' ') => (),
            Some(character) => line.push(character),
            None => line.push(' '),
        }
    }
    line.trim().to_owned()
}

/// One line of output: without terminal escapes, and of a progress bar only what it said last. Tabs stay.
pub fn output_line(text: &str) -> String {
    let text = without_escapes(text);
    let last = text.rsplit('\r').find(|it| !it.trim().is_empty()).unwrap_or("");
    let keep = |it: char| if it == '\t' { Some(it) } else { harmless(it) };
    last.chars().filter_map(keep).collect::<String>().trim_end().to_owned()
}

/// One line of output for a terminal: tabs and colours (SGR) stay, and colours end with the line.
pub fn coloured_line(text: &str) -> Cow<'_, str> {
    if !text.contains(|it| acts(it) && it != '\t') {
        return Cow::Borrowed(text);
    }
    let (mut line, mut is_coloured) = (String::with_capacity(text.len()), false);
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let colour = if character == '\u{1b}' { take_colour(&mut rest) } else { None };
        match colour {
            Some(colour) => {
                line.push_str(&colour);
                is_coloured = true;
            }
            None if skip_escape(character, &mut rest) => (),
            None if character == '\t' => line.push(character),
            None => line.extend(harmless(character)),
        }
    }
    if is_coloured {
        line.push_str("\u{1b}[0m");
    }
    Cow::Owned(line)
}

/// JSON whose strings hold no character that acts: those are escaped, so that what is read is the same. Line ends and
/// blanks between the values stay.
pub fn json(text: &str) -> Cow<'_, str> {
    // The characters of C0 are escaped by all who write JSON.
    let is_bare = |it: char| acts(it) && !matches!(it, '\n' | '\r' | '\t');
    if !text.contains(is_bare) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_bare(character) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// The character as a reader may see it. `None`: it only acts.
fn harmless(character: char) -> Option<char> {
    match character {
        it if turns(it) => Some(SOMETHING),
        it if acts(it) => None,
        it => Some(it),
    }
}

/// The text without terminal escapes.
fn without_escapes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if !skip_escape(character, &mut rest) {
            kept.push(character);
        }
    }
    kept
}

/// Skips what belongs to an escape that begins with this character; `false` if none does.
fn skip_escape(character: char, rest: &mut Peekable<Chars<'_>>) -> bool {
    match character {
        '\u{1b}' => match rest.next() {
            Some('[') => skip_csi(rest),
            Some(']' | 'P' | 'X' | '^' | '_') => skip_string(rest),
            Some(' '..='/') => {
                while rest.next_if(|it| (' '..='/').contains(it)).is_some() {}
                rest.next_if(|it| ('0'..='~').contains(it));
            }
            Some(_) | None => (),
        },
        '\u{9b}' => skip_csi(rest),
        _ => return false,
    }
    true
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

/// A colour that begins after this escape character, whole; else nothing is taken.
fn take_colour(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut ahead = rest.clone();
    ahead.next_if_eq(&'[')?;
    let mut colour = "\u{1b}[".to_owned();
    while let Some(part) = ahead.next_if(|it| it.is_ascii_digit() || matches!(it, ';' | ':')) {
        colour.push(part);
    }
    colour.push(ahead.next_if_eq(&'m')?);
    *rest = ahead;
    Some(colour)
}

#[cfg(test)]
mod tests {
    use super::{acts, coloured_line, json, one_line, output_line, shown};

    /// What others may write, and what nobody should see act.
    const EVIL: &str = "a\u{1b}]52;c;aGk=\u{7}b\u{1b}]0;title\u{1b}\\c\u{1b}[2Jd\u{9b}2Je\u{85}f\u{7f}g\u{202e}h\u{2028}i\
        \u{200f}j\u{feff}k\r\nl\u{8}";

    #[test]
    fn whatever_is_written_nothing_acts_and_everything_is_in_one_line() {
        for made in [shown(EVIL).into_owned(), one_line(EVIL), output_line(EVIL), coloured_line(EVIL).into_owned()] {
            assert!(!made.contains(acts), "{made:?}");
        }
        for number in (0..=0x10_ffff).filter_map(char::from_u32).filter(|it| acts(*it)).map(u32::from) {
            let bidi = [0x61c, 0x200e, 0x200f].into_iter().chain(0x202a..=0x202e).chain(0x2066..=0x2069);
            let is_one = number < 0x20
                || (0x7f..0xa0).contains(&number)
                || bidi.chain([0x2028, 0x2029, 0xfeff]).any(|it| it == number);
            assert!(is_one, "{number:x}");
        }
    }

    #[test]
    fn joiners_of_emoji_and_scripts_stay() {
        let text = "Grüße, 世界 👩‍👩‍👧 می‌خواهم ❤\u{fe0f}";
        for made in [shown(text).into_owned(), one_line(text), output_line(text), coloured_line(text).into_owned()] {
            assert_eq!(made, text);
        }
    }

    #[test]
    fn a_terminal_gets_colours_that_end_with_the_line_and_nothing_else() {
        let cases = [
            ("\t\u{1b}[1;38;5;196mred\u{1b}[m", "\t\u{1b}[1;38;5;196mred\u{1b}[m\u{1b}[0m"),
            ("\u{1b}[38:2::1:2:3mx", "\u{1b}[38:2::1:2:3mx\u{1b}[0m"),
            ("a\u{1b}[2Jb\u{1b}[10;1Hc\u{1b}]52;c;eA==\u{7}d", "abcd"),
            ("a\u{1b}[?25lb\u{1b}(Bc\u{1b}[>4;2md", "abcd"),
            ("10%\r20%\u{8}", "10%20%"),
            ("\u{1b}[31", ""),
            ("plain", "plain"),
        ];
        for (text, line) in cases {
            assert_eq!(coloured_line(text), line, "{text:?}");
        }
    }

    #[test]
    fn json_says_the_same_and_nothing_of_it_acts() {
        assert_eq!(json("{\n \"a\": \"x\u{202e}\u{9b}y\"}"), "{\n \"a\": \"x\\u202e\\u009by\"}");
        assert_eq!(json("[\"👩‍👧\"]"), "[\"👩‍👧\"]");
    }
}
