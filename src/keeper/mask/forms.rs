//! The forms in which a secret is looked for: as it is, and as programs write it into something else.
//!
//! Invariant: what is looked for is at most some thirty times as long as the values, and each form of at least six bytes
//! unless it is a whole value.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::general_purpose::{GeneralPurpose, NO_PAD},
};

use super::SHORT_BYTES;

/// A value beyond this is looked for only as it is: no password, token or key is so long.
const ENCODED_BYTES_MAX: usize = 16 << 10;

/// Where `base64` and PEM break lines.
const LINE_WIDTHS: [usize; 2] = [76, 64];

/// All forms in which a value is looked for.
pub(super) fn of(value: &str) -> Vec<Vec<u8>> {
    let lines = value.lines().flat_map(|line| [line, line.trim()]).filter(|it| it.len() >= SHORT_BYTES);
    let plain = [value, value.trim()].into_iter().chain(lines).filter(|it| !it.is_empty());
    let mut forms: Vec<Vec<u8>> = plain.map(|it| it.as_bytes().to_vec()).collect();
    let wholes = [value, value.trim()].into_iter().filter(|it| (SHORT_BYTES..=ENCODED_BYTES_MAX).contains(&it.len()));
    for whole in wholes {
        forms.extend(base64(whole.as_bytes()));
        forms.extend(percent(whole.as_bytes()));
        forms.extend(json(whole).into_iter().map(String::into_bytes));
        // As a shell quotes it, also when it shows what it runs (`set -x`).
        forms.push(whole.replace('\'', "'\\''").into_bytes());
    }
    forms
}

/// In base64, whatever stands before and behind it: of each alignment the characters that the value alone decides.
fn base64(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, NO_PAD);
        for before in 0..3 {
            let encoded = engine.encode([&[0; 2][..before], value].concat());
            let decided = (before * 8).div_ceil(6)..(before + value.len()) * 8 / 6;
            forms.push(encoded.as_bytes()[decided].to_vec());
        }
        // Encoded alone, to its end.
        let encoded = engine.encode(value);
        forms.push(encoded.clone().into_bytes());
        for width in LINE_WIDTHS.into_iter().filter(|it| encoded.len() > *it) {
            forms.extend(encoded.as_bytes().chunks(width).filter(|it| it.len() >= SHORT_BYTES).map(<[u8]>::to_vec));
        }
    }
    forms
}

/// In a URL or a form. Languages differ in what they leave as it is.
fn percent(value: &[u8]) -> Vec<Vec<u8>> {
    const UPPER: &[u8; 16] = b"0123456789ABCDEF";
    const LOWER: &[u8; 16] = b"0123456789abcdef";
    let encode = |left: &[u8], space: &[u8], digits: &[u8; 16]| {
        let mut encoded = Vec::with_capacity(value.len() * 3);
        for byte in value {
            match byte {
                b' ' if !space.is_empty() => encoded.extend_from_slice(space),
                byte if byte.is_ascii_alphanumeric() || left.contains(byte) => encoded.push(*byte),
                byte => {
                    let (high, low) = (digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]);
                    encoded.extend([b'%', high, low]);
                }
            }
        }
        encoded
    };
    vec![
        // RFC 3986, and so most libraries.
        encode(b"-_.~", b"", UPPER),
        encode(b"-_.~", b"", LOWER),
        // Python's `quote`, which takes it for a path.
        encode(b"-_.~/", b"", UPPER),
        // `encodeURIComponent`, and `encodeURI`.
        encode(b"-_.!~*'()", b"", UPPER),
        encode(b"-_.!~*'();,/?:@&=+$#", b"", UPPER),
        // Forms of HTML, and older libraries.
        encode(b"-_.*", b"+", UPPER),
        encode(b"-_.", b"+", UPPER),
        encode(b"-_.~", b"+", UPPER),
    ]
}

/// In a string of JSON, as most write it; with all that is not ASCII escaped; with slashes escaped, too; and as text of JSON
/// within a string of JSON.
fn json(value: &str) -> Vec<String> {
    let plain = escaped(value, false);
    let ascii = escaped(value, true);
    let (slashes, inner) = (ascii.replace('/', "\\/"), escaped(&plain, false));
    let inner_ascii = escaped(&ascii, false);
    vec![plain.replace('/', "\\/"), plain, ascii, slashes, inner, inner_ascii]
}

fn escaped(text: &str, is_ascii_only: bool) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            it if it.is_control() && it.is_ascii() || is_ascii_only && !it.is_ascii() => {
                let mut units = [0; 2];
                it.encode_utf16(&mut units).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
            }
            it => escaped.push(it),
        }
    }
    escaped
}
