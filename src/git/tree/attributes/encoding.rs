//! The encodings that files of a working tree may have while their blobs are UTF-8 (`working-tree-encoding`).
//!
//! Invariant: the same bytes as git writes with the GNU C library; a blob that has no such form stays as it is stored,
//! as it does with git.

/// What a file is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::git) enum Encoding {
    #[default]
    Stays,
    Utf16 {
        order: Order,
        has_mark: bool,
    },
    Latin1,
}

/// Which byte of two comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::git) enum Order {
    Little,
    Big,
}

/// What the C library takes where nobody says anything.
const NATIVE: Order = if cfg!(target_endian = "big") { Order::Big } else { Order::Little };

impl Encoding {
    /// The encoding of that name; `None`: we do not know it.
    pub(in crate::git) fn parse(name: &[u8]) -> Option<Self> {
        let utf16 = |order, has_mark| Some(Self::Utf16 { order, has_mark });
        let lower = name.to_ascii_lowercase();
        let Some(kind) = lower.strip_prefix(b"utf") else {
            return is_latin1(Some(name)).then_some(Self::Latin1);
        };
        match kind.strip_prefix(b"-").unwrap_or(kind) {
            b"8" => Some(Self::Stays),
            b"16" => utf16(NATIVE, true),
            b"16le" => utf16(Order::Little, false),
            b"16be" => utf16(Order::Big, false),
            b"16le-bom" => utf16(Order::Little, true),
            b"16be-bom" => utf16(Order::Big, true),
            _ => None,
        }
    }

    /// A text in this encoding; `None`: it has no such form.
    pub(in crate::git) fn encode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Stays => None,
            Self::Latin1 => to_latin1(text),
            Self::Utf16 { .. } if text.is_empty() => None,
            Self::Utf16 { order, has_mark } => {
                let text = std::str::from_utf8(text).ok()?;
                let units = has_mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
                let bytes = units.map(|it| match order {
                    Order::Little => it.to_le_bytes(),
                    Order::Big => it.to_be_bytes(),
                });
                Some(bytes.flatten().collect())
            }
        }
    }
}

/// Whether it is ISO-8859-1, by one of the names it has.
pub(in crate::git) fn is_latin1(name: Option<&[u8]>) -> bool {
    let names = ["iso-8859-1", "iso8859-1", "iso_8859-1", "iso88591", "latin1", "latin-1", "l1"];
    name.is_some_and(|it| names.iter().any(|name| it.eq_ignore_ascii_case(name.as_bytes())))
}

pub(in crate::git) fn from_latin1(text: &[u8]) -> Vec<u8> {
    text.iter().map(|it| char::from(*it)).collect::<String>().into_bytes()
}

/// The text in ISO-8859-1; `None`: it is not UTF-8, or has other letters.
pub(in crate::git) fn to_latin1(text: &[u8]) -> Option<Vec<u8>> {
    // The C library drops the letters that only tag a language.
    let is_tag = |it: char| matches!(it, '\u{e0000}'..='\u{e007f}');
    let letters = std::str::from_utf8(text).ok()?.chars().filter(|it| !is_tag(*it));
    letters.map(|it| u8::try_from(it).ok()).collect()
}
