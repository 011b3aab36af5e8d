//! Judges globs that people write for branches, tags and files: whether they can match anything, and what was meant.
//!
//! Invariant: a glob is refused only if nothing can match it, and whatever is said of one names the form that is right.

use crate::{
    hooks::possible::{Name, can_match},
    model::{hook::Patterns, push::is_ref_name},
};

/// A list of globs, read.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    /// `None`: one of them is no glob, or nothing matches.
    pub(super) patterns: Option<Patterns>,
    /// What is wrong with them, each by its place in the list.
    pub(super) troubles: Vec<(usize, Trouble)>,
}

/// What is wrong with a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The word of the problem.
    pub(super) code: &'static str,
    /// What is wrong, to follow the name of the key.
    pub(super) message: String,
    /// What to write instead.
    pub(super) help: String,
    /// Whether the file can be used all the same.
    pub(super) is_warning: bool,
}

/// Judges a list of globs.
pub(super) fn judge(texts: &[String], of: Name) -> Judged {
    let mut troubles: Vec<(usize, Trouble)> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        troubles.extend(of_one(text, of).map(|it| (index, it)));
    }
    if troubles.iter().all(|(_, it)| it.is_warning) {
        troubles.extend(of_all(texts, of));
    }
    let patterns = if troubles.iter().any(|(_, it)| !it.is_warning) { None } else { compile(texts, of).ok() };
    Judged { patterns, troubles }
}

fn compile(texts: &[String], of: Name) -> Result<Patterns, String> {
    match of {
        Name::Branch | Name::Tag => Patterns::parse(texts),
        Name::File => Patterns::of_files(texts),
    }
}

/// What is wrong with one glob, whatever the others are.
fn of_one(text: &str, of: Name) -> Option<Trouble> {
    if let Err(help) = compile(&[text.to_owned()], of) {
        let message = format!("cannot be `{text}`");
        return Some(Trouble { code: "bad-glob", message, help, is_warning: false });
    }
    let (sign, bare) = text.strip_prefix('!').map_or(("", text), |it| ("!", it));
    let meant = meant(bare, of);
    let help = |form: Option<String>| match form {
        Some(form) if form.starts_with('[') => format!("write `{form}`"),
        Some(form) => format!("write `{sign}{form}`"),
        None => format!("name each {0} as it is, or write a glob: `*` is anything but `/`, `**` is anything", noun(of)),
    };
    if is_possible(bare, of) {
        let Meant { why, form } = meant?;
        let message = format!("is `{text}`, which hardly any {} matches: {why}", noun(of));
        return Some(Trouble { code: "odd-glob", message, help: help(form), is_warning: true });
    }
    let Meant { why, form } = meant.unwrap_or_else(|| Meant { why: rule(of).to_owned(), form: None });
    let message = format!("is `{text}`, which no {} can match: {why}", noun(of));
    Some(Trouble { code: "bad-glob", message, help: help(form), is_warning: false })
}

fn is_possible(glob: &str, of: Name) -> bool {
    match of {
        // Most are plain names, and thousands of hooks have one.
        Name::Branch | Name::Tag if !is_pattern(glob) => is_ref_name(glob),
        Name::Branch | Name::Tag | Name::File => stands_for(glob, of).iter().any(|it| can_match(Some(it), &[], of)),
    }
}

/// The globs that a text stands for.
fn stands_for(text: &str, of: Name) -> Vec<String> {
    match of {
        Name::Branch | Name::Tag => vec![text.to_owned()],
        Name::File => Patterns::of_one_file(text),
    }
}

