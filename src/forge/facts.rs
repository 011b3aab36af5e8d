//! Turns the texts of a payload into facts: ids, refs, repositories, and lines for people.
//!
//! Invariant: a fact has no control character and a bounded length, so it may become an environment value, a cell or
//! a line of a mail. Escaping for HTML, Slack or a header is left to whoever writes those.

use crate::{
    forge::{Rejection, payload::Scalar},
    model::{
        push::{CommitFacts, CommitId, RefChange, RefName, RepoName, is_ref_name},
        text,
    },
};

const LINE_CHARACTERS_MAX: usize = 256;
const URL_BYTES_MAX: usize = 2048;

/// Where a ref stands.
pub(super) enum Place {
    /// A branch or a tag.
    Deployable(RefName),
    /// A ref of any other kind.
    Elsewhere,
}

/// The ref under `ref`.
pub(super) fn place(full: &Scalar) -> Result<Place, Rejection> {
    let full = required("ref", full)?;
    // git allows those beyond ASCII; a terminal that shows a log may obey them.
    if full.contains(char::is_control) {
        return Err(Rejection::BadPayload("`ref` has control characters".into()));
    }
    if let Some(ref_name) = RefName::parse(full) {
        return Ok(Place::Deployable(ref_name));
    }
    let other = full.strip_prefix("refs/").filter(|it| !it.starts_with("heads/") && !it.starts_with("tags/"));
    match other {
        Some(name) if is_ref_name(name) => Ok(Place::Elsewhere),
        Some(_) | None => Err(Rejection::BadPayload("`ref` is not a full ref name that git would take".into())),
    }
}

/// The commit under `key`; `None` is the null id, which stands for "no commit".
pub(super) fn commit(key: &str, id: &Scalar) -> Result<Option<CommitId>, Rejection> {
    let text = required(key, id)?;
    let is_null = matches!(text.len(), 40 | 64) && text.bytes().all(|it| it == b'0');
    match CommitId::parse(text) {
        Some(id) => Ok(Some(id)),
        None if is_null => Ok(None),
        None => Err(Rejection::BadPayload(format!("`{key}` is not a commit id of 40 or 64 hex digits"))),
    }
}

/// The repository under `key`.
pub(super) fn repo(key: &str, name: Option<&Scalar>) -> Result<RepoName, Rejection> {
    let text = required(key, name.unwrap_or(&Scalar::Absent))?;
    RepoName::parse(text).ok_or_else(|| Rejection::BadPayload(format!("`{key}` is not a repository's full name")))
}

fn required<'a>(key: &str, value: &'a Scalar) -> Result<&'a str, Rejection> {
    match value {
        Scalar::Text(text) => Ok(text),
        Scalar::Absent => Err(Rejection::BadPayload(format!("`{key}` is missing"))),
        Scalar::Number(_) | Scalar::Flag(_) | Scalar::Other => {
            Err(Rejection::BadPayload(format!("`{key}` is not a string")))
        }
    }
}

/// What a ref's new commit, or its absence, means.
pub(super) fn change(commit: Option<CommitId>) -> RefChange {
    commit.map_or(RefChange::Deleted, RefChange::Moved)
}

/// A default branch that git would take as a branch's name.
pub(super) fn default_branch(name: &Scalar) -> Option<String> {
    name.text().filter(|it| is_ref_name(it) && !it.contains(char::is_control)).map(str::to_owned)
}

/// The facts of one commit.
pub(super) fn commit_facts(message: &Scalar, author: Option<&Scalar>, email: Option<&Scalar>) -> CommitFacts {
    let line_of = |text: Option<&Scalar>| text.and_then(line).unwrap_or_default();
    let author_email = line_of(email);
    // GitLab's word for an address that its user keeps to themselves.
    let author_email = if author_email == "[REDACTED]" { String::new() } else { author_email };
    CommitFacts { subject: line_of(Some(message)), author: line_of(author), author_email }
}

/// The first line of a text, fit for people to read. `None`: there is nothing to read.
pub(super) fn line(scalar: &Scalar) -> Option<String> {
    let first = scalar.text()?.trim_start().lines().next()?;
    let line: String = first.chars().filter(|it| !text::acts(*it)).take(LINE_CHARACTERS_MAX).collect();
    let line = line.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// An address of a page on the web.
pub(super) fn url(text: &str) -> Option<String> {
    let is_web = text.starts_with("https://") || text.starts_with("http://");
    let is_plain = text.bytes().all(|it| it.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&it));
    (is_web && is_plain && text.len() <= URL_BYTES_MAX).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{line, url};
    use crate::forge::payload::Scalar;

    #[test]
    fn a_line_is_the_first_without_anything_that_could_deceive() {
        let of = |text: &str| line(&Scalar::Text(text.into()));
        assert_eq!(of("\nSubject\r\n\r\nbody").as_deref(), Some("Subject"));
        assert_eq!(of("a\0b\u{1b}[31mc\u{202e}d\u{85}").as_deref(), Some("ab[31mcd"));
        assert_eq!(of(" \u{7} "), None);
        assert_eq!(of(&"ü".repeat(1000)).map(|it| it.chars().count()), Some(256));
    }

    #[test]
    fn a_url_is_of_the_web_and_breaks_out_of_nothing() {
        assert!(url("https://github.com/a/b/compare/1...2").is_some());
        for bad in ["javascript:alert(1)", "https://a/\"><script>", "https://a/ b", "https://a/|x>", "http://a/\n"] {
            assert_eq!(url(bad), None, "{bad}");
        }
    }
}
