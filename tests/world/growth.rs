//! How a history grows: what a commit changes, and how lines of it part and meet.
//!
//! Invariant: everything follows from the dice that are handed over.

use std::collections::BTreeMap;

use crate::{
    dice::Dice,
    history::{Commit, History, Leaf, Part, Ref, Tree, put},
};

/// Names for files and folders alike, so that one becomes the other.
const NAMES: [&[u8]; 44] = [
    b"a",
    b"b",
    b"c",
    b"A",
    b"lib",
    b"src",
    b"docs",
    b"web",
    b"Makefile",
    b"run.sh",
    b"x.txt",
    b"y.txt",
    b"a.txt",
    b"z.id",
    b"w.id",
    b"m.crlf",
    b"n.bin",
    b"o.bin",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"\xff\xfe raw",
    b"two words",
    b"quote\"d",
    b"it's",
    b"-dash",
    b"--",
    b"new\nline",
    b"tab\there",
    b"a.git",
    b"back\\slash",
    b"*",
    b"[x]",
    b" lead",
    b"trail ",
    b"dot.",
    b"#hash",
    b"~",
    b"$HOME",
    b"%41",
    b":colon",
    b"index.lock",
    b"HEAD",
    b".hidden",
    b"\x01\x7f",
];

const ATTRIBUTES: [&str; 11] = [
    "*.txt text eol=crlf",
    "*.txt text",
    "*.txt text=auto",
    "*.txt -text",
    "*.txt eol=lf",
    "*.id ident",
    "*.id -ident",
    "*.crlf text eol=crlf",
    "* text=auto",
    "a* eol=crlf",
    "[a-m]* ident",
];

const PLACES_OF_PARTS: [&[u8]; 4] = [b"vendor/one", b"vendor/two", b"third party", b"mods/deep/three"];

const BRANCHES: [&str; 6] = ["side", "side/x", "feature", "feature/y/z", "fix", "caf\u{e9}"];

/// What a history is made with.
pub struct Gardener<'a> {
    dice: &'a mut Dice,
    history: History,
    parts: &'a [Part],
    /// Branches beside main that are under way: name and newest commit.
    sides: BTreeMap<&'static str, usize>,
}

/// Grows a history; with submodules if there are parts.
pub fn grow(dice: &mut Dice, parts: &[Part]) -> History {
    let (commits, files) = (40 + dice.below(81) as usize, 60 + dice.below(141) as usize);
    let mut gardener = Gardener { dice, history: History::default(), parts, sides: BTreeMap::new() };
    let mut tree = Tree::new();
    for _ in 0..files * 2 {
        if tree.len() < files {
            gardener.add(&mut tree);
        }
    }
    let root = gardener.commit(Vec::new(), tree);
    gardener.history.mains.push(root);
    while gardener.history.commits.len() < commits {
        gardener.turn();
    }
    gardener.history
}