/// What is wrong with all of them together: what one of them lets through, others may exclude.
fn of_all(texts: &[String], of: Name) -> Vec<(usize, Trouble)> {
    let written: Vec<&str> = texts.iter().filter_map(|it| it.strip_prefix('!')).collect();
    if written.is_empty() {
        return Vec::new();
    }
    let excluded: Vec<String> = written.iter().flat_map(|it| stands_for(it, of)).collect();
    let excluded: Vec<&str> = excluded.iter().map(String::as_str).collect();
    let trouble = |message: String| {
        let help = "take one of the two out".to_owned();
        Trouble { code: "bad-glob", message, help, is_warning: false }
    };
    let all = written.iter().map(|it| format!("`!{it}`")).collect::<Vec<_>>().join(", ");
    let included: Vec<(usize, &String)> = texts.iter().enumerate().filter(|(_, it)| !it.starts_with('!')).collect();
    if included.is_empty() && !can_match(None, &excluded, of) {
        return vec![(0, trouble(format!("lets no {} through, as {all} excludes them all", noun(of))))];
    }
    let is_in_vain = |it: &str| !stands_for(it, of).iter().any(|it| can_match(Some(it), &excluded, of));
    let in_vain = included.into_iter().filter(|(_, it)| is_in_vain(it));
    in_vain.map(|(index, it)| (index, trouble(format!("is `{it}`, of which {all} leaves nothing")))).collect()
}

fn noun(of: Name) -> &'static str {
    match of {
        Name::Branch => "branch",
        Name::Tag => "tag",
        Name::File => "file",
    }
}

/// Why nothing matches, where nothing better is known.
fn rule(of: Name) -> &'static str {
    match of {
        Name::Branch | Name::Tag => {
            "git takes no name with a space or one of `~ ^ : ? * [ \\`, with `..` or `//`, or with a part that begins with \
             `.` or ends with `.lock`"
        }
        Name::File => "git keeps no path with a part that is empty, `.`, `..` or `.git`",
    }
}

/// What a person most likely meant by a glob.
struct Meant {
    why: String,
    /// The glob that says it, if that is known.
    form: Option<String>,
}

impl Meant {
    fn new(why: &str, form: Option<String>) -> Option<Self> {
        Some(Self { why: why.to_owned(), form })
    }
}

fn meant(glob: &str, of: Name) -> Option<Meant> {
    let is_good = |it: &str| {
        let is_glob = !it.is_empty() && compile(&[it.to_owned()], of).is_ok();
        is_glob && is_possible(it, of) && strange(it, of).is_none()
    };
    let trimmed = glob.trim();
    if let Some(parts) = list_in(trimmed, of).filter(|it| it.iter().all(|it| is_good(it))) {
        return Meant::new("a list is written with brackets", Some(format!("[{}]", parts.join(", "))));
    }
    if trimmed != glob && is_good(trimmed) {
        return Meant::new("there is a space around it", Some(trimmed.to_owned()));
    }
    let strange = strange(glob, of)?;
    Some(Meant { form: strange.form.filter(|it| is_good(it)), ..strange })
}

/// The parts of a list that was written as one text.
fn list_in(text: &str, of: Name) -> Option<Vec<&str>> {
    if text.contains(['{', '[', '(']) {
        return None;
    }
    let separator = match of {
        Name::Branch | Name::Tag => ",",
        // A comma alone is good in a file's name.
        Name::File => ", ",
    };
    let separator = if text.contains(separator) { separator } else { " or " };
    let parts: Vec<&str> = text.split(separator).map(str::trim).filter(|it| !it.is_empty()).collect();
    (parts.len() > 1).then_some(parts)
}

