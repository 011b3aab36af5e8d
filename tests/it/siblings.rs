//! A law of the house: no file imports a sibling that imports it back.
//!
//! What counts is the folder: two files, two folders, or a file and a folder beside one another, each with all that is
//! below it. The `mod.rs` that declares them is above them, and may be used by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The rooms that are held to it.
const ROOMS: &[&str] = &["cli", "forge", "git", "model", "notify", "process", "work"];

type Module = Vec<String>;

#[test]
fn no_file_imports_a_sibling_that_imports_it_back() {
    for room in ROOMS {
        let files = files_of(room);
        assert!(files.len() > 1, "the room `{room}` was not found");
        let mut uses: BTreeMap<(Module, String), BTreeSet<String>> = BTreeMap::new();
        for (module, text) in &files {
            for used in paths_in(text, module).iter().filter_map(|it| owner(it, &files)) {
                let common = module.iter().zip(&used).take_while(|(one, two)| one == two).count();
                if let (Some(from), Some(to)) = (module.get(common), used.get(common)) {
                    let folder = module[..common].to_vec();
                    uses.entry((folder, from.clone())).or_default().insert(to.clone());
                }
            }
        }
        assert!(!uses.is_empty(), "nothing in `{room}` uses anything");
        for (folder, name) in uses.keys() {
            assert!(
                !reaches(&uses, folder, name, name),
                "{}: `{name}` uses itself by way of a sibling",
                folder.join("/")
            );
        }
    }
}

#[test]
fn what_a_file_imports_is_read_from_its_text() {
    let module = |text: &str| -> Module { text.split("::").map(str::to_owned).collect() };
    let text = "use super::{\n    a::{self, B},\n    c as d,\n};\nuse crate::git::e::F;\nfn f() { super::g::h(); }\n";
    let found: BTreeSet<Module> = paths_in(text, &module("git::x::y"));
    let expected = ["git::x::a", "git::x::a::B", "git::x::c", "git::e::F", "git::x::g::h"];
    assert_eq!(found, expected.into_iter().map(module).collect());
}

/// Whether one of these siblings leads to another by what it uses.
fn reaches(uses: &BTreeMap<(Module, String), BTreeSet<String>>, folder: &Module, from: &str, to: &str) -> bool {
    let (mut open, mut seen) = (vec![from.to_owned()], BTreeSet::new());
    while let Some(name) = open.pop() {
        for next in uses.get(&(folder.clone(), name)).into_iter().flatten() {
            if next == to {
                return true;
            }
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    false
}

/// The module that a path leads into: the longest beginning of it that is a file.
fn owner(path: &Module, files: &BTreeMap<Module, String>) -> Option<Module> {
    (1..=path.len()).rev().map(|length| path[..length].to_vec()).find(|it| files.contains_key(it))
}

/// The files of a room by their modules, without tests.
fn files_of(room: &str) -> BTreeMap<Module, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.join(room)]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            let stem = path.file_stem().and_then(|it| it.to_str()).expect("a plain name").to_owned();
            if stem == "tests" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a readable file");
            let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code = text.lines().map(|it| it.split("//").next().unwrap_or_default());
            let below = path.strip_prefix(&root).expect("below the root").with_extension("");
            let mut module: Module = below.iter().map(|it| it.to_str().expect("a plain name").to_owned()).collect();
            module.pop_if(|it| it == "mod");
            found.insert(module, code.collect::<Vec<_>>().join("\n"));
        }
    }
    found
}

/// Every path of the room that a file's text names, from its imports and from its code.
fn paths_in(text: &str, module: &Module) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let starts = ["crate::", "super::", "self::"].iter().flat_map(|it| text.match_indices(it));
    for (start, _) in starts {
        let is_within_a_path = text[..start].ends_with("::") || text[..start].ends_with(char::is_alphanumeric);
        if !is_within_a_path {
            for path in expand(&text[start..]).0 {
                found.insert(resolve(&path, module));
            }
        }
    }
    found
}

/// The paths that a tree of imports names, such as `a::{b, c::d as e}`, and what follows it.
fn expand(text: &str) -> (Vec<Module>, &str) {
    let end = text.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let Some(below) = rest.strip_prefix("::") else { return (vec![vec![name.to_owned()]], rest) };
    let (paths, rest) = match below.strip_prefix('{') {
        None => expand(below),
        Some(mut list) => {
            let mut paths = Vec::new();
            loop {
                list = list.trim_start_matches([' ', '\n', ',']);
                if let Some(rest) = list.strip_prefix('}') {
                    break (paths, rest);
                }
                let (more, rest) = expand(list);
                assert!(rest.len() < list.len(), "cannot read the imports: {list}");
                paths.extend(more);
                // What it is called here.
                list = rest.strip_prefix(" as ").map_or(rest, |it| expand(it).1);
            }
        }
    };
    let paths = paths.into_iter().map(|path| [vec![name.to_owned()], path].concat());
    (paths.map(|it| it.into_iter().filter(|it| !it.is_empty()).collect()).collect(), rest)
}

/// A path as it is from the crate's root.
fn resolve(path: &Module, module: &Module) -> Module {
    let mut whole = module.clone();
    for (index, part) in path.iter().enumerate() {
        match part.as_str() {
            "crate" => whole.clear(),
            "super" => drop(whole.pop()),
            "self" if index > 0 => (),
            "self" => whole = module.clone(),
            name => whole.push(name.to_owned()),
        }
    }
    whole
}
