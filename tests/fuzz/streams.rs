//! What a remote sends: lists of refs and packs, in packet lines, however they are cut into reads.
//!
//! Invariant: what has to pass is worked out here a second time, from git's own documents.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use landfall::git::reading;

use crate::{
    git::git,
    play::{Shape, Target, outline, play, shape},
};

/// A packet line, as git's `protocol-common` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Packet<'a> {
    Line(&'a [u8]),
    Flush,
    /// No packet line.
    Bare,
    Cut,
}

fn packet(input: &[u8]) -> (Packet<'_>, usize) {
    let Some(digits) = input.get(..4) else { return (Packet::Cut, input.len()) };
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return (Packet::Bare, 0);
    }
    let text = std::str::from_utf8(digits).expect("hex digits");
    match usize::from_str_radix(text, 16).expect("hex digits") {
        0 => (Packet::Flush, 4),
        1..4 => (Packet::Bare, 0),
        size => input.get(4..size).map_or((Packet::Cut, input.len()), |line| (Packet::Line(line), size)),
    }
}

/// A source that gives so many bytes at once.
struct Drops<'a>(&'a [u8], usize);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buffer.len()).min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

fn line(of: &[u8]) -> Vec<u8> {
    [format!("{:04x}", of.len() + 4).as_bytes(), of].concat()
}

fn judge_refs(input: &[u8], _: &Path) -> Result<Shape, String> {
    let (expected, kept) = after_refs(input);
    for drop in [1, 3, usize::MAX] {
        let passed = reading::after_refs(Drops(input, drop)).map_err(|err| format!("fails: {err}"))?;
        if passed != expected {
            let (passed, expected) = (passed.escape_ascii(), expected.escape_ascii());
            return Err(format!("{drop} bytes at once: {passed} passes, and right were {expected}"));
        }
    }
    Ok(shape((kept.min(9), input.len().abs_diff(expected.len()).min(20), input.len().min(9))))
}

/// A list of refs without those that are no text, whose capabilities move to the next; what follows is as it was. And how
/// many are kept.
fn after_refs(mut input: &[u8]) -> (Vec<u8>, usize) {
    let is_text = |it: &[u8]| std::str::from_utf8(it).is_ok();
    let (mut passed, mut kept, mut is_service, mut left) = (Vec::new(), 0, false, None);
    loop {
        let (packet, length) = packet(input);
        match packet {
            Packet::Line(text) => {
                is_service = text.starts_with(b"# service=");
                let mut parts = text.splitn(2, |it| *it == 0);
                let name = parts.next().unwrap_or_default();
                let words =
                    parts.next().map(|it| it.split(|it| *it == b' ').filter(|it| is_text(it)).collect::<Vec<_>>());
                let capabilities = words.map(|it| it.join(&b' ')).or(left.take());
                match (is_text(name), capabilities) {
                    (false, capabilities) => left = capabilities,
                    (true, Some(it)) => passed.extend(line(&[name.trim_ascii_end(), b"\0", &it].concat())),
                    (true, None) => passed.extend(line(name)),
                }
                kept += usize::from(is_text(name));
            }
            Packet::Flush => {
                let is_over = !std::mem::take(&mut is_service);
                if let Some(capabilities) = left.take().filter(|_| is_over) {
                    let none = format!("{} capabilities^{{}}\0", "0".repeat(40));
                    passed.extend(line(&[none.as_bytes(), &capabilities].concat()));
                }
                passed.extend(b"0000");
                if is_over {
                    return ([passed, input[length..].to_vec()].concat(), kept);
                }
            }
            Packet::Bare | Packet::Cut => return ([passed, input.to_vec()].concat(), kept),
        }
        input = &input[length..];
    }
}

fn of_ref(name: &[u8]) -> Vec<u8> {
    line(&[b"1111111111111111111111111111111111111111 ", name].concat())
}

#[test]
fn whatever_a_remote_lists_every_ref_that_is_text_passes_and_nothing_else_changes() {
    let list = [
        of_ref(b"HEAD\0 ofs-delta symref=HEAD:refs/heads/main\n"),
        of_ref(b"refs/heads/caf\xe9\n"),
        of_ref(b"refs/heads/main\n"),
    ];
    let whole = [list.concat(), b"0000".to_vec(), b"0008NAK\nPACK".to_vec()].concat();
    let first = [of_ref(b"refs/heads/\xff\0 side-band-64k\n"), b"0000".to_vec()].concat();
    play(Target {
        name: "refs",
        samples: vec![[b"001e# service=git-upload-pack\n0000".to_vec(), whole.clone()].concat(), whole, first],
        words: &[
            b"0000",
            b"0004",
            b"0001",
            b"ffff",
            b"+00a",
            b"00A5",
            b"\0",
            b"\0 x",
            b"\xe9",
            b"# service=",
            b"-001",
            b" 001",
        ],
        inputs: 20_000,
        judge: judge_refs,
    });
}

