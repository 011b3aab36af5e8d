//! Promises of `$Format:...$`: what lands is what `git archive` makes of it, byte for byte.

use std::{collections::BTreeMap, fs, path::PathBuf};

use git2::{Oid, Repository};
use proptest::{collection, prelude::*, sample::select};

use super::{Room, contents, fresh::checked_out, git, git_command, git_with_input, id};
use crate::{
    git::{entries as tree, tree::attributes::Substitution},
    model::push::{CommitId, RefName},
};

/// The moment at which all of this happens.
const NOW: i64 = 1_750_000_000;

/// A room whose commits are written by hand, so that they may be odd.
struct Desk {
    room: Room,
    /// A bare repository with the same objects, and no refs but those that a test gives it.
    bare: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let room = Room::new();
        let bare = room.path("bare.git");
        git(room.folder.path(), &["init", "-q", "--bare", "-b", "none", "bare.git"]);
        let objects = format!("{}/.git/objects\n", room.source().display());
        fs::write(bare.join("objects/info/alternates"), objects).expect("alternates");
        Self { room, bare }
    }

    /// Writes a commit of these files, with the given rest of its headers, an empty line, and its message.
    fn commit(&self, files: &[(&str, &[u8])], text: &[u8]) -> CommitId {
        let mut entries = String::new();
        for (path, content) in files {
            let blob = git_with_input(&self.room.source(), &["hash-object", "-w", "--stdin"], content);
            entries += &format!("100644 blob {blob}\t{path}\n");
        }
        let tree = git_with_input(&self.room.source(), &["mktree"], entries.as_bytes());
        let raw = [format!("tree {tree}\n").as_bytes(), text].concat();
        let arguments = ["hash-object", "-t", "commit", "--literally", "-w", "--stdin"];
        id(&git_with_input(&self.room.source(), &arguments, &raw))
    }

    /// What `git archive` makes of the files.
    fn archived(&self, commit: &CommitId) -> BTreeMap<PathBuf, Vec<u8>> {
        let folder = self.room.path("archived");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        let mailmap = format!("mailmap.blob={commit}:.mailmap");
        let archive = self.room.path("archive.tar").display().to_string();
        let mut command = git_command(&self.bare);
        command.args([
            "-c",
            &mailmap,
            "archive",
            "--format=tar",
            "--mtime=1700000000",
            "-o",
            &archive,
            commit.as_str(),
        ]);
        let output = command.env("GIT_TEST_DATE_NOW", NOW.to_string()).output().expect("git");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let unpacked = std::process::Command::new("tar").arg("-xf").arg(&archive).current_dir(&folder).status();
        assert!(unpacked.expect("tar").success());
        contents(&folder).into_iter().map(|(path, (_, content))| (path, content)).collect()
    }

    fn survey(&self, commit: &CommitId, ref_name: Option<&RefName>) -> Substitution {
        let repo = Repository::open(&self.bare).expect("a repository");
        let commit = Oid::from_str(commit.as_str()).expect("an id");
        let tree = repo.find_commit(commit).and_then(|it| it.tree()).expect("a tree").id();
        let changes = tree::changes(&repo, None, Some(tree)).expect("files");
        let texts = changes.iter().filter(|it| !it.path.starts_with(b"."));
        let texts = texts.map(|it| (&it.path[..], it.now.expect("a file").id)).collect();
        Substitution::survey(&repo, commit, ref_name, NOW, &texts, 1 << 20).expect("surveyed")
    }

    /// Holds what we make of a file `a` against what git makes of it.
    fn compare(&self, content: &[u8], text: &[u8], ref_name: Option<&RefName>) {
        let files: [(&str, &[u8]); 3] =
            [(".gitattributes", b"a export-subst\n"), (".mailmap", MAILMAP), ("a", content)];
        let commit = self.commit(&files, text);
        if let Some(ref_name) = ref_name {
            git(&self.bare, &["update-ref", &ref_name.full(), commit.as_str()]);
        }
        let theirs = &self.archived(&commit)[&PathBuf::from("a")];
        let survey = self.survey(&commit, ref_name);
        let ours = if survey.concerns(b"a") { survey.expand(b"a", content) } else { content.to_vec() };
        assert_eq!(survey.left_out(), Vec::<String>::new());
        let text = text.escape_ascii();
        assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string(), "of {text}");
    }
}

