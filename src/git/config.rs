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

/// What a file says, in its order. What makes no sense is passed over.
pub(super) fn settings(text: &[u8]) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut current: Option<(Vec<u8>, Vec<u8>)> = None;
    for line in logical_lines(text) {
        let line = line.trim_ascii();
        if let Some(header) = line.strip_prefix(b"[") {
            current = names(header);
            continue;
        }
        let (Some((section, subsection)), Some(equals)) = (&current, line.iter().position(|it| *it == b'=')) else {
            continue;
        };
        settings.push(Setting {
            section: section.clone(),
            subsection: subsection.clone(),
            key: line[..equals].trim_ascii().to_ascii_lowercase(),
            value: value(&line[equals + 1..]),
        });
    }
    settings
}

/// Lines, where a backslash at the end of one continues it.
fn logical_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut is_continued = false;
    for line in text.split(|it| *it == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let backslashes = line.iter().rev().take_while(|it| **it == b'\\').count();
        let continues = backslashes % 2 == 1;
        let piece = &line[..line.len() - usize::from(continues)];
        match lines.last_mut().filter(|_| is_continued) {
            Some(last) => last.extend_from_slice(piece),
            None => lines.push(piece.to_vec()),
        }
        is_continued = continues;
    }
    lines
}

/// A value: quotes and escapes resolved, comments and outer spaces dropped.
fn value(text: &[u8]) -> Vec<u8> {
    let (mut value, mut length, mut is_quoted) = (Vec::new(), 0, false);
    let mut rest = text.trim_ascii_start();
    loop {
        rest = match rest {
            [b'"', tail @ ..] => {
                is_quoted = !is_quoted;
                tail
            }
            [b'#' | b';', ..] if !is_quoted => break,
            [b'\\', escape, tail @ ..] => {
                value.push(match escape {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'b' => 8,
                    other => *other,
                });
                length = value.len();
                tail
            }
            [byte, tail @ ..] => {
                value.push(*byte);
                // Spaces at the end count only within quotes.
                if is_quoted || !byte.is_ascii_whitespace() {
                    length = value.len();
                }
                tail
            }
            [] => break,
        };
    }
    value.truncate(length);
    value
}

/// Section and subsection in `section]` or `section "subsection"]`.
fn names(header: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let end = header.iter().position(|it| it.is_ascii_whitespace() || *it == b']')?;
    let (section, rest) = (header[..end].to_ascii_lowercase(), header[end..].trim_ascii());
    let mut rest = match rest.strip_prefix(b"\"") {
        Some(rest) => rest,
        None => return rest.starts_with(b"]").then_some((section, Vec::new())),
    };
    let mut subsection = Vec::new();
    loop {
        match rest {
            [b'"', ..] => return Some((section, subsection)),
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                subsection.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
}
