//! Which paths of a commit a sparse checkout wants on disk (git-sparse-checkout(1), git's dir.c and unpack-trees.c).
//!
//! Invariant: the same answer as git gives for a path that comes with a new commit; only the repository's own
//! configuration is asked.

use std::{collections::HashSet, fs, io, path::Path};

use git2::{Config, ConfigLevel};

use crate::git::{GitFailure, cannot, tree::attributes::Pattern};

/// What a sparse checkout wants.
#[derive(Debug)]
pub(super) struct Sparse {
    patterns: Vec<Line>,
    /// The same in folders, where the patterns are all of the kind that `git sparse-checkout --cone` writes.
    cone: Option<Cone>,
}

/// A line of the file that is none of a comment.
#[derive(Debug)]
struct Line {
    pattern: Pattern,
    is_wanted: bool,
    text: Vec<u8>,
    only_folders: bool,
}

/// Folders that begin with a slash.
#[derive(Debug, Default)]
struct Cone {
    /// Everything is wanted.
    is_full: bool,
    /// Wanted with all that is below.
    whole: HashSet<Vec<u8>>,
    /// Wanted with the files that are right in them.
    parents: HashSet<Vec<u8>>,
}

/// What is said of a folder in a cone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Nothing,
    /// Its own files; of its folders, each has its own word.
    Files,
    Everything,
}

impl Sparse {
    /// Reads what the working tree of a git folder wants; `None`: all of it.
    pub(super) fn read(git_dir: &Path) -> Result<Option<Self>, GitFailure> {
        let config = config(git_dir)?;
        let is_set = |key: &str| config.get_bool(key).unwrap_or(false);
        if !is_set("core.sparseCheckout") {
            return Ok(None);
        }
        let file = git_dir.join("info/sparse-checkout");
        match fs::read(&file) {
            Ok(text) => Ok(Some(Self::parse(&text, is_set("core.sparseCheckoutCone")))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(cannot(format!("read `{}`", file.display()))(err)),
        }
    }

    fn parse(text: &[u8], is_cone: bool) -> Self {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|it| *it == b'\n').filter(|it| !it.is_empty() && !it.starts_with(b"#"));
        let patterns: Vec<Line> = lines.map(Line::parse).collect();
        let cone = if is_cone { Cone::of(&patterns) } else { None };
        Self { patterns, cone }
    }

    /// Whether a path of the commit is wanted. The path of a submodule ends with a slash.
    pub(super) fn wants(&self, path: &[u8]) -> bool {
        let (path, is_submodule) = match path.strip_suffix(b"/") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let folders = path.iter().enumerate().filter(|(_, it)| **it == b'/').map(|(at, _)| &path[..at]);
        let Some(cone) = &self.cone else {
            // The last pattern that fits wins; where none does, a path is as the folder it is in.
            let verdict = |path: &[u8], is_folder: bool| {
                self.patterns.iter().rev().find(|it| it.pattern.fits(path, is_folder)).map(|it| it.is_wanted)
            };
            let of_folders = folders.filter_map(|it| verdict(it, true)).next_back();
            return verdict(path, is_submodule).or(of_folders).unwrap_or(false);
        };
        for folder in folders {
            match cone.reach(folder) {
                Reach::Nothing => return false,
                Reach::Files => (),
                Reach::Everything => return true,
            }
        }
        cone.reach(path) != Reach::Nothing
    }
}

/// The repository's own configuration, and that of its working tree if it has one.
fn config(git_dir: &Path) -> Result<Config, GitFailure> {
    let what = || cannot::<git2::Error>(format!("read the configuration of `{}`", git_dir.display()));
    let mut config = Config::new().map_err(what())?;
    config.add_file(&git_dir.join("config"), ConfigLevel::Local, false).map_err(what())?;
    if config.get_bool("extensions.worktreeConfig").unwrap_or(false) && git_dir.join("config.worktree").exists() {
        config.add_file(&git_dir.join("config.worktree"), ConfigLevel::Worktree, false).map_err(what())?;
    }
    Ok(config)
}

impl Line {
    fn parse(line: &[u8]) -> Self {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = without_spaces_behind(line.split(|it| *it == 0).next().unwrap_or_default());
        let (text, is_wanted) = match line.strip_prefix(b"!") {
            Some(text) => (text, false),
            None => (line, true),
        };
        let (inner, only_folders) = match text.strip_suffix(b"/") {
            Some(inner) => (inner, true),
            None => (text, false),
        };
        Self { pattern: Pattern::parse(text), is_wanted, text: inner.to_vec(), only_folders }
    }

