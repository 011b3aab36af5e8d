//! Histories that nobody chose: commits, trees, branches and tags that follow from a seed.
//!
//! Invariant: no file but a `.bin` has a carriage return, and `.bin` files are never converted. So what is checked out is
//! never "modified" in git's own eyes, whatever `.gitattributes` say.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use crate::{dice::Dice, git};

/// What is at a path. Contents are numbers in [`History::blobs`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaf {
    File { blob: usize, is_executable: bool },
    Link { blob: usize },
    Submodule { commit: String },
}

pub type Tree = BTreeMap<Vec<u8>, Leaf>;

/// A commit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub parents: Vec<usize>,
    pub tree: Tree,
}

/// A branch beside main, or a tag.
#[derive(Clone, Debug)]
pub struct Ref {
    pub name: String,
    pub target: usize,
    pub is_annotated: bool,
    /// The remote has it from this commit of the history on.
    pub born: usize,
    /// And no longer from this one on.
    pub dies: Option<usize>,
}

/// A repository that others may have as a submodule.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its folder's name beside the remote.
    pub name: String,
    pub commits: Vec<String>,
}

/// A history.
#[derive(Debug, Default)]
pub struct History {
    pub blobs: Vec<Vec<u8>>,
    pub commits: Vec<Commit>,
    /// What main has pointed at, oldest first.
    pub mains: Vec<usize>,
    pub refs: Vec<Ref>,
}

impl History {
    /// The number of a content.
    pub fn blob(&mut self, content: Vec<u8>) -> usize {
        self.blobs.push(content);
        self.blobs.len() - 1
    }

    /// Writes all commits and annotated tags into a bare repository; gives their ids.
    pub fn write(&self, bare: &Path) -> Vec<String> {
        let marks = bare.join("world-marks");
        let option = format!("--export-marks={}", marks.display());
        git::feed(bare, &["fast-import", "--quiet", "--force", &option], &self.stream());
        let text = std::fs::read_to_string(marks).expect("marks");
        let ids = text.lines().filter_map(|it| it.split_once(' '));
        let ids: BTreeMap<usize, &str> =
            ids.map(|(mark, id)| (mark[1..].parse().expect("a mark is a number"), id)).collect();
        let first = self.blobs.len() + 1;
        (0..self.commits.len()).map(|it| ids[&(first + it)].to_owned()).collect()
    }

    /// What `git fast-import` reads: blobs have the first marks, commits the next ones.
    fn stream(&self) -> Vec<u8> {
        let mut stream = Vec::new();
        for (number, content) in self.blobs.iter().enumerate() {
            stream.extend(format!("blob\nmark :{}\ndata {}\n", number + 1, content.len()).into_bytes());
            stream.extend(content);
            stream.push(b'\n');
        }
        let first = self.blobs.len() + 1;
        for (number, commit) in self.commits.iter().enumerate() {
            let mut text = format!("commit refs/world/{number}\nmark :{}\n", first + number);
            let time = 1_700_000_000 + number * 60;
            let message = format!("commit {number}");
            write!(text, "committer Ana <ana@example.org> {time} +0000\ndata {}\n{message}\n", message.len())
                .expect("a string");
            for (at, parent) in commit.parents.iter().enumerate() {
                let word = if at == 0 { "from" } else { "merge" };
                writeln!(text, "{word} :{}", first + parent).expect("a string");
            }
            text.push_str("deleteall\n");
            for (path, leaf) in &commit.tree {
                let path = quoted(path);
                match leaf {
                    Leaf::File { blob, is_executable } => {
                        let mode = if *is_executable { "100755" } else { "100644" };
                        writeln!(text, "M {mode} :{} {path}", blob + 1)
                    }
                    Leaf::Link { blob } => writeln!(text, "M 120000 :{} {path}", blob + 1),
                    Leaf::Submodule { commit } => writeln!(text, "M 160000 {commit} {path}"),
                }
                .expect("a string");
            }
            text.push('\n');
            stream.extend(text.into_bytes());
        }
        for tag in self.refs.iter().filter(|it| it.is_annotated) {
            let name = tag.name.trim_start_matches("refs/tags/");
            let text = format!(
                "tag {name}\nfrom :{}\ntagger Ana <ana@example.org> 1700000000 +0000\ndata 4\ntag\n\n",
                first + tag.target
            );
            stream.extend(text.into_bytes());
        }
        stream
    }
}

/// A path as fast-import takes it, whatever its bytes are.
fn quoted(path: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' => text.push(char::from(*byte)),
            _ => write!(text, "\\{byte:03o}").expect("a string"),
        }
    }
    text.push('"');
    text
}

/// Puts something at a path, and takes away what cannot be there at the same time.
pub fn put(tree: &mut Tree, path: &[u8], leaf: Leaf) {
    let above: Vec<usize> = path.iter().enumerate().filter(|(_, it)| **it == b'/').map(|(at, _)| at).collect();
    let is_submodule = |leaf: Option<&Leaf>| matches!(leaf, Some(Leaf::Submodule { .. }));
    let below = [path, b"/"].concat();
    // A submodule gives way to a submodule alone: git itself does not put anything else over one that is checked out.
    let replaces_one = is_submodule(tree.get(path)) && !matches!(leaf, Leaf::Submodule { .. });
    if replaces_one
        || above.iter().any(|at| is_submodule(tree.get(&path[..*at])))
        || tree.iter().any(|(it, leaf)| it.starts_with(&below) && is_submodule(Some(leaf)))
    {
        return;
    }
    for at in above {
        tree.remove(&path[..at]);
    }
    tree.retain(|it, _| !it.starts_with(&below));
    tree.insert(path.to_vec(), leaf);
}

/// The small repositories that become submodules; the last one has the first one in itself.
pub fn parts(folder: &Path, dice: &mut Dice) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for number in 0..3 {
        let mut history = History::default();
        let mut tree = Tree::new();
        for turn in 0..6_usize {
            for _ in 0..=dice.below(3) {
                let path = format!("{}/f{}", ["p", "q", "r"][dice.below(3) as usize], dice.below(4));
                let blob = history.blob(format!("{number} {turn} {}\n", dice.draw()).into_bytes());
                put(&mut tree, path.as_bytes(), Leaf::File { blob, is_executable: dice.chance(20) });
            }
            if let Some(inner) = parts.first().filter(|_| number == 2) {
                let commit = inner.commits[dice.below(inner.commits.len() as u64) as usize].clone();
                put(&mut tree, b"inner", Leaf::Submodule { commit });
                let text = format!("[submodule \"inner\"]\n\tpath = inner\n\turl = ../{}\n", inner.name);
                let blob = history.blob(text.into_bytes());
                put(&mut tree, b".gitmodules", Leaf::File { blob, is_executable: false });
            }
            let parents = if turn == 0 { Vec::new() } else { vec![turn - 1] };
            history.commits.push(Commit { parents, tree: tree.clone() });
        }
        let name = format!("part-{number}.git");
        git::git(folder, &["init", "--quiet", "--bare", &name]);
        let bare = folder.join(&name);
        let commits = history.write(&bare);
        git::git(&bare, &["update-ref", "refs/heads/main", commits.last().expect("a commit")]);
        parts.push(Part { name, commits });
    }
    parts
}