const MAILMAP: &[u8] = "# people\nAna Núñez <ana@example.org> <ana@old.example.org>\n<new@example.org> <b@x>\n\
    Right Name <right@example.org> Wrong Name <c@x>\n"
    .as_bytes();

/// Everything that git expands, and what only looks like it.
const PLACEHOLDERS: [&str; 100] = [
    "%H",
    "%h",
    "%T",
    "%t",
    "%P",
    "%p",
    "%an",
    "%aN",
    "%ae",
    "%aE",
    "%al",
    "%aL",
    "%ad",
    "%aD",
    "%ar",
    "%at",
    "%ai",
    "%aI",
    "%as",
    "%cn",
    "%cN",
    "%ce",
    "%cE",
    "%cl",
    "%cL",
    "%cd",
    "%cD",
    "%cr",
    "%ct",
    "%ci",
    "%cI",
    "%cs",
    "%d",
    "%D",
    "%s",
    "%f",
    "%b",
    "%B",
    "%N",
    "%e",
    "%n",
    "%%",
    "%x00",
    "%x41",
    "%xZZ",
    "%S",
    "%m",
    "%gd",
    "%gD",
    "%gs",
    "%gn",
    "%gx",
    "%g",
    "%+b",
    "%-b",
    "% b",
    "%+s",
    "%-N",
    "% d",
    "%+d",
    "%-d",
    "%+w(1)",
    "% q",
    "%q",
    "%a",
    "%c",
    "%aq",
    "%",
    "%G?",
    "%GS",
    "%GT",
    "%Gx",
    "%C(red)",
    "%C(auto)",
    "%C(auto,red)",
    "%C",
    "%C(",
    "%Cred",
    "%Creset",
    "%Cyellow",
    "%w",
    "%<",
    "%>",
    "%(",
    "%(decorate)",
    "%(decorate:prefix=,suffix=)",
    "%(decorate:tag=,prefix=%x2c)",
    "%(decorate:bad)",
    "%(describe:bad=1)",
    "%(trailers",
    "%(trail",
    "\n",
    "é",
    "100% sure",
    "$",
    " ",
    "\n\n",
    "x\0y",
    "\u{20ac}",
    "%x0a",
];

/// Commits as they come, and as no git writes them. Those without people are refused before: libgit2 has none such.
fn commits() -> Vec<Vec<u8>> {
    let person = |author: &str, committer: &str, rest: &[u8]| {
        [format!("author {author}\ncommitter {committer}\n").as_bytes(), rest].concat()
    };
    let (ana, bob) = ("Ana <ana@old.example.org> 1700000000 +0000", "Bob B. <b@x> 1749999000 -0330");
    let parents = format!("parent {}\nparent {}\n", "12".repeat(20), "34".repeat(20));
    vec![
        person(ana, bob, b"\nsubject\n\nbody\nof lines\n"),
        person(ana, bob, b"\n\n  \nsubject in\nthree  \n\tlines\r\n\n\n \nbody\n\n\n"),
        person(ana, bob, b"\n"),
        person(ana, bob, b"\n\n\n"),
        person(ana, bob, b"\n...No.. newline: at -- the /end/ ..-"),
        person("Wrong Name <c@x> 1749913600 +0545", "<> 90000 -0001", b"\nl\xe9tters that are no UTF-8\n\n\xff\n"),
        person("  Spaces   in  <a b@c>d> 99999999999 +1400  ", "<n@x> 1 +0", b"\nodd people\n"),
        person("No Date <a@b@c>", "No Zone <a@b> 12345", "\nd\u{e9}j\u{e0} vu\n\nbody".as_bytes()),
        person("Far <f@x> 9223372036854775807 +0000", "Farther <f@x> 99999999999 +0100", b"\nfar\n"),
        person("Zone <f@x> 1700000000 +99999", "Zone <f@x> 1700000000 -1", b"\nzones\n"),
        [parents.as_bytes(), &person(ana, bob, b"\nMerge branch 'x'\n")].concat(),
        person(ana, bob, b"encoding UTF-8\n\nnothing \xc3\xa9 special\n"),
        person(ana, bob, b"encoding utf8\nextra x\n y\n\nnothing \xc3\xa9 special\n"),
        person(ana, bob, b"encoding bogus\n\nnothing \xe9 special\n"),
        [
            &b"author N\xfa\xf1ez <n@x> 1700000000 +0200\ncommitter Bob <b@x> 1700000000 +0200\n"[..],
            b"encoding ISO-8859-1\n\nd\xe9j\xe0 vu\n\nm\xf6re\n",
        ]
        .concat(),
        person(ana, bob, b"encoding latin-1\n\nd\xe9j\xe0 vu\n"),
    ]
}

