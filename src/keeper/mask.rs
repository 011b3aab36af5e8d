//! Replaces secrets by `***`, by value, in a stream of output and in single texts.
//!
//! Masked are: every whole value, of a value with several lines also each line of at least six bytes, and the forms that
//! programs put a value into (`forms.rs`). What may turn out to be the beginning of a secret is held back until more has
//! come, so it does not matter how the stream is cut into reads.
//!
//! Invariant: no byte that belongs to a value found in the stream leaves this file.

mod forms;

use std::{fmt, ops::Range};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

/// Above this many bytes of patterns, an automaton that is fast for its size would take hundreds of megabytes.
const FAST_BYTES_MAX: usize = 16 << 10;

/// Values under this many bytes are warned about, and lines under it are not looked for by themselves.
pub const SHORT_BYTES: usize = 6;

/// What stands in place of a secret.
const MASK: &[u8] = b"***";

/// The secrets of a run, made ready to be found. Its `Debug` shows none of them.
pub struct Mask {
    /// `None` if there are no secrets at all.
    finder: Option<Finder>,
}

struct Finder {
    /// Says quickly that there is nothing; the usual case.
    quick: AhoCorasick,
    /// Finds all places, overlapping ones too.
    thorough: AhoCorasick,
    /// In order, each once.
    patterns: Vec<Vec<u8>>,
    pattern_bytes_max: usize,
    begins: Begins,
}

impl Mask {
    /// Makes these values ready to be found. The error is a sentence.
    pub fn new<'a>(values: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut patterns: Vec<Vec<u8>> = values.flat_map(forms::of).collect();
        patterns.sort_unstable();
        patterns.dedup();
        let Some(pattern_bytes_max) = patterns.iter().map(Vec::len).max() else { return Ok(Self { finder: None }) };
        let is_much = patterns.iter().map(Vec::len).sum::<usize>() > FAST_BYTES_MAX;
        let build = |matches| {
            let mut builder = AhoCorasick::builder();
            builder.match_kind(matches).kind(is_much.then_some(AhoCorasickKind::ContiguousNFA));
            builder.build(&patterns).map_err(|err| err.to_string())
        };
        let (quick, thorough) = (build(MatchKind::LeftmostFirst)?, build(MatchKind::Standard)?);
        let begins = Begins::of(&patterns);
        Ok(Self { finder: Some(Finder { quick, thorough, patterns, pattern_bytes_max, begins }) })
    }

    /// A single text, masked.
    pub fn text(&self, text: &str) -> String {
        let mut masked = Vec::with_capacity(text.len());
        let mut stream = MaskedStream::default();
        stream.push(self, text.as_bytes(), |bytes| masked.extend_from_slice(bytes));
        stream.finish(self, |bytes| masked.extend_from_slice(bytes));
        String::from_utf8_lossy(&masked).into_owned()
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Mask")
    }
}

/// A stream on its way through a [`Mask`]. Its `Debug` shows nothing of what is held back.
#[derive(Default)]
pub struct MaskedStream {
    /// What may be the beginning of a secret.
    held: Vec<u8>,
    /// How many of the held bytes belong to a secret that has been replaced already.
    replaced: usize,
}

impl fmt::Debug for MaskedStream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MaskedStream")
    }
}

impl MaskedStream {
    /// Passes on what is sure not to belong to a secret, with secrets replaced.
    pub fn push(&mut self, mask: &Mask, chunk: &[u8], mut sink: impl FnMut(&[u8])) {
        let Some(finder) = &mask.finder else { return sink(chunk) };
        let joined;
        let bytes = if self.held.is_empty() {
            chunk
        } else {
            joined = [self.held.as_slice(), chunk].concat();
            &joined
        };
        let end = bytes.len() - finder.beginning_at_end(bytes);
        let replaced_to = finder.replace(bytes, self.replaced, end, sink);
        self.replaced = replaced_to.saturating_sub(end);
        self.held = bytes[end..].to_vec();
    }

    /// Passes on what was held back: the stream has ended.
    pub fn finish(&mut self, mask: &Mask, sink: impl FnMut(&[u8])) {
        let Self { held, replaced } = std::mem::take(self);
        if let Some(finder) = &mask.finder {
            finder.replace(&held, replaced, held.len(), sink);
        }
    }
}

impl Finder {
    /// Passes on the bytes up to `end`, with secrets replaced; returns where the last of them ended, even behind `end`.
    fn replace(&self, bytes: &[u8], replaced: usize, end: usize, mut sink: impl FnMut(&[u8])) -> usize {
        let mut done = 0;
        let mut replaced_to = replaced;
        for place in self.places(bytes, replaced).into_iter().take_while(|it| it.start < end) {
            // A place at the very beginning may be the rest of one that was replaced before.
            if place.start > 0 || replaced == 0 {
                sink(&bytes[done..place.start]);
                sink(MASK);
            }
            done = place.end.min(end);
            replaced_to = place.end;
        }
        sink(&bytes[done..end]);
        replaced_to
    }

