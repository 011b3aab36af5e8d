//! Turns the text of hooks.yaml into a tree that knows where each key and value stands.
//!
//! Invariant: the tree is at most 64 deep and aliases add at most 32 MiB to it, whatever the text says; equal keys
//! are all kept, so that they can be reported. Only this file knows the YAML crate.

use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

/// How deep collections may stand in one another.
const DEPTH_MAX: usize = 64;
/// How much text and structure all aliases together may add.
const ALIAS_BYTES_MAX: usize = 32 << 20;
/// What a node costs besides its text.
const NODE_BYTES: usize = 64;

/// Where something stands: lines and columns begin at 1 and count characters; the end is the first place after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) end_line: usize,
    pub(super) end_column: usize,
}

impl Place {
    /// One character.
    pub(super) fn at(line: usize, column: usize) -> Self {
        Self { line, column, end_line: line, end_column: column + 1 }
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        let (end_line, end_column) = (span.end.line(), span.end.col() + 1);
        let is_empty = (end_line, end_column) <= (line, column);
        if is_empty { Self::at(line, column) } else { Self { line, column, end_line, end_column } }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a value is. Numbers and booleans are their text: what they mean is the reader's business.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value. Equal keys are all there, in the order of the text.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) node: Node,
}

/// Why a text is not a tree.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) place: Place,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: String,
}

/// The tree of a text, or the one flaw that stops the reading.
pub(super) fn parse(text: &str) -> Result<Node, Flaw> {
    let mut tree = Tree::default();
    tree.grow(text)?;
    tree.root.ok_or_else(|| Flaw {
        place: Place::at(1, 1),
        code: "empty-file",
        message: "the file is empty".into(),
        help: "the shortest useful file has one entry under `hooks`".into(),
    })
}

/// The tree of a text in which tabs indent lines, as it would be with so many spaces for each; `None` if that is not all
/// that is wrong with it. On such a line, columns are those it would have then.
pub(super) fn parse_past_tabs(text: &str, width: usize) -> Option<Node> {
    let mended: Vec<String> = text
        .split('\n')
        .map(|line| {
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            line[..indent].replace('\t', &" ".repeat(width)) + &line[indent..]
        })
        .collect();
    let mended = mended.join("\n");
    if mended == text { None } else { parse(&mended).ok() }
}

/// As much of the tree as stands before the first flaw.
pub(super) fn parse_beginning(text: &str) -> Option<Node> {
    let mut tree = Tree::default();
    // The flaw is reported by whoever checks the file; here only what came before it matters.
    let _flaw = tree.grow(text);
    while tree.root.is_none() && !tree.open.is_empty() {
        tree.close(Place::default()).ok()?;
    }
    tree.root
}

/// A collection whose end has not come yet.
struct Open {
    place: Place,
    anchor: usize,
    depth_below: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { written: Vec<Entry>, merged: Vec<Entry>, key: Option<Key> },
}

struct Key {
    text: String,
    place: Place,
    is_merge: bool,
}

struct Anchored {
    node: Node,
    cost: usize,
    depth: usize,
}

#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    alias_bytes: usize,
    documents: usize,
}

