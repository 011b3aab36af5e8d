//! The texts of a repository: attributes, modules and pointers are read as git itself reads them.
//!
//! Invariant: git is asked about the very bytes that were read, with no configuration of anybody.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use git2::{IndexEntry, IndexTime, Oid, Repository};
use landfall::git::reading;

use crate::play::{Shape, Target, play, shape};

/// The attributes that matter.
const NAMES: &[&str] =
    &["text", "crlf", "eol", "ident", "filter", "export-ignore", "export-subst", "working-tree-encoding"];

/// What the root's file is cut from that of `sub/` by, in an input.
const OTHER_FILE: &[u8] = b"\n===\n";

/// Git, in this folder, with this on its standard input.
pub fn git(folder: &Path, args: &[&str], input: &[u8]) -> Result<Output, String> {
    let mut command = Command::new("git");
    command.args(args).current_dir(folder).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|err| format!("git cannot be started: {err}"))?;
    // What it does not want to read it need not.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().map_err(|err| err.to_string())
}

/// The repository of a target, made once.
fn repository(folder: &Path) -> Result<Repository, String> {
    let repo = match Repository::open(folder.join("repo")) {
        Ok(repo) => Ok(repo),
        Err(_) => Repository::init(folder.join("repo")),
    };
    repo.map_err(|err| err.to_string())
}

/// Paths that the patterns may be about: some fixed ones, and the patterns themselves as if they were names.
fn paths(input: &[u8]) -> Vec<Vec<u8>> {
    let mut paths: BTreeSet<Vec<u8>> =
        ["a.txt", "sub/a.txt", "sub/deep/b.c", "x", "sub/", "a/b/c/d.png", "sub/x y", "[", "!x"]
            .iter()
            .map(|it| it.as_bytes().to_vec())
            .collect();
    for line in input.split(|it| *it == b'\n').take(12) {
        let word = line.split(|it| b" \t\r\"".contains(it)).find(|it| !it.is_empty()).unwrap_or_default();
        let dropped: Vec<u8> = word.iter().copied().filter(|it| !b"*?[]\\!".contains(it)).collect();
        let filled: Vec<u8> =
            word.iter().flat_map(|it| if *it == b'*' { b"z/q".to_vec() } else { vec![*it] }).collect();
        let stepped: Vec<u8> = word.iter().map(|it| if *it == b'?' { b'y' } else { *it }).collect();
        for text in [word.to_vec(), dropped, filled, stepped] {
            let text = text.strip_prefix(b"/").unwrap_or(&text).to_vec();
            paths.extend([[b"sub/".as_slice(), &text].concat(), [&text, b"/in".as_slice()].concat(), text]);
        }
    }
    let is_path = |path: &Vec<u8>| {
        let bare = path.strip_suffix(b"/").unwrap_or(path);
        let is_name = |it: &[u8]| !matches!(it, b"" | b"." | b"..") && !it.eq_ignore_ascii_case(b".git");
        path.len() < 1000 && !path.contains(&0) && bare.split(|it| *it == b'/').all(is_name)
    };
    paths.into_iter().filter(is_path).collect()
}

