//! Decides whether there can be a ref, or a file of a repository, that a list of globs lets through.
//!
//! A glob is a regular language, and so are the names that git takes for refs and the paths that it keeps. So all of them
//! are walked at once, byte by byte, from state to state. If no state can be reached in which the name is complete, legal
//! and let through, then there is no such name.
//!
//! Invariant: "no" is proven. Where a glob is too large to tell, the answer is "yes".

use std::collections::{HashMap, HashSet};

use globset::GlobBuilder;
use regex_automata::{
    Anchored, MatchKind,
    hybrid::{
        LazyStateID,
        dfa::{Cache, Config, DFA},
    },
    util::{start, syntax},
};

/// What names are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// A branch.
    Branch,
    /// A tag.
    Tag,
    /// A file in a repository.
    File,
}

/// So many states are looked at, at most. What people write takes a hundred.
const STATES_MAX: usize = 20_000;

/// So much memory one glob may take.
const CACHE_BYTES: usize = 4 << 20;

/// Whether a name of this kind can match `included`, if there is one, and none of `excluded`.
pub(super) fn can_match(included: Option<&str>, excluded: &[&str], of: Name) -> bool {
    let globs = included.into_iter().chain(excluded.iter().copied());
    let walkers: Option<Vec<Walker>> = globs.map(Walker::of).collect();
    let Some(mut walkers) = walkers else { return true };
    search(&mut walkers, included.is_some(), of).unwrap_or(true)
}

/// Whether a good end can be reached. `None`: that would take too long.
fn search(walkers: &mut [Walker], has_included: bool, of: Name) -> Option<bool> {
    let alphabet = alphabet(walkers);
    let begin = (walkers.iter_mut().map(Walker::begin).collect::<Option<Vec<_>>>()?, SoFar::begin(of));
    let (mut seen, mut open) = (HashSet::from([begin.clone()]), vec![begin]);
    while let Some((states, name)) = open.pop() {
        if name.is_complete() && is_let_through(walkers, &states, has_included)? {
            return Some(true);
        }
        if seen.len() > STATES_MAX {
            return None;
        }
        for byte in &alphabet {
            let Some(name) = name.and(*byte) else { continue };
            let ways = walkers.iter_mut().zip(&states).map(|(walker, state)| walker.step(*state, *byte));
            let states = ways.collect::<Option<Vec<_>>>()?;
            if has_included && states.first().is_some_and(|it| it.is_dead()) {
                continue;
            }
            let next = (states, name);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    Some(false)
}

fn is_let_through(walkers: &mut [Walker], states: &[LazyStateID], has_included: bool) -> Option<bool> {
    for (index, (walker, state)) in walkers.iter_mut().zip(states).enumerate() {
        let is_included = has_included && index == 0;
        if walker.matches_at(*state)? != is_included {
            return Some(false);
        }
    }
    Some(true)
}

/// One byte of each kind that neither a glob nor git tells from others of its kind.
fn alphabet(walkers: &[Walker]) -> Vec<u8> {
    let mut kinds = HashMap::new();
    // Letters come first, so that what is found is found soon.
    for byte in (b'a'..=b'z').chain(0..=u8::MAX) {
        let classes: Vec<u8> = walkers.iter().map(|it| it.dfa.byte_classes().get(byte)).collect();
        let is_special = byte < b' ' || b" ~^:?*[\\/.@{lockgitLOCKGIT\x7f".contains(&byte);
        kinds.entry((classes, is_special.then_some(byte))).or_insert(byte);
    }
    let mut bytes: Vec<u8> = kinds.into_values().collect();
    // The last one is tried first.
    bytes.sort_unstable_by_key(|it| (it.is_ascii_lowercase(), *it));
    bytes
}

/// A glob on its way through a name.
struct Walker {
    dfa: DFA,
    cache: Cache,
}

impl Walker {
    /// The automaton of a glob; `None`: it is no glob, or too large.
    fn of(glob: &str) -> Option<Self> {
        let glob = GlobBuilder::new(glob).literal_separator(true).build().ok()?;
        // As globset itself reads the expression, and with nothing thrown away that was made.
        let syntax = syntax::Config::new().utf8(false).dot_matches_new_line(true);
        let config = Config::new()
            .match_kind(MatchKind::All)
            .cache_capacity(CACHE_BYTES)
            .skip_cache_capacity_check(true)
            .minimum_cache_clear_count(Some(0));
        let dfa = DFA::builder().syntax(syntax).configure(config).build(glob.regex()).ok()?;
        let cache = dfa.create_cache();
        Some(Self { dfa, cache })
    }

    fn begin(&mut self) -> Option<LazyStateID> {
        self.dfa.start_state(&mut self.cache, &start::Config::new().anchored(Anchored::Yes)).ok()
    }

    fn step(&mut self, state: LazyStateID, byte: u8) -> Option<LazyStateID> {
        self.dfa.next_state(&mut self.cache, state, byte).ok()
    }

    /// Whether a name that ends here matches.
    fn matches_at(&mut self, state: LazyStateID) -> Option<bool> {
        self.dfa.next_eoi_state(&mut self.cache, state).ok().map(|it| it.is_match())
    }
}

/// As much of a name as has been read: what of it still matters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum SoFar {
    Ref(RefSoFar),
    File(Part),
}

impl SoFar {
    fn begin(of: Name) -> Self {
        match of {
            Name::Branch | Name::Tag => Self::Ref(RefSoFar::default()),
            Name::File => Self::File(Part::Empty),
        }
    }

    fn and(self, byte: u8) -> Option<Self> {
        match self {
            Self::Ref(it) => it.and(byte).map(Self::Ref),
            Self::File(it) => it.and(byte).map(Self::File),
        }
    }

    fn is_complete(self) -> bool {
        match self {
            Self::Ref(it) => it.is_complete(),
            Self::File(it) => it.is_complete(),
        }
    }
}

const LOCK: &[u8] = b".lock";

/// The rules of `git check-ref-format`, as far as a name has come. See `model::push::is_ref_name`, which asks the same of
/// a whole name.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct RefSoFar {
    /// Whether anything of this part has come.
    has_part: bool,
    last_is_dot: bool,
    last_is_at: bool,
    /// Whether all of it is `@`.
    is_at: bool,
    /// How much of `.lock` this part ends with.
    lock: usize,
    /// Whether anything has come at all.
    has_begun: bool,
}