/// What about a glob is written as people write it elsewhere.
fn strange(glob: &str, of: Name) -> Option<Meant> {
    if let Some(form) = of_expression(glob, of) {
        return Meant::new("it is a glob and no regular expression", Some(form));
    }
    match of {
        Name::Branch | Name::Tag if glob.contains(char::is_whitespace) => Meant::new("no name has a space", None),
        Name::Branch => {
            if let Some(tag) = glob.strip_prefix("refs/tags/") {
                return Meant::new(&format!("tags are named under `tag`: `tag: \"{tag}\"`"), None);
            }
            let of_clone = ["refs/remotes/origin/", "remotes/origin/", "origin/"];
            if let Some(branch) = of_clone.iter().find_map(|it| glob.strip_prefix(it)) {
                let why = "`origin` is what a clone calls the forge, which knows the branch by its own name alone";
                return Meant::new(why, Some(branch.to_owned()));
            }
            let branch = glob.strip_prefix("refs/heads/").or_else(|| glob.strip_prefix("heads/"))?;
            Meant::new("what is compared is the short name", Some(branch.to_owned()))
        }
        Name::Tag => {
            let tag = glob.strip_prefix("refs/tags/").or_else(|| glob.strip_prefix("tags/"))?;
            Meant::new("what is compared is the short name", Some(tag.to_owned()))
        }
        Name::File if glob.starts_with('/') || glob.starts_with("./") => {
            let form = glob.trim_start_matches("./").trim_start_matches('/');
            Meant::new("paths begin at the root of the repository", Some(form.to_owned()))
        }
        Name::File => {
            let is_windows = glob.contains('\\') && !is_pattern(&glob.replace('\\', ""));
            Meant::new("git writes paths with `/`", Some(is_windows.then(|| glob.replace('\\', "/"))?))
        }
    }
}

/// What a regular expression says, as a glob.
const EXPRESSIONS: [(&str, &str); 12] = [
    (".*", "*"),
    (".+", "?*"),
    ("\\d", "[0-9]"),
    ("\\w", "[0-9A-Za-z_]"),
    ("\\.", "."),
    ("\\/", "/"),
    ("\\-", "-"),
    ("]+", "]*"),
    ("(?:", "{"),
    ("(", "{"),
    (")", "}"),
    ("|", ","),
];

/// A regular expression as a glob, if it is one for sure: a glob may have a `.*` or a `$`, too.
fn of_expression(text: &str, of: Name) -> Option<String> {
    let slashed = text.strip_prefix('/').and_then(|it| it.strip_suffix('/'));
    let core = slashed.filter(|it| of != Name::File && !it.is_empty()).unwrap_or(text);
    let inner = core.strip_prefix('^').unwrap_or(core);
    let inner = inner.strip_suffix('$').unwrap_or(inner);
    let uncounted = without_counts(inner);
    let has_any = |signs: &[&str]| signs.iter().any(|it| inner.contains(it));
    let has_choice = inner.contains('(') && inner.contains('|') && inner.contains(')');
    let begins_a_part = of != Name::File && (inner.starts_with(".*") || inner.contains("/.*"));
    let is_sure = inner != text || uncounted != inner || has_choice || begins_a_part;
    let signs = match of {
        Name::Branch | Name::Tag => &["]+", ".+", "\\d", "\\w", "\\.", "\\/", "\\-"][..],
        // There a backslash is rather one of Windows.
        Name::File => &["]+"],
    };
    if !is_sure && !has_any(signs) {
        return None;
    }
    let choice = if has_choice { EXPRESSIONS.len() } else { 8 };
    let form = EXPRESSIONS[..choice].iter().fold(uncounted, |form, (expression, glob)| form.replace(expression, glob));
    // Of what was a digit and may be repeated, one is enough.
    Some(form.replace("]+", "]*"))
}

/// The text with `{2}` and `{1,}` after a class as any number of them.
fn without_counts(text: &str) -> String {
    let Some((before, after)) = text.split_once("]{") else { return text.to_owned() };
    match after.split_once('}') {
        Some((count, rest)) if count.bytes().all(|it| it.is_ascii_digit() || it == b',') => {
            without_counts(&format!("{before}]*{rest}"))
        }
        Some(_) | None => text.to_owned(),
    }
}

