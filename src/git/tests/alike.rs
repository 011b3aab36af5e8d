//! The promise that what lands is what git itself checks out, over generated trees.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt, fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    process::Command,
};

use proptest::{collection, prelude::*};

use super::{
    Room, contents,
    fresh::checked_out,
    git,
    in_place::{FAIL, SAVE},
    make_executable,
};
use crate::{git::entries::as_path, model::push::CommitId};

#[derive(Clone)]
enum Leaf {
    File(Vec<u8>),
    Executable(Vec<u8>),
    Link(Vec<u8>),
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::File(bytes) => ("File", bytes),
            Self::Executable(bytes) => ("Executable", bytes),
            Self::Link(bytes) => ("Link", bytes),
        };
        write!(f, "{name}({} bytes: {})", bytes.len(), &bytes[..bytes.len().min(400)].escape_ascii())
    }
}

/// The paths where two folders differ.
fn differences(one: &Path, two: &Path) -> Vec<PathBuf> {
    let (one, two) = (contents(one), contents(two));
    let paths: BTreeSet<&PathBuf> = one.keys().chain(two.keys()).collect();
    paths.into_iter().filter(|it| one.get(*it) != two.get(*it)).cloned().collect()
}

/// Bytes, texts that line ends and ids matter for, nothing at all, and files of more than one piece.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let text =
        "(\\$Id(: [0-9a-f ]{0,5})?\\$|[a-z :$]{0,9}|\r|\n|\r\n|\u{1a}|\u{1}|é|\u{feff}|\u{1f600}|\u{e0041}){0,30}";
    prop_oneof![
        3 => text.prop_map(String::into_bytes),
        2 => collection::vec(any::<u8>(), 0..300),
        1 => Just(Vec::new()),
        1 => (any::<u8>(), 1_048_570_usize..2_200_000).prop_map(|(byte, length)| {
            (0..length).map(|it| byte.wrapping_add((it % 251) as u8)).collect()
        }),
    ]
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let target = collection::vec(1_u8.., 1..30);
    prop_oneof![
        4 => content().prop_map(Leaf::File),
        1 => content().prop_map(Leaf::Executable),
        1 => target.prop_map(Leaf::Link),
    ]
}

/// Any bytes but `/` and NUL, and mostly few enough to meet the patterns below.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = collection::vec(prop_oneof![1_u8..b'/', b'0'..], 1..9);
    prop_oneof![
        3 => "[a-c]{1,2}(\\.txt|\\.c|\\.bin)?".prop_map(String::into_bytes),
        1 => any_bytes.prop_filter("neither a folder's own name nor git's", |it| !it.starts_with(b".") && !it.starts_with(b"git~")),
    ]
}

/// What changes a file's bytes.
const CONVERTING: [&str; 20] = [
    "text",
    "-text",
    "!text",
    "text=auto",
    "eol=crlf",
    "eol=lf",
    "ident",
    "-ident",
    "binary",
    "crlf",
    "-crlf",
    "crlf=input",
    "plain",
    "!eol",
    "working-tree-encoding=UTF-16",
    "working-tree-encoding=utf16le-bom",
    "working-tree-encoding=UTF-16BE",
    "working-tree-encoding=latin-1",
    "working-tree-encoding=utf8",
    "!working-tree-encoding",
];

/// What keeps a file at home.
const EXPORTING: [&str; 5] = ["export-ignore", "-export-ignore", "!export-ignore", "eol=crlf", "text"];

fn attributes(words: &'static [&'static str]) -> impl Strategy<Value = Leaf> {
    let pattern = prop_oneof![
        Just("*"),
        Just("*.txt"),
        Just("a*"),
        Just("/b*"),
        Just("[a-b]?.c"),
        Just("A/**"),
        Just("**/c"),
        Just("A/*/b*"),
        Just("\"a\\142\""),
        Just("B/"),
        Just("[!a]*"),
        Just("\\a.c"),
    ];
    let word = proptest::sample::select(words);
    let line =
        (pattern, collection::vec(word, 1..3)).prop_map(|(pattern, words)| format!("{pattern} {}\n", words.join(" ")));
    collection::vec(line, 0..5)
        .prop_map(|lines| Leaf::File(format!("# lines\n[attr]plain -ident eol=lf\n{}", lines.concat()).into_bytes()))
}

type Tree = BTreeMap<Vec<u8>, Leaf>;