impl RefSoFar {
    fn and(self, byte: u8) -> Option<Self> {
        let next = Self { has_part: true, has_begun: true, ..Self::default() };
        match byte {
            0..=b' ' | 0x7f | b'~' | b'^' | b':' | b'?' | b'*' | b'[' | b'\\' => None,
            b'/' => (self.has_part && self.lock < LOCK.len()).then_some(Self { has_part: false, ..next }),
            b'.' => (self.has_part && !self.last_is_dot).then_some(Self { last_is_dot: true, lock: 1, ..next }),
            b'{' if self.last_is_at => None,
            b'@' => Some(Self { last_is_at: true, is_at: !self.has_begun, ..next }),
            _ => {
                let goes_on = LOCK.get(self.lock) == Some(&byte);
                Some(Self { lock: if goes_on { self.lock + 1 } else { 0 }, ..next })
            }
        }
    }

    fn is_complete(self) -> bool {
        self.has_part && !self.last_is_dot && !self.is_at && self.lock < LOCK.len()
    }
}

/// The part of a file's path that is being read. git keeps no part that is empty, `.`, `..` or, in any case, `.git`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Empty,
    Dot,
    DotDot,
    DotG,
    DotGi,
    DotGit,
    Other,
}

impl Part {
    fn and(self, byte: u8) -> Option<Self> {
        match (self, byte.to_ascii_lowercase()) {
            (_, 0) => None,
            (Self::DotG | Self::DotGi | Self::Other, b'/') => Some(Self::Empty),
            (Self::Empty | Self::Dot | Self::DotDot | Self::DotGit, b'/') => None,
            (Self::Empty, b'.') => Some(Self::Dot),
            (Self::Dot, b'.') => Some(Self::DotDot),
            (Self::Dot, b'g') => Some(Self::DotG),
            (Self::DotG, b'i') => Some(Self::DotGi),
            (Self::DotGi, b't') => Some(Self::DotGit),
            (Self::Empty | Self::Dot | Self::DotDot | Self::DotG | Self::DotGi | Self::DotGit | Self::Other, _) => {
                Some(Self::Other)
            }
        }
    }