    /// Where secrets are, in order, joined where they overlap. The first `replaced` bytes belong to one.
    fn places(&self, bytes: &[u8], replaced: usize) -> Vec<Range<usize>> {
        let mut places = Vec::new();
        if replaced > 0 {
            places.push(0..replaced);
        }
        if self.quick.is_match(bytes) {
            places.extend(self.thorough.find_overlapping_iter(bytes).map(|it| it.range()));
            places.sort_unstable_by_key(|it| it.start);
        }
        let mut joined: Vec<Range<usize>> = Vec::with_capacity(places.len());
        for place in places {
            match joined.last_mut() {
                Some(last) if place.start < last.end => last.end = last.end.max(place.end),
                Some(_) | None => joined.push(place),
            }
        }
        joined
    }

    /// How many of the last bytes may be the beginning of a secret.
    fn beginning_at_end(&self, bytes: &[u8]) -> usize {
        let longest = bytes.len().min(self.pattern_bytes_max - 1);
        let is_beginning = |length: &usize| {
            let end = &bytes[bytes.len() - length..];
            self.begins.may_begin(end) && self.has_longer(end)
        };
        (1..=longest).rev().find(is_beginning).unwrap_or(0)
    }

    /// Whether a pattern begins with this and goes on.
    fn has_longer(&self, beginning: &[u8]) -> bool {
        let at = self.patterns.partition_point(|it| it.as_slice() < beginning);
        // The first of them may be this very text.
        self.patterns[at..].iter().take(2).any(|it| it.len() > beginning.len() && it.starts_with(beginning))
    }
}

/// The first two bytes of all patterns, a bit for each pair: so that where nothing begins, that is seen at once.
struct Begins(Vec<u64>);

impl Begins {
    fn of(patterns: &[Vec<u8>]) -> Self {
        let mut pairs = vec![0; (1 << 16) / 64];
        for pair in patterns.iter().filter_map(|it| it.first_chunk::<2>()) {
            let at = usize::from(u16::from_be_bytes(*pair));
            pairs[at / 64] |= 1_u64 << (at % 64);
        }
        Self(pairs)
    }

