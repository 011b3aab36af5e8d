//! Says in which of the forms that we read a body is written, by its headers alone.
//!
//! Invariant: a body in any other form, charset or compression is never read.

use hyper::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use thiserror::Error;

use crate::model::source::Forge;

/// The form in which a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// JSON in UTF-8.
    Json,
    /// `application/x-www-form-urlencoded` with the JSON in its field `payload`; only GitHub sends that.
    Form,
}

/// Why a body will not be read. The texts are for the sender too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    /// It says that it is something else, or nothing at all.
    #[error("the body must be application/json in UTF-8")]
    NotJson,
    /// It says that it is something else, or nothing at all, and a form would do as well.
    #[error("the body must be application/json in UTF-8, or application/x-www-form-urlencoded")]
    NeitherJsonNorForm,
    /// It is compressed.
    #[error("the body must not have a content encoding")]
    Encoded,
}

impl Media {
    /// The form that the headers of a request to a source of this forge announce.
    pub fn announced(forge: Forge, headers: &HeaderMap) -> Result<Self, Unreadable> {
        let is_plain = |value: &[u8]| value.is_empty() || value.eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(|it| is_plain(it.as_bytes())) {
            return Err(Unreadable::Encoded);
        }
        let refusal = match forge {
            Forge::GitHub => Unreadable::NeitherJsonNorForm,
            Forge::GitLab => Unreadable::NotJson,
        };
        let mut values = headers.get_all(CONTENT_TYPE).into_iter();
        let (Some(only), None) = (values.next(), values.next()) else { return Err(refusal) };
        let text = only.to_str().map_err(|_| refusal)?;
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default();
        if !parts.all(is_harmless_parameter) {
            return Err(refusal);
        }
        match forge {
            Forge::GitHub | Forge::GitLab if essence.eq_ignore_ascii_case("application/json") => Ok(Self::Json),
            Forge::GitHub if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") => Ok(Self::Form),
            Forge::GitHub | Forge::GitLab => Err(refusal),
        }
    }
}

/// Any parameter but a charset other than UTF-8 (of which ASCII is a part).
fn is_harmless_parameter(text: &str) -> bool {
    let Some((name, value)) = text.split_once('=') else { return text.is_empty() };
    let value = value.trim().trim_matches('"');
    !name.trim().eq_ignore_ascii_case("charset")
        || ["utf-8", "utf8", "us-ascii"].iter().any(|it| value.eq_ignore_ascii_case(it))
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, header::HeaderValue};

    use super::{Media, Unreadable};
    use crate::model::source::Forge;

    fn announced(forge: Forge, lines: &[(&'static str, &'static str)]) -> Result<Media, Unreadable> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Media::announced(forge, &headers)
    }

    #[test]
    fn json_in_utf_8_is_read_from_both_and_a_form_from_github_only() {
        for json in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
            assert_eq!(announced(Forge::GitHub, &[("content-type", json)]), Ok(Media::Json), "{json}");
            assert_eq!(announced(Forge::GitLab, &[("content-type", json)]), Ok(Media::Json), "{json}");
        }
        let form = [("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(announced(Forge::GitHub, &form), Ok(Media::Form));
        assert_eq!(announced(Forge::GitLab, &form), Err(Unreadable::NotJson));
    }

    #[test]
    fn any_other_form_charset_or_compression_is_not_read() {
        for bad in ["", "text/plain", "application/json; charset=utf-16", "application/jsonx", "application/json x"] {
            assert!(announced(Forge::GitHub, &[("content-type", bad)]).is_err(), "{bad}");
        }
        assert!(announced(Forge::GitHub, &[]).is_err());
        let json = ("content-type", "application/json");
        assert!(announced(Forge::GitHub, &[json, json]).is_err());
        let gzip = ("content-encoding", "gzip");
        assert_eq!(announced(Forge::GitHub, &[json, gzip]), Err(Unreadable::Encoded));
        let identity = ("content-encoding", "identity");
        assert_eq!(announced(Forge::GitHub, &[json, identity]), Ok(Media::Json));
        assert_eq!(announced(Forge::GitHub, &[json, identity, gzip]), Err(Unreadable::Encoded));
    }
}
