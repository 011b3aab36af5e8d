//! What the `.gitattributes` of a tree ask for, as far as it changes what is written.
//!
//! Invariant: attributes come from the tree that is written, never from a folder it is written to, nor from anybody's
//! configuration. Only how a clone keeps its line ends, where attributes leave it open, is the clone's own matter.

mod pattern;

mod encoding;

mod habit;

mod line;

mod convert;

mod foreign;

mod dates;

mod commit;

mod describing;

mod pretty;

mod subst;

use std::collections::{BTreeSet, HashMap};

use git2::{Oid, Repository};

use self::{
    convert::{Ids, LineEnds},
    encoding::Encoding,
    line::{Line, Macros, Rule, Said},
};
use crate::git::{
    GitFailure,
    entries::small_file,
    progress::{plain, say},
};
use crate::model::size::Size;

pub(in crate::git) use convert::Conversion;
pub(in crate::git) use foreign::filter_refusal;
pub(in crate::git) use habit::Habit;
pub(in crate::git) use pattern::Pattern;
pub(in crate::git) use subst::Substitution;

/// The name of such a file.
pub(in crate::git) const FILE_NAME: &[u8] = b".gitattributes";

/// What all of these files of a tree may have together.
const FILES_BYTES_MAX: usize = 4 << 20;

/// Git leaves longer lines out, too.
const LINE_BYTES_MAX: usize = 2048;

/// What the `.gitattributes` files of a tree ask for.
#[derive(Debug, Default)]
pub(in crate::git) struct Attributes {
    /// By the folder they are in: empty, or with a slash at its end.
    files: HashMap<Vec<u8>, Vec<Rule>>,
    /// The names that stand for others, which only the root's file gives.
    macros: Macros,
    /// Somewhere a file may differ from its blob.
    pub(in crate::git) has_filters: bool,
    /// Somewhere files are kept in Git LFS.
    pub(in crate::git) has_lfs: bool,
    /// Somewhere something is not exported.
    pub(in crate::git) has_export_ignore: bool,
    /// Somewhere a text names the commit it is exported from.
    pub(in crate::git) has_export_subst: bool,
    /// Somewhere a filter other than that of Git LFS would be run.
    pub(in crate::git) has_foreign_filters: bool,
    /// How line ends are kept where none of it says so.
    habit: Habit,
}

/// The attributes that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Text,
    /// What `text` was called once.
    Crlf,
    Eol,
    Ident,
    Filter,
    ExportIgnore,
    ExportSubst,
    Encoding,
}

