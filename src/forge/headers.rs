//! Reads the headers that name a delivery, once its sender is proven.
//!
//! Invariant: a name that comes out of here is short and has no character that could end a line, a quote or a tag.

use hyper::HeaderMap;

use crate::forge::Rejection;

const EVENT_BYTES_MAX: usize = 64;
const ID_BYTES_MAX: usize = 256;

/// The event's name: letters, digits, spaces and underscores.
pub(super) fn event(headers: &HeaderMap, name: &'static str) -> Result<String, Rejection> {
    let value = optional(headers, name)?.ok_or(Rejection::MissingHeader(name))?;
    let is_name = (1..=EVENT_BYTES_MAX).contains(&value.len())
        && value.iter().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b' '));
    match std::str::from_utf8(value) {
        Ok(text) if is_name => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(Rejection::BadEvent(name)),
    }
}

/// The delivery's id, if the header is there.
pub(super) fn delivery_id(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Rejection> {
    let Some(value) = optional(headers, name)? else { return Ok(None) };
    let is_id = (1..=ID_BYTES_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(value) {
        Ok(text) if is_id => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(Rejection::BadDeliveryId(name)),
    }
}

fn optional<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a [u8]>, Rejection> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => Ok(Some(only.as_bytes())),
        (Some(_), Some(_)) => Err(Rejection::DuplicateHeader(name)),
    }
}