/// Whether anything in it stands for something else.
fn is_pattern(glob: &str) -> bool {
    glob.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

#[cfg(test)]
mod tests {
    use super::{Trouble, judge};
    use crate::hooks::possible::Name;

    fn troubles(texts: &[&str], of: Name) -> Vec<Trouble> {
        let texts: Vec<_> = texts.iter().map(|it| (*it).to_owned()).collect();
        judge(&texts, of).troubles.into_iter().map(|(_, it)| it).collect()
    }

    /// One glob has one trouble, of this word and with these words.
    fn has(glob: &str, of: Name, code: &str, words: &str) {
        let found = troubles(&[glob], of);
        let [one] = found.as_slice() else { panic!("`{glob}` has {found:?}") };
        let text = format!("{}; {}", one.message, one.help);
        assert!(one.code == code && text.contains(words), "`{glob}`: {one:?}");
        assert_eq!(one.is_warning, code == "odd-glob", "`{glob}`");
    }

    #[test]
    fn what_no_ref_can_match_is_refused_with_the_form_that_is_right() {
        for (glob, words) in [
            ("main, develop", "write `[main, develop]`"),
            ("main or develop", "write `[main, develop]`"),
            ("main ", "write `main`"),
            ("!main ", "write `!main`"),
            ("^main$", "write `main`"),
            ("^(main|develop)$", "write `{main,develop}`"),
            ("/main/", "write `main`"),
            (".*", "write `*`"),
            ("feature/.*", "write `feature/*`"),
            ("^release/.+$", "write `release/?*`"),
            ("feature branch", "no name has a space"),
            ("a..b", "with `..`"),
            ("a[", "unclosed"),
        ] {
            has(glob, Name::Branch, "bad-glob", words);
        }
        has("^v\\d+\\.\\d+$", Name::Tag, "bad-glob", "write `v[0-9]*.[0-9]*`");
    }

    #[test]
    fn what_hardly_any_ref_matches_is_told_with_the_form_that_is_right() {
        for (glob, of, words) in [
            ("origin/main", Name::Branch, "write `main`"),
            ("refs/heads/main", Name::Branch, "write `main`"),
            ("refs/heads/release/*", Name::Branch, "write `release/*`"),
            ("refs/tags/v1", Name::Branch, "`tag: \"v1\"`"),
            ("refs/tags/v*", Name::Tag, "write `v*`"),
            ("main,develop", Name::Branch, "write `[main, develop]`"),
            ("(main|develop)", Name::Branch, "write `{main,develop}`"),
            ("main$", Name::Branch, "write `main`"),
            ("v[0-9]+.[0-9]+", Name::Tag, "write `v[0-9]*.[0-9]*`"),
            ("v[0-9]{2}", Name::Tag, "write `v[0-9]*`"),
            ("v\\d", Name::Tag, "write `v[0-9]`"),
            ("web, docs/**", Name::File, "write `[web, docs/**]`"),
            ("src\\main", Name::File, "write `src/main`"),
        ] {
            has(glob, of, "odd-glob", words);
        }
    }

    #[test]
    fn what_is_good_is_left_alone() {
        for good in
            ["main", "release/*", "v1.*", "**", "!dev", "{main,develop}", "v[0-9]*", "feature/*-final", "a+b", "x$y"]
        {
            assert_eq!(troubles(&["trunk", good], Name::Branch), [], "{good}");
        }
        for good in ["web", "web/", "web/**", ".github/**", ".*", "docs/.*", "a b", "*,v", "**/*.md", "!**/*.md"] {
            assert_eq!(troubles(&[good], Name::File), [], "{good}");
        }
    }

    #[test]
    fn what_excludes_all_that_another_lets_through_is_refused() {
        let found = troubles(&["main", "dev", "!main"], Name::Branch);
        assert!(
            matches!(found.as_slice(), [it] if it.message == "is `main`, of which `!main` leaves nothing"),
            "{found:?}"
        );
        assert_eq!(troubles(&["!**"], Name::Branch).len(), 1);
        assert_eq!(troubles(&["web", "!web/"], Name::File).len(), 1);
        assert_eq!(troubles(&["web", "!web/old"], Name::File), []);
    }

    #[test]
    fn what_no_file_can_match_is_refused() {
        for (glob, words) in
            [("/web/**", "write `web/**`"), ("./web", "write `web`"), ("a//b", "empty"), ("x/../y", "`..`")]
        {
            has(glob, Name::File, "bad-glob", words);
        }
    }
}