    fn is_complete(self) -> bool {
        match self {
            Self::Empty | Self::Dot | Self::DotDot | Self::DotGit => false,
            Self::DotG | Self::DotGi | Self::Other => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Name, SoFar, can_match};
    use crate::model::{hook::Patterns, push::is_ref_name};

    fn is_legal(name: &str, of: Name) -> bool {
        let read = name.bytes().try_fold(SoFar::begin(of), SoFar::and);
        read.is_some_and(SoFar::is_complete)
    }

    #[test]
    fn a_glob_that_no_ref_can_match_is_told_from_one_that_some_ref_can() {
        for possible in
            ["main", "release/*", "**", "v[0-9]*", "{a,b}/x", "[!a]", "*.lock?", "v[0-9]+.[0-9]+", "@?", "*."]
        {
            let is_legal_end = possible != "*.";
            assert_eq!(can_match(Some(possible), &[], Name::Branch), is_legal_end, "{possible}");
        }
        for impossible in [
            "main, develop",
            "main ",
            "^main$",
            "feature branch",
            ".*",
            "feature/.*",
            "*.lock",
            "a..b",
            "/main",
            "a//*",
            "*/",
            "@",
            "[.]*",
            "[ ^]",
            "x~[0-9]",
            "{a b,c:d}",
            "a@\\{x",
            "\\*",
            "*\\[",
            "[*]",
        ] {
            assert!(!can_match(Some(impossible), &[], Name::Tag), "{impossible}");
        }
    }

    #[test]
    fn a_glob_that_no_file_can_match_is_told_from_one_that_some_file_can() {
        for possible in ["web", "web/**", "**/*.md", ".gitignore", ".github/*", "a b", "**/.g*", "[.]*", "..x"] {
            assert!(can_match(Some(possible), &[], Name::File), "{possible}");
        }
        for impossible in ["web/", "a//b", "/web", "./web", "a/../b", ".git/*", "sub/.GIT/hooks", "..", "*/"] {
            assert!(!can_match(Some(impossible), &[], Name::File), "{impossible}");
        }
    }

    #[test]
    fn what_is_excluded_may_leave_nothing() {
        for (included, excluded, is_possible) in [
            (Some("main"), vec!["main"], false),
            (Some("release/*"), vec!["release/old"], true),
            (Some("release/*"), vec!["release/**"], false),
            (Some("[ab]"), vec!["a", "b"], false),
            (Some("[abc]"), vec!["a", "b"], true),
            (None, vec!["**"], false),
            (None, vec!["main"], true),
        ] {
            assert_eq!(can_match(included, &excluded, Name::Branch), is_possible, "{included:?} {excluded:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_name_read_byte_by_byte_is_judged_as_a_whole_one_is(name in "[a.@{/lock~ ü]{0,12}") {
            prop_assert_eq!(is_legal(&name, Name::Branch), is_ref_name(&name));
        }

        #[test]
        fn what_is_said_to_match_nothing_matches_no_legal_name(
            glob in "[a.*?/{,}lock\\[\\]!]{1,8}",
            name in "[a./lock]{1,8}",
        ) {
            let glob = format!("a{glob}");
            let patterns = Patterns::parse(std::slice::from_ref(&glob));
            prop_assume!(patterns.is_ok());
            let matches = patterns.expect("a glob").match_name(&name);
            for of in [Name::Branch, Name::File] {
                let is_possible = can_match(Some(&glob), &[], of);
                prop_assert!(is_possible || !(matches && is_legal(&name, of)), "{} {}", glob, name);
            }
        }
    }
}
