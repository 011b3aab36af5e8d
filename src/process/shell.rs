//! Words of commands: for a far side's shell, and for people who paste what a failure names.
//!
//! Invariant: a word stays one word and runs nothing, whatever a path, a branch or an address is called.

use std::path::Path;

/// A word in single quotes, where a shell interprets nothing.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A word for people, in quotes only where it needs them.
pub fn word(text: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "/.-_:@%+,=".contains(it);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// A path for people. Where it is not UTF-8 they have to find out themselves.
pub fn path_word(path: &Path) -> String {
    word(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn a_word_is_quoted_only_where_a_shell_would_make_something_of_it() {
        for plain in ["/srv/site", "git@example.org:acme/site.git", "release/1.2"] {
            assert_eq!(word(plain), plain);
        }
        for (odd, expected) in
            [("a b", "'a b'"), ("$(x)", "'$(x)'"), ("it's", r"'it'\''s'"), ("", "''"), ("~x", "'~x'")]
        {
            assert_eq!(word(odd), expected);
        }
    }
}
