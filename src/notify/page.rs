//! Writes a letter as an HTML page for mail programs: one table, its styles beside the elements, light and dark,
//! no pictures, nothing that calls home.
//!
//! Invariant: whatever a story holds is escaped by the template, and only a [`Link`](super::foreign::Link) is
//! ever the target of one.

use askama::Template;

use crate::notify::{
    foreign::Link,
    story::Story,
    wording::{self, Command, Look, Row},
};

/// The whole letter as HTML.
pub fn html(story: &Story) -> String {
    let colour = match wording::look(story) {
        Look::Busy => "#2563b0",
        Look::Good => "#1a7f42",
        Look::Bad => "#c22f2f",
        Look::Quiet => "#66707a",
    };
    let width = story.log_tail.last().map_or(0, |it| it.number.to_string().len());
    let page = Page {
        title: wording::subject(story),
        word: wording::word(story).to_uppercase(),
        colour,
        sentence: unquoted(&wording::sentence(story)),
        site_now: wording::site_now(story),
        rows: wording::rows(story),
        why: wording::why(story),
        // Spaces that do not break keep the number beside a line without any.
        log: story.log_tail.iter().map(|it| format!("{:>width$}\u{a0}\u{a0}{}", it.number, it.text)).collect(),
        commands: wording::commands(story),
        run_page: story.run_page.as_ref(),
        because: unquoted(&wording::because(story)),
    };
    page.render().expect("writing into a string cannot fail")
}

/// Our own sentences without the quotes that plain text needs.
fn unquoted(sentence: &str) -> String {
    sentence.replace('`', "")
}

#[derive(Template)]
#[template(path = "letter.html")]
struct Page<'a> {
    title: String,
    word: String,
    colour: &'static str,
    sentence: String,
    site_now: String,
    rows: Vec<Row>,
    why: Option<String>,
    log: Vec<String>,
    commands: Vec<Command>,
    run_page: Option<&'a Link>,
    because: String,
}
