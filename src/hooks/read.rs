//! Reads values out of the tree, and notes what is wrong with them instead of stopping.
//!
//! Invariant: a reader that returns `None` has noted at least one error, so a file with any missing value is refused.

use std::{
    collections::HashMap,
    fmt::Display,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::hooks::{
    environment::Environment,
    keys,
    patterns::Judged,
    possible::Name,
    problem::{Problem, Severity},
    secrets::{NamedSecret, WrittenSecrets},
    units,
    yaml::{Entry, Flaw, Node, Place, Value},
};

/// What one check of a file carries along.
pub(super) struct Check<'a> {
    pub(super) environment: &'a Environment,
    /// Whether secrets are looked up, or only what names them is read.
    pub(super) looks_up_secrets: bool,
    /// The secrets that are named.
    pub(super) named: Vec<NamedSecret>,
    /// The folder of hooks.yaml, absolute; relative paths begin there.
    pub(super) folder: PathBuf,
    /// Whether people other than its owner may read the file.
    pub(super) readable_by_others: bool,
    pub(super) written: WrittenSecrets,
    /// What is known of users, since a name service may be slow and thousands of hooks may name the same one.
    pub(super) users: HashMap<String, Option<u32>>,
    /// Globs that are compiled already: thousands of hooks listen to `main`, and compiling is what takes the time.
    pub(super) patterns: HashMap<(Name, Vec<String>), Judged>,
    file: &'a Path,
    problems: Vec<Problem>,
    errors: usize,
    hidden: Vec<Place>,
}

impl<'a> Check<'a> {
    pub(super) fn new(file: &'a Path, folder: PathBuf, readable_by_others: bool, environment: &'a Environment) -> Self {
        let (written, users) = (WrittenSecrets::default(), HashMap::new());
        let (patterns, problems, hidden) = (HashMap::new(), Vec::new(), Vec::new());
        let (looks_up_secrets, named, errors) = (true, Vec::new(), 0);
        Self {
            environment,
            looks_up_secrets,
            named,
            folder,
            readable_by_others,
            written,
            users,
            patterns,
            file,
            problems,
            errors,
            hidden,
        }
    }

    pub(super) fn error(&mut self, place: Place, code: &'static str, message: impl Display, help: impl Display) {
        self.errors += 1;
        self.note(Severity::Error, place, code, message.to_string(), help.to_string());
    }

    pub(super) fn warn(&mut self, place: Place, code: &'static str, message: impl Display, help: impl Display) {
        self.note(Severity::Warning, place, code, message.to_string(), help.to_string());
    }

    /// How many errors there are so far.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    pub(super) fn flaw(&mut self, flaw: Flaw) {
        self.error(flaw.place, flaw.code, flaw.message, flaw.help);
    }

    fn note(&mut self, severity: Severity, place: Place, code: &'static str, message: String, help: String) {
        let help = Some(help).filter(|it| !it.is_empty());
        let end_column = if place.end_line == place.line { place.end_column } else { usize::MAX };
        let Place { line, column, .. } = place;
        let file = self.file.to_owned();
        self.problems.push(Problem { file, line, column, end_column, code, severity, message, help });
    }

    /// What stands there is a secret, or was meant to be one: no problem may show it.
    pub(super) fn hide(&mut self, place: Place) {
        self.hidden.push(place);
    }

    /// The same for a value that may be a list; a map says only where a secret is.
    fn hide_texts(&mut self, node: &Node) {
        match &node.value {
            Value::Text(_) => self.hide(node.place),
            Value::List(items) => items.iter().for_each(|it| self.hide_texts(it)),
            Value::Null | Value::Map(_) => (),
        }
    }

    /// All problems in the order of the file, each once, and the text with its secrets struck out.
    pub(super) fn finish(self, text: &str) -> (Vec<Problem>, String, WrittenSecrets) {
        let mut problems = self.problems;
        problems.sort_by(|a, b| (a.line, a.column, a.code, &a.message).cmp(&(b.line, b.column, b.code, &b.message)));
        problems.dedup();
        let lengths: Vec<usize> = text.lines().map(|it| it.chars().count()).collect();
        for problem in &mut problems {
            let length = problem.line.checked_sub(1).and_then(|it| lengths.get(it)).copied().unwrap_or_default();
            problem.end_column = problem.end_column.min(length + 1).max(problem.column + 1);
        }
        (problems, strike_out(text, &self.hidden), self.written)
    }
}

/// The text with every character of those places replaced.
fn strike_out(text: &str, hidden: &[Place]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for place in hidden {
        for number in place.line..=place.end_line {
            let Some(line) = number.checked_sub(1).and_then(|it| lines.get_mut(it)) else { continue };
            let from = if number == place.line { place.column } else { 1 };
            let to = if number == place.end_line { place.end_column } else { usize::MAX };
            let struck = |(index, it)| if (from..to).contains(&(index + 1)) { '*' } else { it };
            *line = line.chars().enumerate().map(struck).collect();
        }
    }
    lines.join("\n")
}