const NAMES: [(&[u8], Name); 8] = [
    (b"text", Name::Text),
    (b"crlf", Name::Crlf),
    (b"eol", Name::Eol),
    (b"ident", Name::Ident),
    (b"filter", Name::Filter),
    (b"export-ignore", Name::ExportIgnore),
    (b"export-subst", Name::ExportSubst),
    (b"working-tree-encoding", Name::Encoding),
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Value {
    #[default]
    Unspecified,
    Set,
    Unset,
    Word(Vec<u8>),
}

impl Value {
    fn is(&self, word: &[u8]) -> bool {
        matches!(self, Self::Word(it) if it == word)
    }

    /// The encoding it names; `None`: we do not know it.
    fn encoding(&self) -> Option<Encoding> {
        match self {
            Self::Word(name) if !name.is_empty() => Encoding::parse(name),
            Self::Word(_) | Self::Set | Self::Unset | Self::Unspecified => Some(Encoding::Stays),
        }
    }

    /// The name of a filter that we know nothing of. To be set without a name means none, as it does to git.
    fn foreign_filter(&self) -> Option<&[u8]> {
        match self {
            Self::Word(name) if !name.is_empty() && name != b"lfs" => Some(name),
            Self::Word(_) | Self::Set | Self::Unset | Self::Unspecified => None,
        }
    }
}

/// What holds for one path.
#[derive(Debug, Default)]
pub(in crate::git) struct Settings {
    values: [Value; NAMES.len()],
    habit: Habit,
}

impl Settings {
    fn value(&self, name: Name) -> &Value {
        &self.values[name as usize]
    }

    /// Each attribute that matters here, as `git check-attr` shows it.
    pub(in crate::git) fn shown(self) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        let names = NAMES.iter().map(|(name, _)| std::str::from_utf8(name).unwrap_or_default());
        names.zip(self.values).map(|(name, value)| {
            let shown = match value {
                Value::Unspecified => b"unspecified".to_vec(),
                Value::Set => b"set".to_vec(),
                Value::Unset => b"unset".to_vec(),
                Value::Word(word) => word,
            };
            (name, shown)
        })
    }

    /// Whether Git LFS keeps it.
    pub(in crate::git) fn is_lfs(&self) -> bool {
        self.value(Name::Filter).is(b"lfs")
    }

    /// Whether it stays out of what is deployed.
    pub(in crate::git) fn is_export_ignored(&self) -> bool {
        *self.value(Name::ExportIgnore) == Value::Set
    }

    /// Whether its text names the commit it is exported from.
    pub(in crate::git) fn is_export_subst(&self) -> bool {
        *self.value(Name::ExportSubst) == Value::Set
    }

    /// The filter that would change it, other than that of Git LFS.
    pub(in crate::git) fn foreign_filter(&self) -> Option<&[u8]> {
        self.value(Name::Filter).foreign_filter()
    }

    /// How its file differs from its blob.
    pub(in crate::git) fn conversion(&self) -> Conversion {
        let (is_crlf, is_lf) = (self.value(Name::Eol).is(b"crlf"), self.value(Name::Eol).is(b"lf"));
        let mut text = self.value(Name::Text);
        let says_something = |it: &Value| matches!(it, Value::Set | Value::Unset) || it.is(b"auto") || it.is(b"input");
        if !says_something(text) {
            text = self.value(Name::Crlf);
        }
        // What is left to the clone's own habit.
        let (is_open, gives_crlf) = (!says_something(text) && !is_crlf, self.habit.gives_texts_crlf());
        let is_auto = !is_lf && (text.is(b"auto") || is_open && self.habit == Habit::Crlf);
        let line_ends = match text {
            Value::Unset => LineEnds::Stay,
            _ if is_lf => LineEnds::Stay,
            _ if is_auto && (is_crlf || gives_crlf) => LineEnds::CrlfIfText,
            _ if is_auto => LineEnds::Stay,
            _ if is_crlf => LineEnds::Crlf,
            Value::Set if gives_crlf => LineEnds::Crlf,
            Value::Word(_) | Value::Set | Value::Unspecified => LineEnds::Stay,
        };
        let encoding = self.value(Name::Encoding).encoding().unwrap_or_default();
        let ids = match self.value(Name::Ident) {
            Value::Set if is_auto || encoding != Encoding::Stays => Ids::InMemory,
            Value::Set => Ids::InPassing,
            Value::Unspecified | Value::Unset | Value::Word(_) => Ids::Stay,
        };
        Conversion { line_ends, ids, encoding }
    }
}

impl Attributes {
    /// Reads the given `.gitattributes` blobs, each with its path.
    pub(in crate::git) fn read<'a>(
        repo: &Repository,
        files: impl IntoIterator<Item = (&'a [u8], Oid)>,
    ) -> Result<Self, GitFailure> {
        let mut files: Vec<(&[u8], Oid)> = files.into_iter().collect();
        // The root's comes first: it alone may define macros.
        files.sort_by_key(|(path, _)| path.len());
        let (mut attributes, mut left_out, mut left) = (Self::default(), BTreeSet::new(), FILES_BYTES_MAX);
        for (path, id) in files {
            let folder = &path[..path.len() - FILE_NAME.len()];
            let content = small_file(repo, id, &plain(path))?;
            left = left.checked_sub(content.len()).ok_or_else(|| {
                let limit = Size(FILES_BYTES_MAX as u64);
                GitFailure::permanent(format!("the `.gitattributes` files of the tree have more than {limit} together"))
            })?;
            attributes.add(folder, &content, &mut left_out);
        }
        for name in left_out {
            say(&format!(
                "warning: `working-tree-encoding={name}` is left out: such files are written as they are stored"
            ));
        }
        Ok(attributes)
    }

