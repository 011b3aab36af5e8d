//! Writes a letter as a Slack message: one sentence for those who see only that, and Block Kit for the rest.
//!
//! Invariant: `&`, `<` and `>` of everything in a story are escaped, so nobody is pinged by a commit; no text is
//! longer than Slack takes, and the whole is under 12,000 characters.

use serde_json::{Value, json};

use crate::notify::{
    foreign::Link,
    story::{LogLine, Story},
    wording::{self, Look},
};

// What each part may take up, once escaped. Slack refuses a section beyond 3,000 characters, and the whole message
// somewhat above 13,000, though its documents do not say so (<https://github.com/slackapi/bolt-js/issues/2509>).
// Together these stay below 11,000 even if every part is full.
const SENTENCE_MAX: usize = 600;
const SUBJECT_MAX: usize = 300;
const LINK_MAX: usize = 500;
const FACTS_MAX: usize = 900;
const WHY_MAX: usize = 800;
const LOG_MAX: usize = 2800;

/// The message as the JSON that an incoming webhook takes.
pub fn slack_json(story: &Story) -> String {
    let mut blocks = vec![section("head", &head(story))];
    if let Some(why) = wording::why(story) {
        blocks.push(section("why", &escape(&why, WHY_MAX)));
    }
    if let Some(fenced) = fenced(&story.log_tail) {
        blocks.push(section("log", &fenced));
    }
    blocks.push(context("meta", &meta(story)));
    blocks.push(context("next", &next(story)));
    let message = json!({
        "text": sentence(story),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    });
    message.to_string()
}

/// A full sentence and the two facts people ask for: it is all that a lock screen, a screen reader or another
/// program with the same door shows.
fn sentence(story: &Story) -> String {
    let mut sentence = escape(&wording::sentence(story), SENTENCE_MAX);
    if let Some(subject) = story.commit.as_ref().and_then(|it| it.subject.as_ref()) {
        sentence += &format!(" Commit: {}.", escape(subject.as_str(), SUBJECT_MAX));
    }
    if let Some(why) = wording::why(story) {
        sentence += &format!(" Why: {}.", escape(&why, SUBJECT_MAX));
    }
    sentence
}

/// The news, the commit and the state of the site, a line each.
fn head(story: &Story) -> String {
    let light = match wording::look(story) {
        Look::Busy => ":large_blue_circle:",
        Look::Good => ":large_green_circle:",
        Look::Bad => ":red_circle:",
        Look::Quiet => ":white_circle:",
    };
    let news = escape(&wording::sentence(story), SENTENCE_MAX);
    let mut head = format!("{light} *{}*  {news}", wording::word(story));
    if let Some(commit) = &story.commit {
        head += &format!("\n{}", linked(commit.id.short(), commit.page.as_ref()));
        if let Some(subject) = &commit.subject {
            head += &format!("  {}", escape(subject.as_str(), SUBJECT_MAX));
        }
        if let Some(compare) = &story.compare {
            let count = story.commit_count.filter(|it| *it > 1).map(|it| format!("all {it} commits"));
            head += &format!("  ({})", linked(&count.unwrap_or("compare".into()), Some(compare)));
        }
    }
    head += &format!("\n{}", escape(&wording::site_now(story), SENTENCE_MAX));
    head
}

/// The rest of the facts, on one line.
fn meta(story: &Story) -> String {
    let rows = wording::rows(story).into_iter().filter(|it| !matches!(it.label.as_str(), "Commit" | "Changes"));
    let facts: Vec<_> = rows.map(|it| format!("{}: {}", it.label, it.value)).collect();
    escape(&facts.join("  •  "), FACTS_MAX)
}

/// What to type next, and why the reader gets this.
fn next(story: &Story) -> String {
    let page = story.run_page.as_ref().map(|it| linked("Open the run", Some(it)));
    let commands = wording::commands(story).into_iter().map(|it| format!("`{}`", it.line));
    let steps: Vec<_> = page.into_iter().chain(commands).collect();
    format!("{}\n{}", steps.join("  •  "), escape(&wording::because(story), FACTS_MAX))
}

/// As many of the last lines as fit in one section, preformatted.
fn fenced(lines: &[LogLine]) -> Option<String> {
    let width = lines.last()?.number.to_string().len();
    let mut kept = Vec::new();
    let mut room = LOG_MAX;
    for line in lines.iter().rev() {
        let line = escape(format!("{:>width$}  {}", line.number, line.text).trim_end(), LOG_MAX);
        match room.checked_sub(line.chars().map(weight).sum::<usize>() + 2) {
            Some(left) => room = left,
            None => break,
        }
        kept.push(line);
    }
    kept.reverse();
    (!kept.is_empty()).then(|| format!("```\n{}\n```", kept.join("\n")))
}

fn section(id: &str, mrkdwn: &str) -> Value {
    json!({"type": "section", "block_id": id, "text": {"type": "mrkdwn", "text": mrkdwn}})
}

fn context(id: &str, mrkdwn: &str) -> Value {
    json!({"type": "context", "block_id": id, "elements": [{"type": "mrkdwn", "text": mrkdwn}]})
}

/// Words that lead to a page, if there is one whose address is not out of all proportion.
fn linked(words: &str, page: Option<&Link>) -> String {
    let words = escape(words, SUBJECT_MAX);
    match page.map(|it| it.as_str().replace('&', "&amp;")).filter(|it| it.len() <= LINK_MAX) {
        Some(address) => format!("<{address}|{words}>"),
        None => words,
    }
}

/// The text with the three characters escaped that Slack gives a meaning
/// (<https://docs.slack.dev/messaging/formatting-message-text>), and with runs of backticks broken, which would open
/// or end a fence. It takes up `room` at most; three dots stand for what was cut.
fn escape(text: &str, room: usize) -> String {
    let mut escaped = String::new();
    let mut used = 0;
    for character in text.chars() {
        let piece = match character {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '`' if escaped.ends_with('`') => "\u{200b}`".to_owned(),
            other => other.to_string(),
        };
        used += piece.chars().map(weight).sum::<usize>();
        if used + 3 > room {
            escaped.push_str("...");
            break;
        }
        escaped.push_str(&piece);
    }
    escaped
}

/// What a character takes up: in UTF-16, and as it stands in JSON, whichever way Slack may count.
fn weight(character: char) -> usize {
    if matches!(character, '"' | '\\' | '\t') { 2 } else { character.len_utf16() }
}