/// A key with its value, as it is read.
#[derive(Clone, Debug)]
pub(super) struct Field<'t> {
    /// Its path of keys, for messages and for the names of written secrets: `hooks.website.timeout`.
    pub(super) path: String,
    pub(super) key: &'t str,
    pub(super) key_place: Place,
    pub(super) node: &'t Node,
}

impl<'t> Field<'t> {
    fn of(entry: &'t Entry, parent: &str) -> Self {
        let path = if parent.is_empty() { entry.key.clone() } else { format!("{parent}.{}", entry.key) };
        Self { path, key: &entry.key, key_place: entry.key_place, node: &entry.node }
    }

    pub(super) fn place(&self) -> Place {
        self.node.place
    }

    /// Notes that the value is not what it should be.
    pub(super) fn refuse(&self, check: &mut Check, code: &'static str, message: impl Display, help: impl Display) {
        check.error(self.place(), code, format_args!("`{}` {message}", self.path), help);
    }

    fn wrong_type<T>(&self, check: &mut Check, expected: &str) -> Option<T> {
        let found = match &self.node.value {
            Value::Null => {
                let help = format!("write {expected} after the colon, or remove the key");
                check.error(self.key_place, "no-value", format_args!("`{}` has no value", self.path), help);
                return None;
            }
            Value::Text(_) => "a plain value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        };
        let help = match self.key {
            "on" => "write it like `on: {push: main}`",
            "deploy" => "write it like `deploy: {path: /srv/website}`",
            "health" => "write it like `health: {http: \"http://127.0.0.1:8080/up\"}`",
            "retry" => "write it like `retry: {max: 2, on: [tempfail, fetch]}`",
            "hooks" | "sources" => "write a name for each entry, and its keys below it",
            _ => "",
        };
        self.refuse(check, "wrong-type", format_args!("must be {expected}, not {found}"), help);
        None
    }

    /// Text that may be empty.
    pub(super) fn any_text(&self, check: &mut Check) -> Option<&'t str> {
        match &self.node.value {
            Value::Text(text) if text.contains('\0') => {
                self.refuse(check, "bad-text", "holds a NUL character", "no program can take that as an argument");
                None
            }
            Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => self.wrong_type(check, "text"),
        }
    }

    /// Text that is not empty.
    pub(super) fn text(&self, check: &mut Check) -> Option<&'t str> {
        let text = self.any_text(check)?;
        if text.trim().is_empty() {
            self.refuse(check, "empty-value", "is empty", "give it a value, or remove the key");
            return None;
        }
        Some(text)
    }

    /// Text that another parser understands; the error says what would have been right.
    pub(super) fn parsed<T, E: Display>(
        &self,
        check: &mut Check,
        code: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(check)?;
        let parsed = parse(text);
        parsed.map_err(|help| self.refuse(check, code, format_args!("cannot be `{}`", shortened(text)), help)).ok()
    }

    pub(super) fn flag(&self, check: &mut Check) -> Option<bool> {
        self.parsed(check, "wrong-type", |text| match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            _ => Err("write `true` or `false`"),
        })
    }

    pub(super) fn number(&self, check: &mut Check, range: RangeInclusive<i64>) -> Option<i64> {
        self.parsed(check, "bad-number", |text| match text.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            Ok(_) | Err(_) => Err(format!("write a whole number from {} to {}", range.start(), range.end())),
        })
    }

    /// A duration that may be zero.
    pub(super) fn duration(&self, check: &mut Check) -> Option<Duration> {
        self.parsed(check, "bad-duration", units::duration)
    }

    /// A duration longer than zero: of a limit, which would otherwise end everything at once.
    pub(super) fn limit(&self, check: &mut Check) -> Option<Duration> {
        let limit = self.duration(check)?;
        if limit.is_zero() {
            self.refuse(
                check,
                "bad-duration",
                "is a limit and cannot be zero",
                "write one that is long enough, like `24h`",
            );
            return None;
        }
        Some(limit)
    }

    pub(super) fn size(&self, check: &mut Check, least: u64, most: u64) -> Option<u64> {
        self.parsed(check, "bad-size", |text| match units::size(text) {
            Ok(bytes) if (least..=most).contains(&bytes) => Ok(bytes),
            Ok(_) => Err(format!("write one from {} to {}", units::size_text(least), units::size_text(most))),
            Err(help) => Err(help.to_owned()),
        })
    }

    /// One of a few words.
    pub(super) fn choice<T: Clone>(&self, check: &mut Check, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(check)?;
        if let Some((_, found)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(found.clone());
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = match keys::nearest(text, &words) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of: {}", words.join(", ")),
        };
        self.refuse(check, "unknown-word", format_args!("cannot be `{}`", shortened(text)), help);
        None
    }

    /// A path; a relative one begins in the folder of hooks.yaml.
    pub(super) fn path(&self, check: &mut Check) -> Option<PathBuf> {
        let text = self.text(check)?;
        if text.starts_with('~') {
            self.refuse(check, "bad-path", "begins with `~`, which only shells understand", "write the path out");
            return None;
        }
        Some(check.folder.join(text))
    }

    /// The items of a list; anything else stands for a list of one.
    pub(super) fn items(&self, check: &mut Check) -> Option<Vec<Field<'t>>> {
        match &self.node.value {
            Value::Null => self.wrong_type(check, "a value or a list"),
            Value::Text(_) | Value::Map(_) => Some(vec![self.clone()]),
            Value::List(items) => {
                let item = |(index, node): (usize, &'t Node)| Field {
                    path: format!("{}[{index}]", self.path),
                    key: self.key,
                    key_place: node.place,
                    node,
                };
                Some(items.iter().enumerate().map(item).collect())
            }
        }
    }

    /// Each item read; those that cannot be are left out, and noted.
    pub(super) fn each<T>(&self, check: &mut Check, read: impl Fn(&Self, &mut Check) -> Option<T>) -> Option<Vec<T>> {
        let items = self.items(check)?;
        Some(items.iter().filter_map(|it| read(it, check)).collect())
    }

    /// A map with these keys and no other.
    pub(super) fn section(&self, check: &mut Check, known: &[&str]) -> Option<Section<'t>> {
        let section = self.names(check)?;
        section.refuse_unknown(check, known);
        Some(section)
    }

    /// A map whose keys are names that people choose.
    pub(super) fn names(&self, check: &mut Check) -> Option<Section<'t>> {
        match &self.node.value {
            Value::Map(entries) => Some(Section::open(&self.path, self.key_place, entries, check)),
            Value::Null | Value::Text(_) | Value::List(_) => self.wrong_type(check, "a map"),
        }
    }
}

