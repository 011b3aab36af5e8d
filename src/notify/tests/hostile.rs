//! Promises about letters whose facts were written by someone who means harm.
//!
//! Invariant: whatever a commit, a branch or a script says, it stays text.

use serde_json::Value;

use super::{failed, failure, line};
use crate::{
    model::{
        letter::Occasion,
        push::RepoName,
        run::{RunId, RunStep},
    },
    notify::{
        blocks, email,
        foreign::{Link, shorten},
        page,
        story::{Chapter, LogLine, Story},
        wording,
    },
};

const EVIL: &str = "x\r\nBcc: all@acme.org\r\n\r\n<!channel> <script>alert(1)</script> \u{202e}gpj.exe\u{2028} \
                    ```` *b* =?utf-8?q?x?= \u{1b}]0;t\u{7}\u{1b}[31m\u{0}";

/// A story in which every foreign text is the given one.
fn story_of(text: &str) -> Story {
    let mut story = failure();
    story.chapter = Chapter::Ended {
        at: "2026-03-01T10:02:21Z".parse().expect("a time"),
        took: None,
        outcome: failed(RunStep::Run, Some(1), text),
    };
    let commit = story.commit.as_mut().expect("a commit");
    (commit.subject, commit.author) = (Some(line(text)), Some(line(text)));
    story.ref_name = Some(line(text));
    story.actor = line(text);
    story.environment = line(text);
    story.working_tree = Some(line(text));
    story.fields = vec![(line(text), line(text))];
    story.log_tail = (1..=40).map(|number| LogLine { number, text: line(text) }).collect();
    story
}

fn write(story: &Story) -> String {
    let now = "2026-03-01T10:02:30Z".parse().expect("a time");
    let mail = email::write(story, "deploys@ci.example.org", "ops@example.org", now).expect("a mail");
    String::from_utf8(mail.bytes().to_vec()).expect("a mail is ASCII, whatever it tells")
}

#[test]
fn a_hostile_commit_adds_no_header_and_no_recipient() {
    let mail = write(&story_of(EVIL));
    let (header, _) = mail.split_once("\r\n\r\n").expect("a header");
    let names: Vec<_> =
        header.lines().filter(|it| !it.starts_with([' ', '\t'])).filter_map(|it| it.split_once(':')).collect();
    assert!(names.iter().all(|(name, _)| !name.eq_ignore_ascii_case("bcc")), "{}", shorten(header, 2000));
    assert_eq!(names.iter().filter(|(name, _)| *name == "To").count(), 1);
    assert!(header.lines().all(|it| it.len() <= 998 && it.is_ascii()), "{}", shorten(header, 2000));
    assert!(mail.lines().all(|it| it.len() <= 998), "RFC 5322, section 2.1.1");
    assert!(wording::text(&story_of(EVIL)).contains("x Bcc: all@acme.org <!channel>"), "the text itself is shown");
}

#[test]
fn a_hostile_commit_pings_nobody_and_ends_no_fence() {
    let text = blocks::slack_json(&story_of(EVIL));
    assert!(!text.contains("<!channel>") && !text.contains("<script>"), "{text}");
    assert!(text.contains("&lt;!channel&gt;"), "it is shown, as text: {text}");
    let message: Value = serde_json::from_str(&text).expect("JSON");
    let log = message["blocks"][2]["text"]["text"].as_str().expect("text");
    assert_eq!(log.matches("``").count(), 2, "one fence begins, one ends: {log}");
    for turn in ['\u{202e}', '\u{2028}', '\u{1b}', '\u{0}'] {
        assert!(!text.contains(turn) && !wording::text(&story_of(EVIL)).contains(turn), "{turn:?}");
    }
}

#[test]
fn a_hostile_commit_is_no_markup_in_html() {
    let page = page::html(&story_of(&format!("{EVIL} \" onmouseover=\"alert(1)")));
    assert!(!page.contains("<script>") && !page.contains("<!channel>") && !page.contains("\" onmouseover"), "{page}");
    let links = page.matches("href=\"").count();
    assert_eq!(links, page.matches("href=\"https://").count());
}

#[test]
fn no_text_is_too_long_for_any_medium() {
    for filler in ["x", "<", "&", "\"", "\\", "`", "é", "世", "🚀", "a\t"] {
        let mut story = story_of(&filler.repeat(5000));
        story.repo = RepoName::parse(&format!("acme/{}", "r".repeat(500))).expect("a name");
        story.compare = Link::parse(&format!("https://github.com/{}", "&".repeat(900)));
        story.url = Link::parse(&format!("https://shop.example.org/{}", "&".repeat(900)));
        story.occasion = Occasion::Failure;
        story.run = RunId(i64::MAX);
        let text = blocks::slack_json(&story);
        assert!(text.encode_utf16().count() < 12_000, "{filler}: {}", text.encode_utf16().count());
        let message: Value = serde_json::from_str(&text).expect("JSON");
        let blocks = message["blocks"].as_array().expect("blocks");
        assert!(blocks.len() <= 50 && message["text"].as_str().is_some_and(|it| !it.is_empty()));
        for block in blocks {
            let text = block["text"]["text"].as_str().or(block["elements"][0]["text"].as_str()).expect("text");
            let length = text.encode_utf16().count();
            assert!((1..=3000).contains(&length), "{filler}, {}: {length}", block["block_id"]);
        }
        let mail = write(&story);
        let (header, _) = mail.split_once("\r\n\r\n").expect("a header");
        let longest = header.lines().map(str::len).max();
        assert!(longest <= Some(998), "{filler}: {longest:?}");
    }
}