/// Folders are upper case, so none has the name of a file.
fn tree(words: &'static [&'static str]) -> impl Strategy<Value = Tree> {
    let folder = || "([A-C]/){0,3}".prop_map(String::into_bytes);
    let files = collection::vec((folder(), name(), leaf()), 1..20);
    let attributes = collection::vec((folder(), attributes(words)), 0..4);
    (files, attributes).prop_map(|(files, attributes)| {
        let files = files.into_iter().filter(|(_, name, _)| !matches!(&name[..], b"A" | b"B" | b"C"));
        let mut tree: Tree = files.map(|(folder, name, leaf)| ([folder, name].concat(), leaf)).collect();
        tree.extend(attributes.into_iter().map(|(folder, leaf)| ([&folder, &b".gitattributes"[..]].concat(), leaf)));
        tree
    })
}

fn commit(room: &Room, tree: &Tree) -> CommitId {
    for entry in fs::read_dir(room.source()).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.file_name() {
            Some(name) if name == OsStr::new(".git") => (),
            _ if path.symlink_metadata().expect("metadata").is_dir() => fs::remove_dir_all(path).expect("removed"),
            _ => fs::remove_file(path).expect("removed"),
        }
    }
    // Blobs are stored as they are, so that what is checked out is all the attributes' doing.
    fs::write(room.source().join(".git/info/attributes"), "* !text !crlf !eol !ident -text !working-tree-encoding\n")
        .expect("attributes");
    for (path, leaf) in tree {
        let whole = room.source().join(as_path(path));
        fs::create_dir_all(whole.parent().expect("below")).expect("folder");
        match leaf {
            Leaf::Link(target) => symlink(OsStr::from_bytes(target), &whole).expect("link"),
            Leaf::File(content) => fs::write(&whole, content).expect("file"),
            Leaf::Executable(content) => {
                fs::write(&whole, content).expect("file");
                make_executable(&whole);
            }
        }
    }
    room.commit(&[])
}

/// What `git archive` packs of a commit.
fn archived(room: &Room, commit: &CommitId) -> PathBuf {
    let (clone, folder) = (checked_out(room, commit), room.path("archived"));
    fs::create_dir(&folder).expect("a folder");
    let archive = room.path("archive.tar");
    let output = format!("--output={}", archive.display());
    git(&clone, &["-c", "tar.umask=0022", "archive", "--format=tar", &output, commit.as_str()]);
    let unpacked = Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(&folder).status().expect("tar");
    assert!(unpacked.success());
    folder
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fresh_tree_is_what_git_checks_out_byte_for_byte_and_mode_for_mode(tree in tree(&CONVERTING)) {
        let mut room = Room::new();
        let commit = commit(&room, &tree);
        let staged = room.stage_fresh(&commit, "tree").expect("staged");
        let reference = checked_out(&room, &commit);
        prop_assert_eq!(differences(&staged, &reference), Vec::<PathBuf>::new());
        // One folder of it is the same, wherever its attributes stand.
        if reference.join("A").is_dir() {
            room.scope.subdir = Some("A".into());
            let staged = room.stage_fresh(&commit, "folder").expect("staged");
            prop_assert_eq!(differences(&staged, &reference.join("A")), Vec::<PathBuf>::new());
        }
    }

    #[test]
    fn a_fresh_tree_leaves_out_what_git_archive_leaves_out(tree in tree(&EXPORTING)) {
        let mut room = Room::new();
        room.scope.export_ignore = true;
        let commit = commit(&room, &tree);
        let staged = room.stage_fresh(&commit, "tree").expect("staged");
        prop_assert_eq!(differences(&staged, &archived(&room, &commit)), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_working_tree_that_goes_from_commit_to_commit_is_what_git_makes_of_it(
        one in tree(&CONVERTING),
        two in tree(&CONVERTING),
    ) {
        let room = Room::new();
        let first = commit(&room, &one);
        room.bring(&first, SAVE).expect("first");
        let reference = checked_out(&room, &first);
        prop_assert_eq!(differences(&room.home(), &reference), Vec::<PathBuf>::new());
        let second = commit(&room, &two);
        room.bring(&second, FAIL).expect("second");
        git(&reference, &["fetch", "-q"]);
        git(&reference, &["reset", "-q", "--hard", second.as_str()]);
        prop_assert_eq!(differences(&room.home(), &reference), Vec::<PathBuf>::new());
        prop_assert!(Path::new(&room.home()).join(".git").exists());
    }
}