/// A map whose keys are being read.
#[derive(Clone, Debug)]
pub(super) struct Section<'t> {
    pub(super) path: String,
    /// Where to point when something is missing: the key that holds the map.
    pub(super) place: Place,
    /// All entries, also those whose key came before.
    pub(super) fields: Vec<Field<'t>>,
}

impl<'t> Section<'t> {
    /// Opens a map and notes its repeated keys.
    pub(super) fn open(path: &str, place: Place, entries: &'t [Entry], check: &mut Check) -> Self {
        let mut lines: HashMap<&str, usize> = HashMap::with_capacity(entries.len());
        for entry in entries {
            let name = &entry.key;
            if keys::OF_SECRETS.contains(&name.as_str()) {
                check.hide_texts(&entry.node);
            }
            if let Some(line) = lines.get(name.as_str()) {
                let help = format!("it stands in line {line} too: keep one of them");
                let inside = if path.is_empty() { "at the top level".to_owned() } else { format!("in `{path}`") };
                let message = format!("key `{}` is repeated {inside}", shortened(name));
                check.error(entry.key_place, "duplicate-key", message, help);
            } else {
                lines.insert(name, entry.key_place.line);
            }
        }
        let fields = entries.iter().map(|it| Field::of(it, path)).collect();
        Self { path: path.to_owned(), place, fields }
    }

    pub(super) fn refuse_unknown(&self, check: &mut Check, known: &[&str]) {
        for field in self.fields.iter().filter(|it| !known.contains(&it.key)) {
            let advice = keys::advise(field.key, known);
            if keys::OF_SECRETS.iter().any(|it| advice.contains(it)) {
                check.hide_texts(field.node);
            }
            let inside =
                if self.path.is_empty() { "at the top level".to_owned() } else { format!("in `{}`", self.path) };
            let message = format!("key `{}` is unknown {inside}", shortened(field.key));
            check.error(field.key_place, "unknown-key", message, advice);
        }
    }

    /// Whether an unknown key was probably meant to be one of these: then that one is not missing but misspelt, which
    /// is one mistake and reported as one.
    pub(super) fn misspells(&self, keys: &[&str], known: &[&[&str]]) -> bool {
        let known = known.concat();
        let unknown = self.fields.iter().filter(|it| !known.contains(&it.key));
        unknown.filter_map(|it| keys::nearest(it.key, &known)).any(|it| keys.contains(&it))
    }

    /// The first entry of that key.
    pub(super) fn get(&self, key: &str) -> Option<&Field<'t>> {
        self.fields.iter().find(|it| it.key == key)
    }

    /// The value of a key, or the default if it is absent. A bad value is noted, and the default stands in for it:
    /// the file is refused anyway, and the rest of it can still be checked.
    pub(super) fn read<T>(
        &self,
        key: &str,
        check: &mut Check,
        default: T,
        read: impl FnOnce(&Field<'t>, &mut Check) -> Option<T>,
    ) -> T {
        self.get(key).and_then(|it| read(it, check)).unwrap_or(default)
    }

    /// Notes that a key is missing.
    pub(super) fn miss(&self, check: &mut Check, what: &str, help: impl Display) {
        check.error(self.place, "missing-key", format_args!("`{}` has no {what}", self.path), help);
    }
}

/// A value short enough for a message.
pub(super) fn shortened(text: &str) -> String {
    const LENGTH_MAX: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= LENGTH_MAX && line.len() == text.trim_end().len() {
        return line.to_owned();
    }
    let begin: String = line.chars().take(LENGTH_MAX).collect();
    format!("{begin}...")
}