impl Gardener<'_> {
    fn below(&mut self, end: usize) -> usize {
        self.dice.below(end as u64) as usize
    }

    fn commit(&mut self, parents: Vec<usize>, mut tree: Tree) -> usize {
        let blob = self.history.blob(format!("{}\n", self.history.commits.len()).into_bytes());
        put(&mut tree, b"README", Leaf::File { blob, is_executable: false });
        self.name_parts(&mut tree);
        self.history.commits.push(Commit { parents, tree });
        self.history.commits.len() - 1
    }

    fn main(&self) -> usize {
        *self.history.mains.last().expect("the root")
    }

    /// One commit more, somewhere; sometimes a tag on it.
    fn turn(&mut self) {
        let lot = self.below(100);
        let made = match lot {
            0..22 => self.grow_side(),
            22..40 if !self.sides.is_empty() => self.merge(),
            _ => {
                let tree = self.changed(self.main());
                self.commit(vec![self.main()], tree)
            }
        };
        if !(0..22).contains(&lot) {
            self.history.mains.push(made);
        }
        if self.dice.chance(12) {
            let name = format!("refs/tags/v{}", self.history.refs.len());
            let is_annotated = self.dice.chance(50);
            self.history.refs.push(Ref { name, target: made, is_annotated, born: made, dies: None });
        }
    }

    fn grow_side(&mut self) -> usize {
        let name = BRANCHES[self.below(BRANCHES.len())];
        // A branch cannot be beside one that is a folder of its name.
        let in_the_way = |it: &&str| it.starts_with(&format!("{name}/")) || name.starts_with(&format!("{it}/"));
        let rivals: Vec<&'static str> = self.sides.keys().copied().filter(|it| in_the_way(it)).collect();
        for rival in rivals {
            self.sides.remove(rival);
            self.bury(rival);
        }
        let main = self.main();
        let (base, parents) = match self.sides.get(name).copied() {
            // Main's newest commit on a branch that main will merge: a criss-cross.
            Some(tip) if self.dice.chance(25) => (tip, vec![tip, main]),
            Some(tip) => (tip, vec![tip]),
            None => {
                let at = self.below(self.history.mains.len());
                (self.history.mains[at], vec![self.history.mains[at]])
            }
        };
        let tree = self.changed(base);
        let made = self.commit(parents, tree);
        self.sides.insert(name, made);
        self.bury(name);
        let name = format!("refs/heads/{name}");
        self.history.refs.push(Ref { name, target: made, is_annotated: false, born: made, dies: None });
        made
    }

    /// From now on the remote does not have this branch any more, or not at this commit.
    fn bury(&mut self, name: &str) {
        let (name, now) = (format!("refs/heads/{name}"), self.history.commits.len() - 1);
        for it in self.history.refs.iter_mut().filter(|it| it.name == name && it.dies.is_none()) {
            it.dies = Some(now.max(it.born + 1));
        }
    }

    fn merge(&mut self) -> usize {
        let count = if self.dice.chance(25) { self.sides.len().min(3) } else { 1 };
        let mut names: Vec<&'static str> = self.sides.keys().copied().collect();
        while names.len() > count {
            let at = self.below(names.len());
            names.remove(at);
        }
        let main = self.main();
        let mut parents: Vec<usize> = vec![main];
        parents.extend(names.iter().map(|it| self.sides[it]));
        parents.dedup();
        let last = self.history.commits[*parents.last().expect("main")].tree.clone();
        let mut tree = match self.below(5) {
            0 => self.history.commits[main].tree.clone(),
            1 => last,
            _ => self.mixed(&parents),
        };
        if self.dice.chance(30) {
            self.change(&mut tree, main);
        }
        // A merge of main into the branch, to which main then goes forward.
        if self.dice.chance(20) {
            parents.reverse();
        }
        let made = self.commit(parents, tree);
        for name in names {
            if self.dice.chance(50) {
                self.sides.remove(name);
                self.bury(name);
            }
        }
        made
    }

    /// Of each path what one of the parents has.
    fn mixed(&mut self, parents: &[usize]) -> Tree {
        let mut tree = self.history.commits[parents[0]].tree.clone();
        for parent in &parents[1..] {
            let other = self.history.commits[*parent].tree.clone();
            for (path, leaf) in other {
                if self.dice.chance(40) {
                    put(&mut tree, &path, leaf);
                }
            }
        }
        tree
    }

    fn changed(&mut self, base: usize) -> Tree {
        let mut tree = self.history.commits[base].tree.clone();
        self.change(&mut tree, base);
        tree
    }

    fn change(&mut self, tree: &mut Tree, base: usize) {
        // All of an older commit, or the commit before undone.
        if self.dice.chance(6) {
            let older = self.below(self.history.commits.len());
            *tree = self.history.commits[older].tree.clone();
            return;
        }
        if self.dice.chance(6)
            && let Some(parent) = self.history.commits[base].parents.first()
        {
            *tree = self.history.commits[*parent].tree.clone();
            return;
        }
        for _ in 0..=self.below(9) {
            self.touch(tree);
        }
    }

    fn touch(&mut self, tree: &mut Tree) {
        let Some(path) = self.some_path(tree) else { return self.add(tree) };
        match self.below(100) {
            0..24 => self.edit(tree, &path),
            24..40 => self.undo(tree, &path),
            40..48 => self.add(tree),
            48..54 => {
                let is_submodule = matches!(tree.get(&path), Some(Leaf::Submodule { .. }));
                if !is_submodule {
                    tree.remove(&path);
                }
            }
            54..60 => self.bring_back(tree),
            60..68 => self.rename(tree, &path),
            68..73 => self.rename_folder(tree, &path),
            73..78 => {
                if let Some(Leaf::File { is_executable, .. }) = tree.get_mut(&path) {
                    *is_executable = !*is_executable;
                }
            }
            78..84 => self.swap_kind(tree, &path),
            84..90 => self.attributes(tree),
            _ if self.parts.is_empty() => self.edit(tree, &path),
            _ => self.move_part(tree),
        }
    }

    fn some_path(&mut self, tree: &Tree) -> Option<Vec<u8>> {
        let at = self.below(tree.len().max(1));
        tree.keys().nth(at).cloned()
    }

    fn new_path(&mut self) -> Vec<u8> {
        let depth = 1 + self.below(4);
        let names: Vec<&[u8]> = (0..depth).map(|_| NAMES[self.below(NAMES.len())]).collect();
        names.join(&b'/')
    }

    fn add(&mut self, tree: &mut Tree) {
        let path = self.new_path();
        let leaf = self.leaf(&path);
        put(tree, &path, leaf);
    }

    fn leaf(&mut self, path: &[u8]) -> Leaf {
        if self.dice.chance(8) {
            let target: Vec<u8> = match self.below(4) {
                0 => b"../README".to_vec(),
                1 => b"/nowhere/at all".to_vec(),
                2 => vec![0xff, b'x'],
                _ => NAMES[self.below(NAMES.len())].to_vec(),
            };
            return Leaf::Link { blob: self.history.blob(target) };
        }
        let content = self.content(path);
        Leaf::File { blob: self.history.blob(content), is_executable: self.dice.chance(15) }
    }

    fn content(&mut self, path: &[u8]) -> Vec<u8> {
        let lines = match self.below(30) {
            0 => 0,
            1 => 4000,
            _ => self.below(60),
        };
        let mut content = Vec::new();
        for _ in 0..lines {
            content.extend(format!("{:x}\n", self.dice.draw() >> 20).into_bytes());
        }
        if self.dice.chance(30) {
            content.extend_from_slice(b"$Id$ and no line end");
        }
        if path.ends_with(b".bin") {
            content.extend_from_slice(b"\r\n\0\r $Id$");
        }
        content
    }

    fn edit(&mut self, tree: &mut Tree, path: &[u8]) {
        let Some(Leaf::File { blob, is_executable }) = tree.get(path).cloned() else { return };
        if path.ends_with(b".gitattributes") || path == b".gitmodules" {
            return;
        }
        let mut content = self.history.blobs[blob].clone();
        let line = format!("{:x}\n", self.dice.draw());
        let at = content.iter().position(|it| *it == b'\n').map_or(0, |it| it + 1);
        content.splice(at..at, line.into_bytes());
        let blob = self.history.blob(content);
        tree.insert(path.to_vec(), Leaf::File { blob, is_executable });
    }

    fn older(&mut self) -> Tree {
        let at = self.below(self.history.commits.len().max(1));
        self.history.commits.get(at).map(|it| it.tree.clone()).unwrap_or_default()
    }

    /// What an older commit had at this path, or in this folder, comes back.
    fn undo(&mut self, tree: &mut Tree, path: &[u8]) {
        let older = self.older();
        let folder = path.iter().position(|it| *it == b'/').filter(|_| self.dice.chance(30));
        let Some(end) = folder else {
            if let Some(leaf) = older.get(path).filter(|it| !matches!(it, Leaf::Submodule { .. })) {
                put(tree, path, leaf.clone());
            }
            return;
        };
        let folder = &path[..=end];
        tree.retain(|it, leaf| !it.starts_with(folder) || matches!(leaf, Leaf::Submodule { .. }));
        for (path, leaf) in older.iter().filter(|(it, _)| it.starts_with(folder)) {
            put(tree, path, leaf.clone());
        }
    }

    fn bring_back(&mut self, tree: &mut Tree) {
        let older = self.older();
        let gone: Vec<_> = older.into_iter().filter(|(path, _)| !tree.contains_key(path)).collect();
        if !gone.is_empty() {
            let (path, leaf) = gone[self.below(gone.len())].clone();
            put(tree, &path, leaf);
        }
    }

    fn rename(&mut self, tree: &mut Tree, path: &[u8]) {
        let target = self.new_path();
        let is_plain = |it: &[u8]| !it.ends_with(b".bin") && !it.ends_with(b".gitattributes") && it != b".gitmodules";
        let is_submodule = matches!(tree.get(path), Some(Leaf::Submodule { .. }));
        if is_plain(path)
            && is_plain(&target)
            && !is_submodule
            && let Some(leaf) = tree.remove(path)
        {
            put(tree, &target, leaf);
        }
    }

    fn rename_folder(&mut self, tree: &mut Tree, path: &[u8]) {
        let Some(end) = path.iter().position(|it| *it == b'/') else { return };
        let (from, to) = (path[..=end].to_vec(), [NAMES[self.below(NAMES.len())], b"/"].concat());
        let below = |it: &Vec<u8>| it.starts_with(&from);
        if from == to || tree.iter().any(|(it, leaf)| below(it) && matches!(leaf, Leaf::Submodule { .. })) {
            return;
        }
        let moved: Vec<_> =
            tree.iter().filter(|(it, _)| below(it)).map(|(it, leaf)| (it.clone(), leaf.clone())).collect();
        tree.retain(|it, _| !below(it));
        for (path, leaf) in moved {
            put(tree, &[&to, &path[from.len()..]].concat(), leaf);
        }
    }

    /// A file becomes a link or a folder, a folder a file or a link.
    fn swap_kind(&mut self, tree: &mut Tree, path: &[u8]) {
        if path == b".gitmodules" || path.ends_with(b".gitattributes") {
            return;
        }
        let folder = path.iter().rposition(|it| *it == b'/').filter(|_| self.dice.chance(50));
        let (target, inside) = match folder {
            Some(end) => (path[..end].to_vec(), false),
            None => (path.to_vec(), self.dice.chance(50)),
        };
        let target = if inside { [&target, b"/".as_slice(), NAMES[self.below(NAMES.len())]].concat() } else { target };
        let leaf = match (inside, tree.get(path)) {
            (false, Some(Leaf::File { .. })) => Leaf::Link { blob: self.history.blob(b"b/../x.txt".to_vec()) },
            (..) => self.leaf(&target),
        };
        put(tree, &target, leaf);
    }

    fn attributes(&mut self, tree: &mut Tree) {
        let folder: &[u8] = [b"".as_slice(), b"", b"a/", b"src/", b"lib/"][self.below(5)];
        let mut text = String::new();
        for line in ATTRIBUTES {
            if self.dice.chance(25) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text.push_str("*.bin -text -ident\n");
        let blob = self.history.blob(text.into_bytes());
        put(tree, &[folder, b".gitattributes"].concat(), Leaf::File { blob, is_executable: false });
    }

    /// A submodule comes, goes, moves, changes its commit or becomes another repository.
    fn move_part(&mut self, tree: &mut Tree) {
        let place = PLACES_OF_PARTS[self.below(PLACES_OF_PARTS.len())];
        let part = &self.parts[self.below(self.parts.len())];
        let commit = part.commits[self.below(part.commits.len())].clone();
        if self.dice.chance(20) {
            if let Some(Leaf::Submodule { .. }) = tree.get(place) {
                tree.remove(place);
            }
        } else {
            put(tree, place, Leaf::Submodule { commit });
        }
    }

    /// `.gitmodules` says where each submodule of the tree comes from. A repository at another path has another name.
    fn name_parts(&mut self, tree: &mut Tree) {
        let mut text = String::new();
        for (path, leaf) in &*tree {
            if let Leaf::Submodule { commit } = leaf {
                let part = self.parts.iter().find(|it| it.commits.contains(commit)).expect("a part");
                let path = String::from_utf8_lossy(path);
                text.push_str(&format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = ../{}\n", part.name));
            }
        }
        if text.is_empty() {
            tree.remove(b".gitmodules".as_slice());
        } else {
            let blob = self.history.blob(text.into_bytes());
            put(tree, b".gitmodules", Leaf::File { blob, is_executable: false });
        }
    }
}