fn format() -> impl Strategy<Value = String> {
    collection::vec(select(&PLACEHOLDERS[..]), 0..8).prop_map(|it| it.concat())
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => format().prop_map(|it| format!("$Format:{it}$").into_bytes()),
        1 => Just(b"\n\n".to_vec()),
        1 => Just(" text é ".into()),
        1 => Just(b"\xe9 $Format".to_vec()),
        1 => Just(b"$Format:%H".to_vec()),
    ];
    collection::vec(piece, 0..6).prop_map(|it| it.concat())
}

fn ref_name() -> impl Strategy<Value = Option<RefName>> {
    select(vec![None, Some(RefName::Branch("a/b".into())), Some(RefName::Tag("v1".into()))])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn formats_are_expanded_as_git_archive_does(text in text(), commit in select(commits()), name in ref_name()) {
        Desk::new().compare(&text, &commit, name.as_ref());
    }
}

#[test]
fn each_placeholder_says_of_each_commit_what_git_archive_says() {
    let desk = Desk::new();
    // A line each, so that none changes what another is about.
    let content: String = PLACEHOLDERS.iter().map(|it| format!("{it:?} $Format:{it}$\n")).collect();
    for commit in commits() {
        desk.compare(content.as_bytes(), &commit, None);
    }
}

/// A commit as most are.
const PLAIN: &[u8] = b"author Ana <a@x> 1700000000 +0000\ncommitter Ana <a@x> 1700000000 +0000\n\nchange\n";

#[test]
fn a_commit_is_described_as_git_describes_it() {
    let desk = Desk::new();
    let first = desk.commit(&[], PLAIN);
    for (name, options) in [("v1.0", &["-a", "-m", "one"][..]), ("light-1", &[]), ("x/v0", &["-a", "-m", "zero"])] {
        git(&desk.bare, &[&["tag"], options, &[name, first.as_str()]].concat());
    }
    let second = [format!("parent {first}\n").as_bytes(), PLAIN].concat();
    let formats = [
        "%(describe)",
        "%(describe:tags)",
        "%(describe:tags=true)",
        "%(describe:tags=no,abbrev=12)",
        "%(describe:tags=maybe,abbrev=12)",
        "%(describe:abbrev=0)",
        "%(describe:abbrev=2)",
        "%(describe:abbrev=99)",
        "%(describe:abbrev=)",
        "%(describe:abbrev=x)",
        "%(describe:match=v*)",
        "%(describe:match=x/*)",
        "%(describe:match=none*)",
        "%(describe:tags,match=light-?,abbrev=40)",
        "%(describe:match=)",
        "%(describe:bogus)",
        "%(describe:match=v*,bogus)",
        "%(describe",
        "%(describe)%(describe)",
        "%(describe:bogus)%(describe)",
        "a%+(describe:match=none)b%-(describe)",
    ];
    for format in formats {
        let content = format!("{format} $Format:{format}$ $Format:%(describe)$\n");
        desk.compare(content.as_bytes(), &second, None);
        desk.compare(content.as_bytes(), PLAIN, None);
    }
}