    /// Adds the file of a folder, the root's first. Names of encodings that we do not know are added to those left out.
    pub(in crate::git) fn add(&mut self, folder: &[u8], content: &[u8], left_out: &mut BTreeSet<String>) {
        let text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        // To git the file is a string of C.
        let text = text.split(|it| *it == 0).next().unwrap_or_default();
        let lines = text.split(|it| *it == b'\n').filter(|it| it.len() < LINE_BYTES_MAX).filter_map(Line::parse);
        let mut written = Vec::new();
        for line in lines {
            match line {
                Line::Rule { pattern, words } => written.push((pattern, words)),
                // A macro may be used before it is defined.
                Line::Macro { name, words } if folder.is_empty() => self.macros.define(name, words),
                Line::Macro { .. } => (),
            }
        }
        self.macros.settle();
        let rule = |(pattern, words): (Pattern, Vec<line::Word>)| Rule { pattern, says: self.macros.known(&words) };
        let rules: Vec<Rule> = written.into_iter().map(rule).filter(|it| !it.says.is_empty()).collect();
        let said = rules.iter().flat_map(|it| &it.says).chain(self.macros.all_words());
        for (name, value) in said.filter_map(|(at, value)| Some((NAMES.get(*at)?.1, value))) {
            match name {
                Name::Text | Name::Crlf => (),
                Name::Eol => self.has_filters |= value.is(b"crlf"),
                Name::Ident => self.has_filters |= *value == Value::Set,
                Name::Filter => {
                    self.has_lfs |= value.is(b"lfs");
                    self.has_foreign_filters |= value.foreign_filter().is_some();
                }
                Name::ExportIgnore => self.has_export_ignore |= *value == Value::Set,
                Name::Encoding => match (value, value.encoding()) {
                    (_, Some(encoding)) => self.has_filters |= encoding != Encoding::Stays,
                    (Value::Word(name), None) => drop(left_out.insert(plain(name))),
                    (Value::Set | Value::Unset | Value::Unspecified, None) => (),
                },
                Name::ExportSubst => self.has_export_subst |= *value == Value::Set,
            }
        }
        self.files.insert(folder.to_vec(), rules);
    }

    /// The same, in a clone that keeps its line ends like this.
    pub(in crate::git) fn in_clone_of(self, habit: Habit) -> Self {
        Self { has_filters: self.has_filters || habit != Habit::Lf, habit, ..self }
    }

    /// Whether any of it changes what is written.
    pub(in crate::git) fn matter(&self) -> bool {
        self.has_filters || self.has_lfs || self.has_export_ignore
    }

    /// What holds for a path: the last word of the nearest file.
    pub(in crate::git) fn of(&self, path: &[u8], is_folder: bool) -> Settings {
        let mut said = Said::default();
        let folders = path.iter().enumerate().rev().filter(|(_, it)| **it == b'/').map(|(at, _)| at + 1);
        for start in folders.chain([0]) {
            let Some(rules) = self.files.get(&path[..start]) else { continue };
            for rule in rules.iter().rev().filter(|it| it.pattern.fits(&path[start..], is_folder)) {
                self.macros.say(&rule.says, &mut said);
            }
        }
        let mut settings = Settings { habit: self.habit, ..Settings::default() };
        for (value, said) in settings.values.iter_mut().zip(said.values) {
            *value = said.cloned().unwrap_or_default();
        }
        settings
    }
}

/// Whether the path is one of a `.gitattributes` file.
pub(in crate::git) fn is_attributes(path: &[u8]) -> bool {
    path.rsplit(|it| *it == b'/').next() == Some(FILE_NAME)
}
