//! Journals and logs: whatever a disk gives back, a reader ends, and parts read alone are parts of the whole.
//!
//! Invariant: the files are read by the very functions that the daemon reads them with.

use std::{fs, path::Path};

use jiff::Timestamp;
use landfall::{
    journal::{
        entries::{self, Begin, Entry, Journal, LiveLink, StepExit},
        folder::RunDir,
        log::{Kind, Line, Reader, Writer},
        spec::RunToken,
    },
    model::{
        push::CommitId,
        run::{Failure, FailureClass, Outcome, RunFacts, RunStep},
    },
};

use crate::play::{Shape, Target, outline, play, shape};

/// How many places of an input are tried.
const PLACES_MAX: usize = 6;

/// What a log is cut into files by, in an input; the position follows, in twenty digits.
const NEXT_FILE: &[u8] = b"\n@@";

fn fresh(folder: &Path, name: &str) -> Result<RunDir, String> {
    let folder = folder.join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(|err| err.to_string())?;
    Ok(RunDir::at(folder))
}

/// Some of these, spread over the whole.
fn spread<T: Copy>(all: &[T]) -> Vec<T> {
    all.iter().step_by((all.len() / PLACES_MAX).max(1)).copied().collect()
}

fn judge_journal(input: &[u8], folder: &Path) -> Result<Shape, String> {
    let dir = fresh(folder, "journal")?;
    fs::write(dir.journal(), input).map_err(|err| err.to_string())?;
    let (whole, end) = match entries::read_from(&dir, 0) {
        Ok(read) => read,
        Err(err) => return Ok(shape(outline(&err.to_string()))),
    };
    let starts: Vec<usize> = (0..input.len()).filter(|at| *at == 0 || input[at - 1] == b'\n').collect();
    for (index, start) in spread(&starts.iter().copied().enumerate().collect::<Vec<_>>()) {
        let part = entries::read_from(&dir, start as u64).map_err(|err| format!("a part cannot be read: {err}"))?;
        if part.0.as_slice() != whole.get(index..).unwrap_or_default()
            || part.1.max(start as u64) != end.max(start as u64)
        {
            return Err(format!("read from {start} on it is another"));
        }
    }
    if let Ok(all) = entries::read(&dir) {
        let again = fresh(folder, "again")?;
        let mut journal = Journal::create(&again).map_err(|err| err.to_string())?;
        for entry in &all {
            journal.append(entry).map_err(|err| err.to_string())?;
        }
        if entries::read(&again).map_err(|err| err.to_string())? != all {
            return Err(format!("does not read back as it was written: {all:?}"));
        }
    }
    let kinds = whole.iter().map(|it| it.as_ref().map(std::mem::discriminant).map_err(|why| outline(why)));
    Ok(shape(kinds.collect::<std::collections::HashSet<_>>().len() + 100 * whole.len().min(9)))
}

fn journal() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = RunDir::at(folder.path());
    let at = Timestamp::from_second(1_800_000_000).expect("in range");
    let (boot_id, version, cgroup) = ("b".into(), "0.1.0".into(), Some("/sys/fs/cgroup/x".into()));
    let token = RunToken::parse(&"0f".repeat(16));
    let commit = CommitId::parse(&"a1".repeat(20));
    let script = Some("build".to_owned());
    let failure =
        Failure { step: RunStep::Run, exit_code: Some(1), class: FailureClass::Other, reason: "it failed".into() };
    let facts = RunFacts { commit: commit.clone(), fields: vec![("k".into(), "v=\n".into())], live: commit.clone() };
    let to = LiveLink { link: "releases/x".into(), commit };
    let mut journal = Journal::create(&dir).expect("a journal");
    for entry in [
        Entry::Begin(Begin { at, token, pid: 7, process_start: 99, boot_id, version, cgroup }),
        Entry::StepBegin { at, step: RunStep::Run, script: script.clone(), log_from: 5 },
        Entry::StepEnd { at, step: RunStep::Run, script, log: 5..77, exit: StepExit::Signal(9) },
        Entry::Switching { at, to: to.clone() },
        Entry::Switched { at, to: LiveLink { commit: None, ..to } },
        Entry::Note { at, text: "two\nlines".into() },
        Entry::Ended { at, outcome: Outcome::RollbackFailed { failure, why: "no".into() }, facts },
    ] {
        journal.append(&entry).expect("appended");
    }
    fs::read(dir.journal()).expect("a journal")
}

#[test]
fn whatever_a_journal_holds_its_parts_read_as_the_whole_and_what_is_read_can_be_written() {
    play(Target {
        name: "journal",
        samples: vec![journal()],
        words: &[
            b"{\"entry\":\"note\",\"at\":\"2026-01-01T00:00:00Z\",\"text\":\"x\"}\n",
            b"\"format\":9",
            b"null",
            b"\0\0\0\0",
            b"\n",
            b"\"exit\":\"good\"",
            b"\"entry\":\"ended\"",
            b"-9999-01-01T00:00:00Z",
            b"\\u0000",
            b"\\ud800",
        ],
        inputs: 1_000,
        judge: judge_journal,
    });
}