#[test]
fn one_description_is_expanded_in_a_tree_and_it_is_the_first() {
    let desk = Desk::new();
    let first = desk.commit(&[], PLAIN);
    git(&desk.bare, &["tag", "-a", "-m", "one", "v1", first.as_str()]);
    let text: &[u8] = b"$Format:%(describe)$\n";
    let files: [(&str, &[u8]); 5] = [
        (".gitattributes", b"* export-subst\n"),
        ("a", b"$Format:%h$\n"),
        ("b", b"$Format:no placeholder$, and %(describe)\n"),
        ("c", text),
        ("d", text),
    ];
    let commit = desk.commit(&files, &[format!("parent {first}\n").as_bytes(), PLAIN].concat());
    let (survey, archived) = (desk.survey(&commit, None), desk.archived(&commit));
    for (path, content) in &files[1..] {
        let ours = survey.expand(path.as_bytes(), content);
        assert_eq!(ours.escape_ascii().to_string(), archived[&PathBuf::from(path)].escape_ascii().to_string());
    }
    assert!(survey.expand(b"c", text).starts_with(b"v1-1-g"));
    assert_eq!(survey.expand(b"d", text), b"%(describe)\n");
}

#[test]
fn placeholders_that_only_git_expands_stay_as_they_are_and_are_named_once() {
    let desk = Desk::new();
    let formats = [
        "%(trailers)",
        "%(trailers:key=A,only)",
        "%w(10,2)",
        "%<(20)",
        "%>>|(20,trunc)",
        "%C(always,red)",
        "%ah",
        "%(describe:exclude=v*)",
    ];
    let content: String = formats.iter().map(|it| format!("$Format:{it}$ $Format:{it}$\n")).collect();
    let files: [(&str, &[u8]); 2] = [(".gitattributes", b"a export-subst\n"), ("a", content.as_bytes())];
    let survey = desk.survey(&desk.commit(&files, PLAIN), None);
    let expected: String = formats.iter().map(|it| format!("{it} {it}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&survey.expand(b"a", content.as_bytes())), expected);
    let (mut said, mut expected) = (survey.left_out(), formats.map(str::to_owned).to_vec());
    said.sort();
    expected.sort();
    assert_eq!(said, expected);
}

#[test]
fn a_commit_whose_signature_would_have_to_be_judged_says_so() {
    let desk = Desk::new();
    let text =
        [&b"author A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\ngpgsig -----BEGIN\n x\n -----END\n\n"[..], b"m\n"];
    let commit = desk.commit(&[("a", b"$Format:%G?$")], &text.concat());
    let survey = desk.survey(&commit, None);
    assert_eq!((survey.left_out(), survey.expand(b"a", b"$Format:%G?$")), (vec!["%G?".into()], b"%G?".to_vec()));
}

#[test]
fn a_fresh_tree_names_its_commit_only_where_the_hook_wants_what_git_archive_makes() {
    let mut room = Room::new();
    let attributes = "* export-subst\n*.txt eol=crlf\nsub/* -export-subst\n";
    let text = "$Format:%H %s%n$\n";
    let files = [(".gitattributes", attributes), ("a", text), ("b.txt", text), ("sub/c", text), ("d", "none\n")];
    let commit = room.commit(&files);
    let staged = room.stage_fresh(&commit, "plain").expect("staged");
    assert_eq!(contents(&staged), contents(&checked_out(&room, &commit)));
    room.scope.export_ignore = true;
    let staged = room.stage_fresh(&commit, "expanded").expect("staged");
    let expected = format!("{commit} change things\n");
    assert_eq!(fs::read_to_string(staged.join("a")).expect("a"), format!("{expected}\n"));
    assert_eq!(fs::read_to_string(staged.join("b.txt")).expect("b"), format!("{expected}\r\n"));
    assert_eq!(fs::read_to_string(staged.join("sub/c")).expect("c"), text);
    assert_eq!(fs::read_to_string(staged.join("d")).expect("d"), "none\n");
}
