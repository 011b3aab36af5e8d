//! How nouns of the model are written in an errand: each as the text that people write it as.
//!
//! `#[serde(with = "text_form")]` on a field writes it so, and so is an option of one.
//!
//! Invariant: what comes back is what went out.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::model::{
    deploy::{Clean, Depth, Dirty, Lfs, Submodules, UnknownFilters},
    job::Asked,
    name::HookName,
    push::{CommitId, RefName},
    release::{ReleaseName, Verdict},
    run::{FailureClass, RunId},
    secret::Secret,
};

/// Something with one text form.
pub trait TextForm: Sized {
    /// The text.
    fn text(&self) -> String;

    /// What the text stands for.
    fn read(text: &str) -> Option<Self>;
}

/// One noun, or perhaps one.
pub trait Field: Sized {
    /// The text; `None` is nothing.
    fn to_text(&self) -> Option<String>;

    /// What a text, or nothing, stands for.
    fn from_text(text: Option<&str>) -> Option<Self>;
}

impl<T: TextForm> Field for T {
    fn to_text(&self) -> Option<String> {
        Some(self.text())
    }

    fn from_text(text: Option<&str>) -> Option<Self> {
        T::read(text?)
    }
}

impl<T: TextForm> Field for Option<T> {
    fn to_text(&self) -> Option<String> {
        self.as_ref().map(TextForm::text)
    }

    fn from_text(text: Option<&str>) -> Option<Self> {
        text.map_or(Some(None), |it| T::read(it).map(Some))
    }
}

/// Writes a field.
pub fn serialize<F: Field, S: Serializer>(field: &F, serializer: S) -> Result<S::Ok, S::Error> {
    field.to_text().serialize(serializer)
}

/// Reads a field.
pub fn deserialize<'a, F: Field, D: Deserializer<'a>>(deserializer: D) -> Result<F, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    F::from_text(text.as_deref()).ok_or_else(|| D::Error::custom("a word that means nothing"))
}

macro_rules! text_forms {
    ($($name:ty: $text:expr, $read:expr;)+) => {
        $(impl TextForm for $name {
            fn text(&self) -> String {
                let text: fn(&Self) -> String = $text;
                text(self)
            }

            fn read(text: &str) -> Option<Self> {
                let read: fn(&str) -> Option<Self> = $read;
                read(text)
            }
        })+
    };
}

text_forms! {
    CommitId: ToString::to_string, Self::parse;
    RefName: Self::full, Self::parse;
    HookName: ToString::to_string, Self::parse;
    ReleaseName: ToString::to_string, Self::parse;
    RunId: |it| it.0.to_string(), |it| it.parse().ok().map(Self);
    Secret: |it| it.expose().to_owned(), |it| Self::new(it.to_owned());
    Asked: |it| it.word().to_owned(), Self::parse;
    Clean: |it| it.word().to_owned(), Self::parse;
    Dirty: |it| it.word().to_owned(), Self::parse;
    Depth: depth_word, depth;
    UnknownFilters: |it| it.word().to_owned(), Self::parse;
    Lfs: |it| it.word().to_owned(), Self::parse;
    Submodules: |it| it.word().to_owned(), Self::parse;
    Verdict: |it| it.word().to_owned(), Self::parse;
    FailureClass: |it| class_word(*it).to_owned(), class;
    Duration: |it| it.as_millis().to_string(), |it| it.parse().ok().map(Duration::from_millis);
}

fn depth_word(depth: &Depth) -> String {
    match depth {
        Depth::Auto => "auto".to_owned(),
        Depth::All => "all".to_owned(),
        Depth::Commits(number) => number.to_string(),
    }
}

fn depth(word: &str) -> Option<Depth> {
    match word {
        "auto" => Some(Depth::Auto),
        "all" => Some(Depth::All),
        number => number.parse().ok().map(Depth::Commits),
    }
}

const CLASSES: [FailureClass; 4] =
    [FailureClass::Tempfail, FailureClass::Fetch, FailureClass::Other, FailureClass::Permanent];

fn class_word(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Tempfail => "tempfail",
        FailureClass::Fetch => "fetch",
        FailureClass::Other => "other",
        FailureClass::Permanent => "permanent",
    }
}

fn class(word: &str) -> Option<FailureClass> {
    CLASSES.into_iter().find(|it| class_word(*it) == word)
}

/// What a job is about, as a word and what belongs to it.
pub mod target {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use crate::model::{
        job::Target,
        push::{CommitId, RefName},
    };

    #[derive(Serialize, Deserialize)]
    enum Form {
        Commit(#[serde(with = "super")] CommitId, #[serde(with = "super")] Option<RefName>),
        Ref(#[serde(with = "super")] RefName),
        DefaultBranch,
        /// What stands already is never fetched.
        Standing,
    }

    /// Writes it.
    pub fn serialize<S: Serializer>(target: &Target, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match target.clone() {
            Target::Commit { commit, ref_name } => Form::Commit(commit, ref_name),
            Target::Ref(ref_name) => Form::Ref(ref_name),
            Target::DefaultBranch => Form::DefaultBranch,
            Target::Release { .. } | Target::Standing => Form::Standing,
        };
        form.serialize(serializer)
    }

    /// Reads it.
    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Target, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Commit(commit, ref_name) => Target::Commit { commit, ref_name },
            Form::Ref(ref_name) => Target::Ref(ref_name),
            Form::DefaultBranch => Target::DefaultBranch,
            Form::Standing => return Err(D::Error::custom("what stands already is not fetched")),
        })
    }
}

/// What a commit says of itself, as three texts.
pub mod commit_facts {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::push::CommitFacts;

    /// Writes them.
    pub fn serialize<S: Serializer>(facts: &CommitFacts, serializer: S) -> Result<S::Ok, S::Error> {
        (&facts.subject, &facts.author, &facts.author_email).serialize(serializer)
    }

    /// Reads them.
    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<CommitFacts, D::Error> {
        let (subject, author, author_email) = Deserialize::deserialize(deserializer)?;
        Ok(CommitFacts { subject, author, author_email })
    }
}