    /// Whether git takes it for one that a cone may have.
    fn is_of_cone(&self) -> bool {
        let text = &self.text[..];
        let at = |index: usize| text.get(index).copied().unwrap_or(0);
        let is_special = |byte: u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
        let is_plain = |index: usize| {
            let (previous, byte, next) = (at(index - 1), at(index), at(index + 1));
            !is_special(byte)
                || previous == b'\\'
                || byte == b'\\' && is_special(next)
                || previous == b'/' && byte == b'*' && next == 0
        };
        text.len() >= 2
            && text[0] == b'/'
            && self.only_folders
            && !text.windows(2).any(|it| it == b"**")
            && (1..text.len()).all(is_plain)
    }
}

/// Spaces at the end of a line count only behind a backslash.
fn without_spaces_behind(line: &[u8]) -> &[u8] {
    let (mut end, mut at) = (0, 0);
    while at < line.len() {
        match line[at] {
            b' ' => at += 1,
            b'\\' if at + 1 == line.len() => return line,
            byte => {
                at += if byte == b'\\' { 2 } else { 1 };
                end = at;
            }
        }
    }
    &line[..end]
}

impl Cone {
    /// The folders that the patterns stand for; `None`: one of them is of another kind, and so are all then.
    fn of(lines: &[Line]) -> Option<Self> {
        let mut cone = Self::default();
        for line in lines {
            match (&line.text[..], line.is_wanted, line.only_folders) {
                (b"/*", false, true) => cone.is_full = false,
                (b"/*", true, false) => cone.is_full = true,
                _ if !line.is_of_cone() => return None,
                (text, false, _) => {
                    // That the folders within are not wanted follows upon that the folder is.
                    let folder = unescaped(text.strip_suffix(b"/*").filter(|it| !it.is_empty())?);
                    if !cone.whole.remove(&folder) {
                        return None;
                    }
                    cone.parents.insert(folder);
                }
                (text, true, _) if text.len() > 2 && text.ends_with(b"/*") => return None,
                (text, true, _) => {
                    let folder = unescaped(text);
                    if cone.parents.contains(&folder) {
                        return None;
                    }
                    cone.whole.insert(folder);
                }
            }
        }
        Some(cone)
    }

