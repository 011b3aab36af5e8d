//! Reads files of a repository that are written as git-config(1) says, such as `.gitmodules`.
//!
//! Invariant: they are only read: no file is included, and nothing is ever run.

/// One line that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// In lower case.
    pub(super) section: Vec<u8>,
    pub(super) subsection: Vec<u8>,
    /// In lower case.
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// What a file says, in its order. A line that makes no sense, which git would refuse the file for, is passed over.
pub(super) fn settings(text: &[u8]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut current: Option<(Vec<u8>, Vec<u8>)> = None;
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    loop {
        rest = match rest {
            [] => return settings,
            [b'#' | b';', ..] => behind_line(rest),
            [b'[', header @ ..] => match names(header) {
                Some((names, rest)) => {
                    current = Some(names);
                    rest
                }
                None => {
                    current = None;
                    behind_line(rest)
                }
            },
            [byte, ..] if byte.is_ascii_alphabetic() => {
                let (setting, behind) = read_setting(rest);
                if let (Some((section, subsection)), Some((key, value))) = (&current, setting) {
                    let (section, subsection) = (section.clone(), subsection.clone());
                    settings.push(Setting { section, subsection, key, value });
                }
                behind
            }
            [byte, tail @ ..] if is_space(*byte) => tail,
            [_, ..] => behind_line(rest),
        };
    }
}

/// What git takes for a space (its own `isspace`, in `ctype.c`).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// What comes behind the end of this line.
fn behind_line(text: &[u8]) -> &[u8] {
    text.iter().position(|it| *it == b'\n').map_or(&[], |end| &text[end + 1..])
}

/// Two texts that belong together: a key and its value, or a section and its subsection.
type Pair = (Vec<u8>, Vec<u8>);

/// A key and its value, if there is one that makes sense, and what comes behind them.
fn read_setting(text: &[u8]) -> (Option<Pair>, &[u8]) {
    let end = text.iter().position(|it| !it.is_ascii_alphanumeric() && *it != b'-').unwrap_or(text.len());
    let blanks = text[end..].iter().take_while(|it| matches!(it, b' ' | b'\t')).count();
    match text[end + blanks..].strip_prefix(b"=") {
        Some(rest) => {
            let (value, behind) = value(rest);
            (value.map(|it| (text[..end].to_ascii_lowercase(), it)), behind)
        }
        // A key alone is `true`, which nothing that is read here ever means.
        None => (None, behind_line(&text[end..])),
    }
}

/// A value: quotes and escapes resolved, comments and outer spaces dropped; and what comes behind its line.
fn value(text: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    let (mut value, mut length, mut is_quoted, mut is_comment) = (Vec::new(), 0, false, false);
    let mut rest = text;
    loop {
        rest = match rest {
            [] | [b'\n', ..] | [b'\r', b'\n', ..] => {
                value.truncate(length);
                return ((!is_quoted).then_some(value), behind_line(rest));
            }
            [_, tail @ ..] if is_comment => tail,
            [byte, tail @ ..] if is_space(*byte) && !is_quoted => {
                // Spaces before a value never count, and behind it only if more follows.
                if !value.is_empty() {
                    value.push(*byte);
                }
                tail
            }
            [b'#' | b';', tail @ ..] if !is_quoted => {
                is_comment = true;
                tail
            }
            // The line goes on, and so do spaces before it.
            [b'\\', b'\n', tail @ ..] | [b'\\', b'\r', b'\n', tail @ ..] => {
                length = value.len();
                tail
            }
            [b'\\'] => &[],
            [b'\\', escape @ (b'n' | b't' | b'b' | b'\\' | b'"'), tail @ ..] => {
                value.push(match escape {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'b' => 8,
                    other => *other,
                });
                length = value.len();
                tail
            }
            [b'\\', ..] => return (None, behind_line(rest)),
            [b'"', tail @ ..] => {
                is_quoted = !is_quoted;
                length = value.len();
                tail
            }
            [byte, tail @ ..] => {
                value.push(*byte);
                length = value.len();
                tail
            }
        };
    }
}

/// Section and subsection in `section]` or `section "subsection"]`, and what comes behind the bracket.
fn names(header: &[u8]) -> Option<(Pair, &[u8])> {
    let is_plain = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.');
    let end = header.iter().position(|it| !is_plain(it))?;
    let section = header[..end].to_ascii_lowercase();
    let blanks = header[end..].iter().take_while(|it| is_space(**it) && **it != b'\n').count();
    let mut rest = match &header[end + blanks..] {
        [b']', rest @ ..] if blanks == 0 => return Some(((section, Vec::new()), rest)),
        [b'"', rest @ ..] if blanks > 0 => rest,
        _ => return None,
    };
    let mut subsection = Vec::new();
    loop {
        match rest {
            [b'"', b']', rest @ ..] => return Some(((section, subsection), rest)),
            [b'"', ..] | [b'\n', ..] | [b'\\', b'\n', ..] | [] => return None,
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                subsection.push(*byte);
                rest = tail;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::settings;

    /// `section.subsection.key=value` of each line that says something.
    fn said(text: &str) -> Vec<String> {
        let plain = |it: &[u8]| String::from_utf8_lossy(it).into_owned();
        let line = |it: super::Setting| {
            let names = [plain(&it.section), plain(&it.subsection), plain(&it.key)];
            format!("{}={}", names.join("."), plain(&it.value))
        };
        settings(text.as_bytes()).into_iter().map(line).collect()
    }

    #[test]
    fn a_line_may_begin_behind_its_sections_name() {
        assert_eq!(said("[a \"B\"] Key = x ; y\n[c.d]e=f"), ["a.B.key=x", "c.d..e=f"]);
    }

    #[test]
    fn spaces_are_those_of_git() {
        assert_eq!(said("[a]\nk = \u{c}\nl = x \u{b} ; y\nm = x \\\n\n"), ["a..k=\u{c}", "a..l=x \u{b}", "a..m=x "]);
    }

    #[test]
    fn what_git_would_refuse_says_nothing() {
        assert_eq!(said("[a]\nk = \"x\nb_d = 1\nl = \\q\nm\n[a \"b]\nn = 1\n[a]o = 2\\\n3"), ["a..o=23"]);
    }
}
