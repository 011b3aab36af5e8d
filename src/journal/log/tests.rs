//! Promises of the log, kept by writer and reader together.
//!
//! Invariant: each test is one promise.

use std::{fs, io::Write};

use jiff::Timestamp;

use super::{Kind, Line, Reader, TEXT_BYTES_MAX, Writer};
use crate::journal::folder::RunDir;

struct Desk {
    _folder: tempfile::TempDir,
    dir: RunDir,
    at: Timestamp,
}

fn desk() -> Desk {
    let folder = tempfile::tempdir().expect("temporary folder");
    let dir = RunDir::at(folder.path());
    let at = "2026-11-24T08:15:30.123Z".parse().expect("a time");
    Desk { _folder: folder, dir, at }
}

impl Desk {
    fn writer(&self, cap: u64) -> Writer {
        Writer::open(&self.dir, cap).expect("writer")
    }

    fn all(&self) -> Vec<Line> {
        Reader::new(&self.dir).lines(0).collect::<Result<_, _>>().expect("readable")
    }

    fn bytes_on_disk(&self) -> u64 {
        let files = fs::read_dir(self.dir.path()).expect("folder");
        files.map(|it| it.expect("entry").metadata().expect("metadata").len()).sum()
    }
}

fn texts(lines: &[Line]) -> Vec<String> {
    lines.iter().map(|it| it.text().into_owned()).collect()
}

#[test]
fn a_line_has_a_time_and_a_mark_of_fixed_width() {
    let desk = desk();
    let mut writer = desk.writer(1 << 20);
    writer.output(desk.at, b"hello").expect("written");
    writer.remark(desk.at, "one\ntwo").expect("written");
    writer.flush().expect("flushed");
    let t = "2026-11-24T08:15:30.123Z";
    let expected = format!("{t} | hello\n{t} # one\n{t} # two\n");
    assert_eq!(fs::read_to_string(desk.dir.log()).expect("log"), expected);
    let lines = desk.all();
    assert_eq!(texts(&lines), ["hello", "one", "two"]);
    assert_eq!((lines[0].at, lines[0].kind, lines[1].kind), (desk.at, Kind::Output, Kind::Remark));
}

#[test]
fn bytes_that_are_not_utf8_are_kept_as_they_came() {
    let desk = desk();
    let mut writer = desk.writer(1 << 20);
    writer.output(desk.at, b"\xff\x00\xc3").expect("written");
    writer.flush().expect("flushed");
    assert_eq!(desk.all()[0].bytes, b"\xff\x00\xc3");
}

#[test]
fn a_very_long_line_is_split_between_characters_and_marked() {
    let desk = desk();
    let mut writer = desk.writer(1 << 20);
    let long = "ü".repeat(TEXT_BYTES_MAX);
    writer.output(desk.at, format!("x{long}").as_bytes()).expect("written");
    writer.flush().expect("flushed");
    let lines = desk.all();
    let kinds: Vec<_> = lines.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Kind::Piece, Kind::Piece, Kind::Output]);
    assert!(lines.iter().all(|it| std::str::from_utf8(&it.bytes).is_ok()));
    assert_eq!(texts(&lines).concat(), format!("x{long}"));
}

#[test]
fn a_log_over_its_cap_keeps_its_head_and_its_newest_lines_and_says_what_is_gone() {
    let desk = desk();
    let cap = 128 * 1024;
    let mut writer = desk.writer(cap);
    for number in 0..50_000 {
        writer.output(desk.at, format!("line {number}").as_bytes()).expect("written");
        assert!(number % 1000 != 0 || desk.bytes_on_disk() <= cap);
    }
    writer.flush().expect("flushed");
    assert!(desk.bytes_on_disk() <= cap && desk.bytes_on_disk() > cap * 7 / 8);
    let lines = desk.all();
    let cuts: Vec<_> = lines.iter().filter(|it| it.kind == Kind::Cut).collect();
    assert_eq!(cuts.len(), 1);
    assert_eq!((texts(&lines)[0].as_str(), texts(&lines).last().expect("last").as_str()), ("line 0", "line 49999"));
    let before = lines.iter().position(|it| it.kind == Kind::Cut).expect("cut");
    let gone = 50_000 - (lines.len() - 1);
    assert_eq!(lines[before + 1].text(), format!("line {}", before + gone), "nothing else is missing");
    assert!(lines.windows(2).all(|pair| pair[0].position < pair[1].position));
}

#[test]
fn the_tail_is_the_last_lines_also_across_segments() {
    let desk = desk();
    let mut writer = desk.writer(64 * 1024);
    assert_eq!(Reader::new(&desk.dir).tail(3).expect("tail"), []);
    for number in 0..5_000 {
        writer.output(desk.at, format!("line {number}").as_bytes()).expect("written");
    }
    writer.flush().expect("flushed");
    let all = desk.all();
    let reader = Reader::new(&desk.dir);
    for count in [0, 1, 2, 10, 200, 500, 700, 800, all.len() - 1, all.len(), all.len() + 5] {
        let tail = reader.tail(count).expect("tail");
        assert_eq!(tail, all[all.len().saturating_sub(count)..], "{count}");
    }
}

#[test]
fn a_follower_sees_every_line_once_and_none_in_part() {
    let desk = desk();
    let mut writer = desk.writer(1 << 20);
    let reader = Reader::new(&desk.dir);
    let mut seen = Vec::new();
    let mut next = 0;
    for number in 0..300 {
        writer.output(desk.at, format!("line {number}").as_bytes()).expect("written");
        if number % 7 == 0 {
            writer.flush().expect("flushed");
            assert_eq!(reader.end().expect("end"), writer.position());
        }
        let page = reader.read(next).expect("page");
        next = page.next;
        seen.extend(texts(&page.lines));
    }
    writer.flush().expect("flushed");
    seen.extend(texts(&reader.read(next).expect("page").lines));
    assert_eq!(seen, (0..300).map(|it| format!("line {it}")).collect::<Vec<_>>());
}

#[test]
fn a_line_torn_by_a_kill_is_not_shown_until_it_is_closed() {
    let desk = desk();
    let mut writer = desk.writer(1 << 20);
    writer.output(desk.at, b"whole").expect("written");
    writer.flush().expect("flushed");
    let mut file = fs::OpenOptions::new().append(true).open(desk.dir.log()).expect("log");
    file.write_all(b"2026-11-24T08:15:30.123Z | tor").expect("torn");
    assert_eq!(texts(&desk.all()), ["whole"]);
    assert_eq!(Reader::new(&desk.dir).end().expect("end"), writer.position());
    let mut second = desk.writer(1 << 20);
    second.remark(desk.at, "the keeper died").expect("written");
    second.flush().expect("flushed");
    assert_eq!(texts(&desk.all()), ["whole", "tor", "the keeper died"]);
    assert_eq!(second.position(), fs::metadata(desk.dir.log()).expect("log").len());
}

#[test]
fn a_file_whose_name_is_a_position_that_no_log_reaches_is_none_of_the_log() {
    let desk = desk();
    let mut writer = desk.writer(1 << 20);
    writer.output(desk.at, b"hello").expect("written");
    writer.flush().expect("flushed");
    fs::write(desk.dir.path().join("log.18446744073709551610"), "no segment\n").expect("written");
    assert_eq!(texts(&desk.all()), ["hello"]);
    assert_eq!(texts(&Reader::new(&desk.dir).tail(5).expect("read")), ["hello"]);
}