    /// How far it wants what is at a path: a folder, or a file, which is then one of those right in its folder.
    fn reach(&self, path: &[u8]) -> Reach {
        let path = [b"/", path].concat();
        let parents = path.iter().enumerate().skip(1).filter(|(_, it)| **it == b'/').map(|(at, _)| &path[..at]);
        let mut parents = parents.rev();
        if self.is_full || self.whole.contains(&path) {
            return Reach::Everything;
        }
        match parents.next() {
            // Files of the root are always there.
            None => Reach::Files,
            Some(parent) if self.parents.contains(parent) => Reach::Files,
            Some(parent) if self.whole.contains(parent) => Reach::Everything,
            Some(_) if parents.any(|it| self.whole.contains(it)) => Reach::Everything,
            Some(_) => Reach::Nothing,
        }
    }
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter();
    std::iter::from_fn(|| bytes.next().and_then(|it| if *it == b'\\' { bytes.next() } else { Some(it) }))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path, process::Command};

    use proptest::{collection, prelude::*, sample::select};
    use tempfile::TempDir;

    use super::Sparse;

    fn git(folder: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        for name in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{name}_NAME"), "Ana").env(format!("GIT_{name}_EMAIL"), "ana@example.org");
        }
        let output = command.args(arguments).output().expect("git");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A repository with a commit of these files, and none of them on disk.
    fn unpopulated(paths: &BTreeSet<String>) -> TempDir {
        let folder = TempDir::new().expect("a folder");
        git(folder.path(), &["init", "-q"]);
        fs::write(folder.path().join("blob"), "x").expect("written");
        let blob = git(folder.path(), &["hash-object", "-w", "blob"]);
        fs::remove_file(folder.path().join("blob")).expect("removed");
        for path in paths {
            let entry = format!("100644,{},{path}", blob.trim());
            git(folder.path(), &["update-index", "--add", "--cacheinfo", &entry]);
        }
        git(folder.path(), &["commit", "-q", "--allow-empty", "-m", "x"]);
        git(folder.path(), &["rm", "-rq", "--cached", "--ignore-unmatch", "."]);
        folder
    }

    /// The paths that git puts on disk for a new commit, and those that we would.
    fn both(folder: &Path, paths: &BTreeSet<String>) -> (BTreeSet<String>, BTreeSet<String>) {
        git(folder, &["read-tree", "-mu", "HEAD"]);
        let sparse = Sparse::read(&folder.join(".git")).expect("read");
        let wanted = |path: &str| sparse.as_ref().is_none_or(|it| it.wants(path.as_bytes()));
        let is_there = |path: &str| folder.join(path).symlink_metadata().is_ok();
        let of = |keep: &dyn Fn(&str) -> bool| paths.iter().filter(|it| keep(it)).cloned().collect();
        (of(&is_there), of(&wanted))
    }

    fn tree() -> impl Strategy<Value = BTreeSet<String>> {
        // Folders are upper case, so none has the name of a file.
        let path = "([A-C]/|D\\*/){0,3}[a-c](\\.txt)?";
        collection::btree_set(path, 1..20)
    }

    fn line() -> impl Strategy<Value = String> {
        let cone = "!?/(([A-C]/){1,3}(\\*/)?|\\*/?)";
        let free = select(vec![
            "A",
            "A/",
            "/A",
            "/A/",
            "!A",
            "!/A/B",
            "A/B/",
            "!A/B/",
            "*.txt",
            "!*.txt",
            "a",
            "!b",
            "/a",
            "A/*",
            "!A/*/",
            "A/**",
            "!**/B",
            "**/C/",
            "B/**/c",
            "[AB]/",
            "?",
            "!/*/",
            "/*",
            "",
            "#x",
            "\\#x",
            "D\\*/",
            "/D\\*/",
            "!/D\\*/*/",
            "a  ",
            "a\\ ",
            "/",
            "!",
            "/C/\r",
            "\u{feff}/A/",
            "/A//",
            "/A/B/C/a",
        ]);
        prop_oneof![1 => cone, 1 => free.prop_map(str::to_owned)]
    }

    /// Mostly what a cone begins with.
    fn file() -> impl Strategy<Value = String> {
        let head = select(vec!["", "/*\n!/*/\n", "/*\n!/*/\n", "/*\n", "!/*/\n"]);
        let lines = collection::vec(line(), 0..6);
        (head, lines, any::<bool>())
            .prop_map(|(head, lines, ends)| format!("{head}{}{}", lines.join("\n"), if ends { "\n" } else { "" }))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn new_paths_are_wanted_where_git_checks_them_out(paths in tree(), text in file(), is_cone in any::<bool>()) {
            let folder = unpopulated(&paths);
            git(folder.path(), &["config", "core.sparseCheckout", "true"]);
            git(folder.path(), &["config", "core.sparseCheckoutCone", &is_cone.to_string()]);
            fs::write(folder.path().join(".git/info/sparse-checkout"), text).expect("written");
            let (theirs, ours) = both(folder.path(), &paths);
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn a_cone_is_what_git_makes_of_it(
            paths in tree(),
            folders in collection::vec("[A-C](/[A-C]){0,2}|D\\*", 0..4),
            kind in select(vec!["--cone", "--no-cone"]),
        ) {
            let folder = unpopulated(&paths);
            let mut arguments = vec!["sparse-checkout", "set", kind, "--skip-checks"];
            arguments.extend(folders.iter().map(String::as_str));
            git(folder.path(), &arguments);
            let (theirs, ours) = both(folder.path(), &paths);
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn everything_is_wanted_where_nothing_is_sparse() {
        let folder = unpopulated(&BTreeSet::new());
        let read = || Sparse::read(&folder.path().join(".git")).expect("read");
        assert!(read().is_none());
        git(folder.path(), &["config", "core.sparseCheckout", "true"]);
        assert!(read().is_none(), "there is no file yet");
        git(folder.path(), &["sparse-checkout", "set", "--cone", "A"]);
        assert!(read().is_some_and(|it| it.wants(b"A/x") && it.wants(b"x") && !it.wants(b"B/x")));
        git(folder.path(), &["sparse-checkout", "disable"]);
        assert!(read().is_none());
    }

    #[test]
    fn a_submodule_is_a_folder_to_a_pattern() {
        let sparse = Sparse::parse(b"lib/\n", false);
        assert!(sparse.wants(b"x/lib/") && sparse.wants(b"lib/a") && !sparse.wants(b"lib"));
    }
}