    fn may_begin(&self, text: &[u8]) -> bool {
        text.first_chunk::<2>().is_none_or(|pair| {
            let at = usize::from(u16::from_be_bytes(*pair));
            self.0[at / 64] >> (at % 64) & 1 == 1
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };
    use proptest::prelude::*;

    use super::{Mask, MaskedStream};

    fn masked(secrets: &[&str], reads: &[&[u8]]) -> String {
        let mask = Mask::new(secrets.iter().copied()).expect("mask");
        let (mut stream, mut out) = (MaskedStream::default(), Vec::new());
        for read in reads {
            stream.push(&mask, read, |bytes| out.extend_from_slice(bytes));
        }
        stream.finish(&mask, |bytes| out.extend_from_slice(bytes));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_secret_is_masked_wherever_the_reads_cut_it() {
        let text = b"token=hunter2hunter2, again hunter2hunter2!";
        for cut in 0..=text.len() {
            let (one, other) = text.split_at(cut);
            assert_eq!(masked(&["hunter2hunter2"], &[one, other]), "token=***, again ***!", "cut at {cut}");
        }
    }

    #[test]
    fn a_secret_with_several_lines_is_masked_whole_and_line_by_line() {
        let key = "-----BEGIN-----\nabcdefgh\nxyz\n-----END-----";
        assert_eq!(masked(&[key], &[b"a\n", key.as_bytes(), b"\nb"]), "a\n***\nb");
        assert_eq!(masked(&[key], &[b"1: abcdefgh\n2: xyz\n3: -----END-----\r\n"]), "1: ***\n2: xyz\n3: ***\r\n");
    }

    #[test]
    fn a_short_secret_is_masked_too() {
        assert_eq!(masked(&["pw1"], &[b"p", b"w", b"1"]), "***");
        assert_eq!(masked(&["pw1\n"], &[b"is pw1."]), "is ***.");
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_of_either() {
        assert_eq!(masked(&["abcdef", "defghi"], &[b"<abcdefghi>"]), "<***>");
        assert_eq!(masked(&["abcabc", "cabcxyz"], &[b"<abcabc", b"xyz>"]), "<***>");
        assert_eq!(masked(&["abcabc", "cabcxyz"], &[b"<abcabc", b"xy>"]), "<***xy>");
        assert_eq!(masked(&["aaaaaa"], &[b"aaaaaaa", b"aaa", b"b"]), "***b");
    }

    #[test]
    fn a_beginning_that_comes_to_nothing_is_passed_on() {
        assert_eq!(masked(&["hunter2"], &[b"hunt", b"ing hunter"]), "hunting hunter");
        assert_eq!(masked(&[], &[b"as it ", b"is"]), "as it is");
    }

    #[test]
    fn the_forms_that_programs_put_a_secret_into_are_masked_wherever_the_reads_cut_them() {
        let secret = "p/w \"ä\\+1 ~";
        for text in [
            // base64 -w0, and `user:secret` at each alignment, as in a header of HTTP.
            STANDARD.encode(secret),
            STANDARD.encode(format!("x{secret}y")),
            STANDARD.encode(format!("xy{secret}zz")),
            STANDARD.encode(format!("xyz{secret}\n")),
            URL_SAFE_NO_PAD.encode(secret),
            // curl --data-urlencode, encodeURIComponent, a form, Python's quote.
            "p%2Fw%20%22%C3%A4%5C%2B1%20~".to_owned(),
            "p%2fw%20%22%c3%a4%5c%2b1%20~".to_owned(),
            "p%2Fw+%22%C3%A4%5C%2B1+%7E".to_owned(),
            "p/w%20%22%C3%A4%5C%2B1%20~".to_owned(),
            // JSON of Rust, Python and PHP, and JSON within JSON.
            "p/w \\\"ä\\\\+1 ~".to_owned(),
            "p/w \\\"\\u00e4\\\\+1 ~".to_owned(),
            "p\\/w \\\"\\u00e4\\\\+1 ~".to_owned(),
            "p/w \\\\\\\"ä\\\\\\\\+1 ~".to_owned(),
        ] {
            for cut in 0..=text.len() {
                let (one, other) = text.as_bytes().split_at(cut);
                let shown = masked(&[secret], &[b"< ", one, other, b" >"]);
                let rest = shown.replace("***", "");
                // Only what holds bits of its surroundings, and the padding, may be left.
                assert!(shown.contains("***") && rest.len() <= 4 + 10, "{text} cut at {cut}: {shown}");
            }
        }
    }

    #[test]
    fn a_long_secret_is_masked_in_the_lines_that_base64_makes_of_it() {
        let key: String = (0..40).map(|it| format!("line {it} of a key\n")).collect();
        let encoded = STANDARD.encode(&key);
        for width in [76, 64] {
            let lines: Vec<&str> = encoded.as_bytes().chunks(width).filter_map(|it| str::from_utf8(it).ok()).collect();
            let shown = masked(&[&key], &[lines.join("\n").as_bytes(), b"\n"]);
            assert!(shown.lines().all(|it| it.trim_end_matches('=') == "***"), "{width}: {shown}");
        }
    }

    #[test]
    fn what_only_looks_alike_is_left() {
        let text = "cHcx cHcxcHcx pw1 aHVudGVyMg aHVudGVyMw== %68unter3 hunter3";
        assert_eq!(masked(&["hunter2!"], &[text.as_bytes()]), text);
        // Of a secret that is very short, other forms would be found in what has nothing to do with it.
        assert_eq!(masked(&["pw1"], &[b"cHcx pw1"]), "cHcx ***");
    }

    #[test]
    fn many_long_secrets_cost_no_more_memory_than_they_have() {
        let keys: Vec<String> = (0..30).map(|key| format!("{key} is a key ").repeat(400)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mask = Mask::new(keys.iter().copied()).expect("mask");
        let finder = mask.finder.as_ref().expect("there are secrets");
        let bytes: usize = finder.patterns.iter().map(Vec::len).sum();
        let taken = finder.quick.memory_usage() + finder.thorough.memory_usage();
        assert!(taken < 200 * bytes, "{taken} bytes for {bytes}");
        assert_eq!(masked(&keys, &[b"a ", keys[7].as_bytes(), b" b"]), "a *** b");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn cutting_the_stream_changes_nothing(
            text in "[ab\n]{0,40}", secrets in proptest::collection::vec("[ab]{1,7}", 0..4), cuts in proptest::collection::vec(0_usize..41, 0..6)
        ) {
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|it| it.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut reads, mut from) = (Vec::new(), 0);
            for cut in cuts {
                reads.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            reads.push(&text.as_bytes()[from..]);
            let whole = masked(&secrets, &[text.as_bytes()]);
            prop_assert_eq!(masked(&secrets, &reads), whole.clone());
            for secret in secrets {
                prop_assert!(!whole.contains(secret));
            }
        }
    }
}