impl Tree {
    fn grow(&mut self, text: &str) -> Result<(), Flaw> {
        let options = granit_parser::options! {
            flow_nesting_limit: DEPTH_MAX,
            block_nesting_limit: DEPTH_MAX,
        };
        for event in Parser::new_from_str_with_options(text, options) {
            let (event, span) = event.map_err(|err| syntax_flaw(text, &err))?;
            self.take(event, span)?;
        }
        Ok(())
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Flaw> {
        let place = Place::from(span);
        if let Some(tag) = event.tag()
            && !tag.is_yaml_core_schema()
        {
            let place = span.tag_span().map_or(place, Place::from);
            return Err(flaw(place, "unknown-tag", "tags have no meaning here", "remove it, or quote the value"));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let help = "put everything into one document: remove `---` and what follows it";
                    return Err(flaw(place, "second-document", "the file has a second document", help));
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let is_plain = style == ScalarStyle::Plain;
                if let Some(Open { content: Content::Map { key: key @ None, .. }, .. }) = self.open.last_mut() {
                    *key = Some(Key { is_merge: is_plain && text == "<<", text: text.into_owned(), place });
                    return Ok(());
                }
                let is_null = is_plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Value::Null } else { Value::Text(text.into_owned()) };
                self.put(Node { place, value }, anchor, 0)?;
            }
            Event::SequenceStart(_, anchor, _) => self.begin(place, anchor, Content::List(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                self.begin(place, anchor, Content::Map { written: Vec::new(), merged: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(place)?,
            Event::Alias(anchor) => self.repeat(anchor, place)?,
            // The enum is another crate's and open; nothing else of it carries data that we asked for.
            _ => (),
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), Flaw> {
        self.refuse_as_key(place)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.open.push(Open { place, anchor, depth_below: 0, content });
        Ok(())
    }

    fn refuse_as_key(&self, place: Place) -> Result<(), Flaw> {
        match self.open.last() {
            Some(Open { content: Content::Map { key: None, .. }, .. }) => Err(flaw(
                place,
                "bad-key",
                "a key must be plain text",
                "a value that begins with `{`, `[` or `*` needs quotes",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn close(&mut self, place: Place) -> Result<(), Flaw> {
        let Some(open) = self.open.pop() else {
            return Err(flaw(place, "syntax", "a collection ends that never began", ""));
        };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { written, merged, .. } => Value::Map(complete(written, merged)),
        };
        self.put(Node { place: open.place, value }, open.anchor, open.depth_below + 1)
    }

    /// A copy of an earlier node; it keeps the places of the original, where its mistakes can be mended.
    fn repeat(&mut self, anchor: usize, place: Place) -> Result<(), Flaw> {
        self.refuse_as_key(place)?;
        let Some(found) = self.anchors.get(&anchor) else {
            return Err(flaw(
                place,
                "bad-alias",
                "this alias names nothing that can be repeated here",
                "write the value out",
            ));
        };
        let (cost, depth) = (found.cost, found.depth);
        self.charge(cost, place)?;
        let node = self.anchors[&anchor].node.clone();
        self.put(node, 0, depth)
    }

    fn charge(&mut self, cost: usize, place: Place) -> Result<(), Flaw> {
        self.alias_bytes += cost;
        if self.alias_bytes > ALIAS_BYTES_MAX {
            let message = format!("the aliases add more than {} MiB to the file", ALIAS_BYTES_MAX >> 20);
            return Err(flaw(place, "too-large", message, "write the values out, or use fewer aliases"));
        }
        Ok(())
    }

    /// Puts a finished node where it belongs: into the list or map that is open, or at the root.
    fn put(&mut self, node: Node, anchor: usize, depth: usize) -> Result<(), Flaw> {
        if depth + self.open.len() > DEPTH_MAX {
            return Err(too_deep(node.place));
        }
        if anchor != 0 {
            let cost = cost(&node);
            self.charge(cost, node.place)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), cost, depth });
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.depth_below = open.depth_below.max(depth);
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { written, merged, key } => match key.take() {
                Some(key) if key.is_merge => merge(merged, node)?,
                Some(key) => written.push(Entry { key: key.text, key_place: key.place, node }),
                // `begin` and `repeat` refuse anything but text as a key.
                None => return Err(flaw(node.place, "bad-key", "a key must be plain text", "")),
            },
        }
        Ok(())
    }
}

/// What `<<: *defaults`, or a list of them, brings along.
fn merge(merged: &mut Vec<Entry>, node: Node) -> Result<(), Flaw> {
    let place = node.place;
    match node.value {
        Value::Map(entries) => merged.extend(entries),
        Value::List(items) => {
            for item in items {
                merge(merged, item)?;
            }
        }
        Value::Null | Value::Text(_) => {
            return Err(flaw(place, "bad-merge", "only a map can be merged in by `<<`", "name a map: `<<: *anchor`"));
        }
    }
    Ok(())
}

/// All entries of a map: those written in it, then those merged in whose keys it does not have yet.
fn complete(written: Vec<Entry>, merged: Vec<Entry>) -> Vec<Entry> {
    let mut keys: HashSet<String> = written.iter().map(|it| it.key.clone()).collect();
    let mut entries = written;
    entries.extend(merged.into_iter().filter(|it| keys.insert(it.key.clone())));
    entries
}

fn cost(node: &Node) -> usize {
    NODE_BYTES
        + match &node.value {
            Value::Null => 0,
            Value::Text(text) => text.len(),
            Value::List(items) => items.iter().map(cost).sum(),
            Value::Map(entries) => entries.iter().map(|it| it.key.len() + cost(&it.node)).sum(),
        }
}

fn flaw(place: Place, code: &'static str, message: impl Into<String>, help: &str) -> Flaw {
    Flaw { place, code, message: message.into(), help: help.into() }
}

fn too_deep(place: Place) -> Flaw {
    let message = format!("collections are nested more than {DEPTH_MAX} deep");
    flaw(place, "too-deep", message, "hooks.yaml needs no more than ten levels")
}

fn syntax_flaw(text: &str, err: &ScanError) -> Flaw {
    let (line, column) = (err.marker().line().max(1), err.marker().col() + 1);
    if let Some(place) = tab_near(text, line) {
        let help = "YAML allows only spaces at the beginning of a line: replace the tab by two spaces a level";
        return flaw(place, "tab", "a tab indents this line", help);
    }
    let place = Place::at(line, column);
    let help = match err.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(place),
        ErrorKind::UnknownAnchor => {
            let help =
                "an alias `*name` repeats what stands earlier as `&name`; a value that begins with `*` needs quotes";
            return flaw(place, "bad-alias", "this alias names nothing that stands before it", help);
        }
        ErrorKind::UnclosedQuotedScalar => "close the quote, or double a quote that is part of the text",
        ErrorKind::UnclosedFlowCollection { .. } | ErrorKind::InvalidColonPlacement => {
            "a `[` or `{` before this place may not be closed"
        }
        ErrorKind::UnexpectedCharacter { .. } => "a value that begins with this character needs quotes",
        ErrorKind::MappingValueNotAllowed => "a value that contains `: ` needs quotes; or a line before is not closed",
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation | ErrorKind::SimpleKeyExpected => {
            "keys of one map begin in the same column, each followed by `: `; check the indentation here and above"
        }
        // The enum is another crate's and open.
        _ => "check the line and the one above: quotes, brackets, indentation",
    };
    flaw(place, "syntax", format!("this is not YAML: {}", err.info()), help)
}

/// The first tab that indents a line at or next to the one where the reading stopped.
fn tab_near(text: &str, line: usize) -> Option<Place> {
    let indent_tab = |number: usize| {
        let found = text.lines().nth(number.checked_sub(1)?)?;
        let indent = found.chars().take_while(|it| matches!(it, ' ' | '\t'));
        indent.enumerate().find(|(_, it)| *it == '\t').map(|(index, _)| Place::at(number, index + 1))
    };
    [line, line.saturating_sub(1), line + 1].into_iter().find_map(indent_tab)
}

#[cfg(test)]
mod tests {
    use super::{Node, Value, parse, parse_beginning};

    /// A tree without its places.
    fn shape(node: &Node) -> String {
        match &node.value {
            Value::Null => "-".into(),
            Value::Text(text) => text.clone(),
            Value::List(items) => format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|it| format!("{}={}", it.key, shape(&it.node))).collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    fn reads(text: &str, expect: &str) {
        assert_eq!(shape(&parse(text).expect("good YAML")), expect, "{text}");
    }

    fn refuses(text: &str, expect: &str) {
        let flaw = parse(text).expect_err(text);
        assert_eq!(format!("{}@{}:{}", flaw.code, flaw.place.line, flaw.place.column), expect, "{text}");
    }

    #[test]
    fn a_tree_keeps_both_of_two_equal_keys() {
        reads("a: 1\nb: [x, null, '~', {c: ~}]\na: 2\n", "{a=1 b=[x - ~ {c=-}] a=2}");
    }

    #[test]
    fn what_is_written_wins_over_what_is_merged_wherever_it_stands() {
        reads("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n", "{x={a=1 b=2} y={b=3 a=1}}");
        reads("- &x {a: 1}\n- &y {a: 2, c: 3}\n- {<<: [*x, *y]}\n", "[{a=1} {a=2 c=3} {a=1 c=3}]");
        reads("'<<': 1\n", "{<<=1}");
    }

    #[test]
    fn a_flaw_is_reported_where_it_stands() {
        for (text, expect) in [
            ("", "empty-file@1:1"),
            ("# only a comment\n", "empty-file@1:1"),
            ("a:\n\tb: 1\n", "tab@2:1"),
            ("a:\n  b: 1\n  \tc: 1\n", "tab@3:3"),
            ("k: v\n\tz: 1\n", "tab@2:1"),
            ("a: b: c\n", "syntax@1:5"),
            ("x: \"abc\n", "syntax@1:4"),
            ("a: @x\n", "syntax@1:4"),
            ("a: *z\n", "bad-alias@1:4"),
            ("a: &a [*a]\n", "bad-alias@1:8"),
            ("a: !env X\n", "unknown-tag@1:4"),
            ("a: 1\n---\nb: 1\n", "second-document@2:1"),
            ("{{a: b}: c}\n", "bad-key@1:2"),
            ("a: {<<: 1}\n", "bad-merge@1:9"),
        ] {
            refuses(text, expect);
        }
    }

    #[test]
    fn a_file_made_to_exhaust_memory_or_stack_is_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..20 {
            let below = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", ")));
        }
        assert_eq!(parse(&bomb).expect_err("a bomb").code, "too-large");
        for deep in ["[".repeat(20_000), "{a: ".repeat(20_000), "- ".repeat(20_000)] {
            assert_eq!(parse(&deep).expect_err("too deep").code, "too-deep");
        }
        let chain: String = (1..200).map(|it| format!("- &a{it} [*a{}]\n", it - 1)).collect();
        assert_eq!(parse(&format!("- &a0 []\n{chain}")).expect_err("too deep").code, "too-deep");
    }

    #[test]
    fn the_beginning_of_a_broken_file_can_still_be_read() {
        let broken = "server:\n  state: /var/x\nhooks: [a: {\n";
        assert!(shape(&parse_beginning(broken).expect("a beginning")).starts_with("{server={state=/var/x}"));
    }
}