fn judge_log(input: &[u8], folder: &Path) -> Result<Shape, String> {
    let dir = fresh(folder, "log")?;
    let (mut files, mut end) = (0, 0);
    for (index, part) in parts(input).into_iter().enumerate() {
        let (path, start, bytes) = match (index, part.split_at_checked(20)) {
            (0, _) => (dir.log(), 0, part),
            (_, Some((digits, bytes))) if digits.iter().all(u8::is_ascii_digit) => {
                let name = String::from_utf8_lossy(digits).into_owned();
                let Ok(start) = name.parse::<u64>() else { continue };
                (dir.path().join(format!("log.{name}")), start, bytes)
            }
            _ => continue,
        };
        // Files that overlap, or come near the end of numbers, nobody ever writes; the reader still has to end.
        end = if start < end || start > u64::MAX / 2 { u64::MAX } else { start + bytes.len() as u64 };
        files += 1;
        fs::write(path, bytes).map_err(|err| err.to_string())?;
    }
    let reader = Reader::new(&dir);
    let read = |from: u64| reader.lines(from).take(1 << 20).collect::<Result<Vec<Line>, _>>();
    let whole = read(0).map_err(|err| format!("cannot be read: {err}"))?;
    if whole.len() == 1 << 20 {
        return Err("it never ends".into());
    }
    if end != u64::MAX {
        parts_are_of_the_whole(&reader, &whole, &read)?;
    }
    let kinds: Vec<String> = whole.iter().take(4).map(|it| format!("{:?}", it.kind)).collect();
    Ok(shape((files.min(4), kinds, whole.len().min(12))))
}

fn parts(input: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut rest) = (Vec::new(), input);
    while let Some(at) = rest.windows(NEXT_FILE.len()).position(|it| it == NEXT_FILE) {
        parts.push(&rest[..=at]);
        rest = &rest[at + NEXT_FILE.len()..];
    }
    parts.push(rest);
    parts
}

fn parts_are_of_the_whole(
    reader: &Reader,
    whole: &[Line],
    read: &dyn Fn(u64) -> std::io::Result<Vec<Line>>,
) -> Result<(), String> {
    for (index, position) in spread(&whole.iter().map(|it| it.position).enumerate().collect::<Vec<_>>()) {
        if read(position).map_err(|err| err.to_string())? != whole[index..] {
            return Err(format!("read from {position} on it is another"));
        }
    }
    for count in [0, 1, 3, whole.len(), whole.len() + 5] {
        let tail = reader.tail(count).map_err(|err| err.to_string())?;
        if tail != whole[whole.len().saturating_sub(count)..] {
            return Err(format!("its last {count} lines are not those of the whole: {tail:?}"));
        }
    }
    let mut position = 0;
    for line in whole {
        if line.position < position {
            return Err(format!("a line begins at {}, before {position}", line.position));
        }
        position = line.position + line.bytes.len() as u64 * u64::from(line.kind != Kind::Cut);
    }
    Ok(())
}

/// A log with all kinds of lines, and one that outgrew its limit.
fn logs() -> Vec<Vec<u8>> {
    let at: Timestamp = "2026-11-24T08:15:30.123Z".parse().expect("a time");
    let written = |lines: usize| {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = RunDir::at(folder.path());
        let mut writer = Writer::open(&dir, 64 << 10).expect("a writer");
        writer.remark(at, "run: build").expect("written");
        for number in 0..lines {
            let text = format!("line {number} {}", "x".repeat(number % 90));
            writer.output(at, text.as_bytes()).expect("written");
        }
        writer.piece(at, "ä".repeat(3000).as_bytes()).expect("written");
        writer.output(at, b"\xff\x1b[31mred").expect("written");
        writer.flush().expect("flushed");
        let mut files: Vec<_> = fs::read_dir(dir.path()).expect("files").map(|it| it.expect("a file").path()).collect();
        files.sort();
        let mut input = fs::read(dir.log()).expect("a log");
        for file in files.iter().filter(|it| **it != dir.log()) {
            let name = file.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            let digits = name.strip_prefix("log.").expect("a segment");
            input.extend([b"@@", digits.as_bytes(), &fs::read(file).expect("a segment")].concat());
        }
        input
    };
    vec![written(3), written(40), written(1200)]
}

#[test]
fn whatever_a_log_holds_it_ends_and_any_part_of_it_is_a_part_of_the_whole() {
    play(Target {
        name: "log",
        samples: logs(),
        words: &[
            b"2026-11-24T08:15:30.123Z | x\n",
            b"2026-11-24T08:15:30.123Z # y\n",
            b"2026-11-24T08:15:30.123Z \\ z\n",
            b"\n@@00000000000000040000",
            b"\n@@00000000000000065536",
            b"\n@@18446744073709551610",
            b"\n",
            b"\0\0\0\0\0\0\0\0",
        ],
        inputs: 1_500,
        judge: judge_log,
    });
}