/// What passes of an answer with a pack that goes to libgit2, or that it fails.
fn passes(mut input: &[u8]) -> Option<Vec<u8>> {
    let (mut passed, mut has_begun, mut is_in_pack) = (Vec::new(), false, false);
    loop {
        let (packet, length) = packet(input);
        match packet {
            Packet::Line([3, ..]) => return None,
            Packet::Line(text) if text.starts_with(b"ERR ") => return None,
            Packet::Line(text) => {
                is_in_pack |= text.first() == Some(&1);
                passed.extend(line(text));
            }
            Packet::Flush => {
                is_in_pack = false;
                passed.extend(b"0000");
            }
            Packet::Bare => return Some([passed, input.to_vec()].concat()),
            Packet::Cut => return (input.is_empty() && has_begun && !is_in_pack).then_some(passed),
        }
        has_begun = true;
        input = &input[length..];
    }
}

fn judge_pack(input: &[u8], _: &Path) -> Result<Shape, String> {
    let expected = passes(input);
    for drop in [1, 7, usize::MAX] {
        match (reading::after_pack(Drops(input, drop), None), &expected) {
            (Ok(passed), Some(expected)) if passed == *expected => (),
            (Err(err), None) if !err.to_string().is_empty() => (),
            (found, _) => {
                let found = found.map(|it| it.escape_ascii().to_string());
                return Err(format!("{found:?} passes, and right were {expected:?}"));
            }
        }
    }
    let said = reading::after_pack(input, None).map(|it| it.len().min(9)).map_err(|err| outline(&err.to_string()));
    Ok(shape(said))
}

/// An answer with this pack, in lines of so many bytes.
fn answer(pack: &[u8], piece: usize) -> Vec<u8> {
    let mut answer = b"0008NAK\n".to_vec();
    answer.extend(line(b"\x02Counting objects: 3\r"));
    pack.chunks(piece).for_each(|it| answer.extend(line(&[b"\x01", it].concat())));
    answer.extend(b"0000");
    answer
}

#[test]
fn whatever_a_remote_answers_it_passes_whole_or_fails_with_a_reason() {
    let errors = [line(b"ERR no such repository"), line(b"\x03fatal: no")];
    let acks = [line(b"shallow 1111111111111111111111111111111111111111"), b"0000".to_vec(), line(b"ACK 1 ready\n")];
    play(Target {
        name: "answers",
        samples: vec![
            answer(b"PACK\0\0\0\x02\0\0\0\0", 5),
            [acks.concat(), answer(&[b'x'; 90], 30)].concat(),
            errors.concat(),
            b"0008NAK\nPACK\0\0\0\x02".to_vec(),
        ],
        words: &[
            b"0000",
            b"0004",
            b"0005\x01",
            b"0005\x03",
            b"000cERR why?",
            b"ffff",
            b"+00a",
            b"PACK",
            b"0001",
            b"-001",
        ],
        inputs: 20_000,
        judge: judge_pack,
    });
}

/// A small repository with a few objects, and a bare one that packs go into.
fn repositories(folder: &Path) -> Result<(), String> {
    if folder.join("into").exists() {
        return Ok(());
    }
    git(folder, &["init", "-q", "--bare", "into"], b"").map(drop)
}

fn judge_indexed(input: &[u8], folder: &Path) -> Result<Shape, String> {
    repositories(folder)?;
    let into = folder.join("into");
    let result = reading::after_pack(input, Some(&into));
    if into.join("landfall-incoming").exists() {
        return Err("the folder of what comes in stays".into());
    }
    let packs = into.join("objects/pack");
    let files = |ending: &str| -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&packs).map_err(|err| err.to_string())? {
            names.push(entry.map_err(|err| err.to_string())?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|it| it.ends_with(ending));
        Ok(names)
    };
    for index in files(".idx")? {
        let verified = git(&packs, &["verify-pack", &index], b"")?;
        if !verified.status.success() {
            return Err(format!("{index} is damaged: {}", String::from_utf8_lossy(&verified.stderr)));
        }
    }
    let count = files(".idx")?.len();
    if result.is_err() && count > 0 && input.windows(4).filter(|it| it == b"PACK").count() < 2 {
        return Err("it fails, and a pack was taken in".into());
    }
    fs::remove_dir_all(&packs).and_then(|()| fs::create_dir(&packs)).map_err(|err| err.to_string())?;
    Ok(shape((count, result.map(|it| it.len().min(9)).map_err(|err| outline(&err.to_string())))))
}

/// Packs of a history that git made, one with deltas.
fn packs() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let done = |args: &[&str], input: &[u8]| {
        let output = git(folder.path(), args, input).expect("git");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    done(&["init", "-q", "."], b"");
    let text: String = (0..200).map(|it| format!("line {it}\n")).collect();
    let mut ids = Vec::new();
    for change in ["", "more\n", "still more\n"] {
        ids.extend(done(&["hash-object", "-w", "--stdin"], format!("{text}{change}").as_bytes()));
    }
    let one = done(&["pack-objects", "-q", "--stdout"], &ids[..41]);
    let deltas = done(&["pack-objects", "-q", "--stdout", "--window=10", "--delta-base-offset"], &ids);
    vec![answer(&one, 1000), answer(&deltas, 40), answer(&deltas, 65_515)]
}

#[test]
fn whatever_comes_as_a_pack_is_in_the_repository_whole_or_not_at_all() {
    play(Target {
        name: "packs",
        samples: packs(),
        words: &[
            b"0000",
            b"0005\x01",
            b"0005\x03",
            b"PACK",
            b"\0\0\0\x03",
            b"\0\0\0\xff",
            b"\xff\xff\xff\xff",
            b"\x78\x9c",
        ],
        inputs: 60,
        judge: judge_indexed,
    });
}
