//! Reads JSON without trust: picks the keys that a forge's file asks for, and takes nothing else for granted.
//!
//! Invariant: a value of an unexpected type is no error, a repeated key that is read is one, and neither depth nor
//! length of a body makes reading it cost more than its size.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::error::Category;

use crate::forge::Rejection;

/// No text that we read may be longer and still be what we want, so the rest is not kept.
const TEXT_BYTES_MAX: usize = 4096;

/// The keys of `T`, out of a body that must be one JSON object.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Rejection> {
    let text = std::str::from_utf8(body).map_err(|_| Rejection::BadJson("it is not UTF-8".into()))?;
    match serde_json::from_str::<Object<T>>(text) {
        Ok(Object::Is(value)) => Ok(value),
        Ok(Object::Absent | Object::Other) => Err(Rejection::BadPayload("the body is not a JSON object".into())),
        // Types are never wrong here, so this can only be a repeated key.
        Err(err) if err.classify() == Category::Data => Err(Rejection::BadPayload(err.to_string())),
        Err(err) => Err(Rejection::BadJson(err.to_string())),
    }
}

/// Like [`read`], for keys that must never refuse a body: what cannot be decoded (half of a surrogate pair in a
/// commit message) leaves all of them out. A repeated key is still an error.
pub(super) fn read_optional<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Rejection> {
    match read(body) {
        Err(Rejection::BadJson(_)) => Ok(T::default()),
        other => other,
    }
}

/// A value without parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Scalar {
    /// The key is not there.
    #[default]
    Absent,
    Text(String),
    Number(u64),
    Flag(bool),
    /// Null, another number, or a value with parts.
    Other,
}

impl Scalar {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Number(_) | Self::Flag(_) | Self::Other => None,
        }
    }

    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Absent | Self::Text(_) | Self::Flag(_) | Self::Other => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        *self == Self::Flag(true)
    }
}

/// An object, of which we read the keys of `T`.
#[derive(Debug, Default)]
pub(super) enum Object<T> {
    /// The key is not there.
    #[default]
    Absent,
    Is(T),
    /// Any other type.
    Other,
}

impl<T> Object<T> {
    pub(super) fn get(&self) -> Option<&T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Other => None,
        }
    }
}

/// A list of objects, of which we need how many there are and the last one.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) count: Option<u64>,
    pub(super) last: Object<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { count: None, last: Object::Absent }
    }
}

/// A list of words, of which no more are kept than anybody wants to read; `None`: it is another type.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) Option<Vec<String>>);

/// The forge with the most events has a hundred.
const WORDS_MAX: usize = 200;

/// One visitor for all four: each type says what it makes of a value.
trait Loose: Sized {
    const OTHER: Self;
    fn of_text(_: &str) -> Self {
        Self::OTHER
    }
    fn of_number(_: u64) -> Self {
        Self::OTHER
    }
    fn of_flag(_: bool) -> Self {
        Self::OTHER
    }
    fn of_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::OTHER)
    }
    fn of_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::OTHER)
    }
}

impl Loose for Scalar {
    const OTHER: Self = Self::Other;
    fn of_text(text: &str) -> Self {
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|it| text.is_char_boundary(*it));
        Self::Text(text[..end.unwrap_or_default()].to_owned())
    }
    fn of_number(number: u64) -> Self {
        Self::Number(number)
    }
    fn of_flag(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl<T: DeserializeOwned> Loose for Object<T> {
    const OTHER: Self = Self::Other;
    fn of_map<'de, A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Self::Is)
    }
}

impl<T: DeserializeOwned> Loose for List<T> {
    const OTHER: Self = Self { count: None, last: Object::Absent };
    fn of_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut list = Self { count: Some(0), last: Object::Absent };
        while let Some(item) = seq.next_element()? {
            list.count = list.count.map(|it| it.saturating_add(1));
            list.last = item;
        }
        Ok(list)
    }
}

impl Loose for Words {
    const OTHER: Self = Self(None);
    fn of_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut words = Vec::new();
        while let Some(item) = seq.next_element::<Scalar>()? {
            words.extend(item.text().filter(|_| words.len() < WORDS_MAX).map(str::to_owned));
        }
        Ok(Self(Some(words)))
    }
}

struct LooseVisitor<L>(PhantomData<L>);

impl<'de, L: Loose> Visitor<'de> for LooseVisitor<L> {
    type Value = L;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON value")
    }
    fn visit_str<E>(self, text: &str) -> Result<L, E> {
        Ok(L::of_text(text))
    }
    fn visit_u64<E>(self, number: u64) -> Result<L, E> {
        Ok(L::of_number(number))
    }
    fn visit_i64<E>(self, _: i64) -> Result<L, E> {
        Ok(L::OTHER)
    }
    fn visit_f64<E>(self, _: f64) -> Result<L, E> {
        Ok(L::OTHER)
    }
    fn visit_bool<E>(self, flag: bool) -> Result<L, E> {
        Ok(L::of_flag(flag))
    }
    fn visit_unit<E>(self) -> Result<L, E> {
        Ok(L::OTHER)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<L, A::Error> {
        L::of_map(map)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<L, A::Error> {
        L::of_seq(seq)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}
