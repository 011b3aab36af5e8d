//! Takes the JSON out of a form: the field `payload` of `application/x-www-form-urlencoded`.
//!
//! Invariant: there is exactly one such field, however its name is written, or there is no payload.

use crate::forge::Rejection;

/// The bytes of the one field `payload`.
pub(super) fn payload(body: &[u8]) -> Result<Vec<u8>, Rejection> {
    let mut found = None;
    for field in body.split(|it| *it == b'&') {
        let mut halves = field.splitn(2, |it| *it == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        if decode(name)? != b"payload" {
            continue;
        }
        if found.replace(decode(value)?).is_some() {
            return Err(Rejection::BadPayload("the form has more than one field `payload`".into()));
        }
    }
    found.ok_or_else(|| Rejection::BadPayload("the form has no field `payload`".into()))
}

fn decode(text: &[u8]) -> Result<Vec<u8>, Rejection> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        decoded.push(match (first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, tail @ ..]) => {
                rest = tail;
                hex_digit(*high)? * 16 + hex_digit(*low)?
            }
            (b'%', _) => return Err(malformed()),
            (plain, _) => *plain,
        });
    }
    Ok(decoded)
}

fn hex_digit(digit: u8) -> Result<u8, Rejection> {
    let value = char::from(digit).to_digit(16).and_then(|it| u8::try_from(it).ok());
    value.ok_or_else(malformed)
}

fn malformed() -> Rejection {
    Rejection::BadPayload("the form has a `%` without two hex digits".into())
}

#[cfg(test)]
mod tests {
    use super::payload;

    #[test]
    fn the_one_payload_is_decoded() {
        assert_eq!(payload(b"a=1&payload=%7B%22a%22%3A+1%7D&b"), Ok(b"{\"a\": 1}".to_vec()));
        assert_eq!(payload(b"payload=a=b"), Ok(b"a=b".to_vec()));
    }

    #[test]
    fn none_two_or_a_broken_escape_are_no_payload() {
        for bad in
            ["", "a=1", "payload=1&payload=1", "payload=1&%70ayload=2", "payload=%7", "payload=%+1", "payload=%g1"]
        {
            assert!(payload(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