fn judge_attributes(input: &[u8], folder: &Path) -> Result<Shape, String> {
    let at = input.windows(OTHER_FILE.len()).position(|it| it == OTHER_FILE);
    let (root, sub) = at.map_or((input, &b""[..]), |at| (&input[..at], &input[at + OTHER_FILE.len()..]));
    let repo = repository(folder)?;
    let index = || -> Result<(), git2::Error> {
        let mut index = repo.index()?;
        index.clear()?;
        for (path, content) in [(".gitattributes", root), ("sub/.gitattributes", sub)] {
            index.add(&entry(path, repo.blob(content)?, content.len()))?;
        }
        index.write()
    };
    index().map_err(|err| err.to_string())?;
    let paths = paths(input);
    let asked = paths.join(&0);
    // The form in which git is asked, and answers: path, name and value, each with a NUL behind it.
    let args = [&["check-attr", "--cached", "-z", "--stdin"], NAMES].concat();
    let output = git(&folder.join("repo"), &args, &asked)?;
    if !output.status.success() {
        return Err(format!("git refuses: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    let ours = reading::attributes(&[(b"", root), (b"sub/", sub)], &paths);
    let theirs: Vec<&[u8]> = output.stdout.split(|it| *it == 0).collect();
    for ((path, name, value), said) in ours.iter().zip(theirs.chunks(3)) {
        if [*path, name.as_bytes(), value.as_slice()] != said {
            let (path, value, said) = (path.escape_ascii(), value.escape_ascii(), said.join(&b' '));
            return Err(format!("{path} {name} is {value}, and git says {}", said.escape_ascii()));
        }
    }
    let values: BTreeSet<_> = ours.iter().map(|(_, name, value)| (*name, value.len().min(8))).collect();
    let count = ours.iter().filter(|it| it.2 != b"unspecified").count();
    Ok(shape((values, count.min(40))))
}

fn entry(path: &str, id: Oid, length: usize) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        file_size: u32::try_from(length).unwrap_or(u32::MAX),
        id,
        flags: 0,
        flags_extended: 0,
        path: path.into(),
    }
}

#[test]
fn whatever_gitattributes_hold_they_mean_what_git_makes_of_them() {
    play(Target {
        name: "attributes",
        samples: vec![
            b"* text=auto\n*.png binary\n/a.txt eol=crlf\nsub/** export-ignore\n\"x y\" -text ident\n".to_vec(),
            b"[attr]vendored -text export-ignore\nlib/* vendored\nlib/own !vendored\n\n===\n* filter=lfs -text\n*.c text\n"
                .to_vec(),
            b"# comment\n**/deep/[a-c]?.* working-tree-encoding=UTF-16\nx !text\nx -crlf\n\\#y text\n".to_vec(),
        ],
        words: &[
            b"[attr]m text\n",
            b"[attr]text -crlf\n",
            b" m",
            b" -m",
            b" !m",
            b" binary",
            b" -text",
            b" !text",
            b" eol=crlf",
            b" text=auto",
            b" filter=x",
            b"**/",
            b"/**",
            b"***",
            b"a**",
            b"[[:alpha:]]",
            b"[a-",
            b"[!",
            b"[]]",
            b"\\",
            b"\"",
            b"\\041",
            b"\\000",
            b"\0",
            b"\x0c",
            b"\x0b",
            b"\xef\xbb\xbf",
            b"\n===\n",
            b" =x",
            b" builtin_x",
            b"\r\n",
            b"!",
            b"/",
        ],
        inputs: 250,
        judge: judge_attributes,
    });
}

fn judge_modules(input: &[u8], folder: &Path) -> Result<Shape, String> {
    let file = folder.join("modules");
    fs::write(&file, input).map_err(|err| err.to_string())?;
    let output = git(folder, &["config", "--no-includes", "-z", "--list", "--file", "modules"], b"")?;
    let ours = reading::settings(input);
    let modules = reading::submodules(input);
    for module in &modules {
        if modules.iter().filter(|it| it.name == module.name).count() > 1 {
            return Err(format!("`{}` is there twice", module.name.escape_ascii()));
        }
    }
    // What git refuses as a whole, we read as far as it makes sense.
    if !output.status.success() {
        return Ok(shape(("refused", ours.len().min(9))));
    }
    let lines = output.stdout.split(|it| *it == 0).filter_map(|it| {
        let at = it.iter().position(|it| *it == b'\n')?;
        Some((it[..at].to_vec(), it[at + 1..].to_vec()))
    });
    // A key outside of any section is none. What has a NUL in it is cut there by git, which writes it as a string of C.
    let is_told =
        |(name, value): &(Vec<u8>, Vec<u8>)| name.contains(&b'.') && !name.contains(&0) && !value.contains(&0);
    let theirs: Vec<_> = lines.filter(is_told).collect();
    // A name that is empty, and one that is not there, are the same to us.
    let has_gap = theirs.iter().any(|(name, _)| name.starts_with(b".") || name.windows(2).any(|it| it == b".."));
    if !input.contains(&0) && !has_gap && theirs != ours {
        let shown = |all: &[(Vec<u8>, Vec<u8>)]| {
            let lines = all.iter().map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
            lines.collect::<Vec<_>>().join("; ")
        };
        return Err(format!("read as {}, and by git as {}", shown(&ours), shown(&theirs)));
    }
    Ok(shape((modules.len().min(9), ours.len().min(30))))
}

#[test]
fn whatever_gitmodules_hold_what_git_takes_is_read_as_git_reads_it() {
    play(Target {
        name: "modules",
        samples: vec![
            b"# comment\n[submodule \"a \\\"b\"]\n\tpath = lib/a ; comment\n\tURL = \"../a #1.git\"\n".to_vec(),
            b"[core]\n\turl = no\n[submodule \"c\"]\nupdate = none\npath=c/\nurl = ht\\\ntps://example.org/c\n"
                .to_vec(),
            b"[lfs]\r\n\turl = https://example.org/x/info/lfs\r\n[submodule.old]path = x\\ty\n".to_vec(),
        ],
        words: &[
            b"[submodule \"x\"]\n",
            b"\tpath = x\n",
            b"\turl = ../x\n",
            b"key\n",
            b"key=\n",
            b"\"",
            b"\\",
            b"\\\n",
            b"\\n",
            b"\\q",
            b" ; ",
            b" # ",
            b"]",
            b"[",
            b".",
            b"\r\n",
            b"\r",
            b"\x0b",
            b"\x0c",
            b"\xef\xbb\xbf",
            b"=",
            b" ",
            b"\t",
        ],
        inputs: 500,
        judge: judge_modules,
    });
}

fn judge_pointer(input: &[u8], _: &Path) -> Result<Shape, String> {
    let Some((oid, size)) = reading::lfs_pointer(input) else { return Ok(0) };
    let text = std::str::from_utf8(input).map_err(|err| format!("a pointer that is no text: {err}"))?;
    let has_line = |line: &str| text.split('\n').any(|it| it.strip_suffix('\r').unwrap_or(it) == line);
    let is_hash = oid.len() == 64 && oid.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
    if !is_hash || !has_line(&format!("oid sha256:{oid}")) || !has_line(&format!("size {size}")) {
        return Err(format!("read as {oid} of {size}"));
    }
    let again = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n");
    if reading::lfs_pointer(again.as_bytes()) != Some((oid, size)) {
        return Err("what it says, written as LFS writes it, says another thing".into());
    }
    // A line is there once: two that differ would let two readers take two files.
    let keys: Vec<&str> = text.lines().filter_map(|it| it.split(' ').next()).filter(|it| !it.is_empty()).collect();
    match keys.iter().find(|key| keys.iter().filter(|it| it == key).count() > 1) {
        Some(key) => Err(format!("`{key}` is there twice")),
        None => Ok(shape((keys.len().min(9), size.min(1)))),
    }
}

#[test]
fn whatever_a_blob_holds_only_a_pointer_of_lfs_is_one_and_it_names_one_file() {
    let text = |middle: &str| {
        let oid = "4d".repeat(32);
        format!("version https://git-lfs.github.com/spec/v1\n{middle}oid sha256:{oid}\nsize 12345\n").into_bytes()
    };
    play(Target {
        name: "pointers",
        samples: vec![text(""), text("ext-0-foo sha256:00\n"), text("").repeat(2)],
        words: &[
            b"size 7\n",
            b"size +7\n",
            b"size 007\n",
            b"oid sha256:",
            b"0000000000000000000000000000000000000000000000000000000000000000",
            b"\r\n",
            b"\n\n",
            b"version https://hawser.github.com/spec/v1\n",
            b"\0",
            b" ",
        ],
        inputs: 20_000,
        judge: judge_pointer,
    });
}
