//! Reads `.gitmodules`: name, path and URL of each repository within.
//!
//! Invariant: nothing but these three is taken from it; no file is included, and no command ever read.

/// What `.gitmodules` says of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) url: Vec<u8>,
}

/// Reads the file, in the form of git-config(1). What makes no sense is passed over.
pub(super) fn parse(text: &[u8]) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    let mut current: Option<usize> = None;
    for line in logical_lines(text) {
        let line = line.trim_ascii();
        if let Some(header) = line.strip_prefix(b"[") {
            current = name(header).map(|name| match modules.iter().position(|it| it.name == name) {
                Some(at) => at,
                None => {
                    modules.push(Module { name, ..Module::default() });
                    modules.len() - 1
                }
            });
            continue;
        }
        let (Some(at), Some(equals)) = (current, line.iter().position(|it| *it == b'=')) else { continue };
        let value = value(&line[equals + 1..]);
        match line[..equals].trim_ascii().to_ascii_lowercase().as_slice() {
            b"path" => modules[at].path = value.strip_suffix(b"/").unwrap_or(&value).to_vec(),
            b"url" => modules[at].url = value,
            _ => (),
        }
    }
    modules
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

/// The name in `submodule "name"]`.
fn name(header: &[u8]) -> Option<Vec<u8>> {
    let (section, rest) = header.split_at_checked(9)?;
    let mut rest = rest.trim_ascii().strip_prefix(b"\"").filter(|_| section.eq_ignore_ascii_case(b"submodule"))?;
    let mut name = Vec::new();
    loop {
        match rest {
            [b'"', ..] => return Some(name),
            [b'\\', byte, tail @ ..] | [byte, tail @ ..] => {
                name.push(*byte);
                rest = tail;
            }
            [] => return None,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_paths_and_urls_are_read_as_git_writes_them() {
        let text = "# comment\n[submodule \"a \\\"b\"]\n\tpath = lib/a ; comment\n\tURL = \"../a #1.git\"\n\
                    [core]\n\turl = no\n[submodule \"c\"]\nupdate = !touch x\npath=c/\nurl = ht\\\ntps://example.org/c\n";
        let modules = parse(text.as_bytes());
        let shown: Vec<_> = modules
            .iter()
            .map(|it| [&it.name, &it.path, &it.url].map(|it| String::from_utf8_lossy(it).into_owned()))
            .collect();
        assert_eq!(shown, [["a \"b", "lib/a", "../a #1.git"], ["c", "c", "https://example.org/c"]]);
    }
}
