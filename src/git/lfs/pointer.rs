//! The small text that stands for a file that is kept elsewhere.
//!
//! Invariant: what is read of it is a SHA-256 in lower case and a length, so it names a file and leads nowhere.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use git2::{ObjectType, Oid};
use sha2::{Digest, Sha256};

/// A pointer is small (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
pub(super) const BYTES_MAX: usize = 1024;

/// The first line of every pointer; the second form is what LFS was called once.
const VERSIONS: [&[u8]; 2] =
    [b"version https://git-lfs.github.com/spec/v1", b"version https://hawser.github.com/spec/v1"];

/// What stands for a file that is kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Pointer {
    /// The SHA-256 of the file, in hex.
    pub(in super::super) oid: String,
    /// Its length in bytes.
    pub(in super::super) size: u64,
}

impl Pointer {
    /// The pointer that a blob is, if it is one.
    pub(in super::super) fn parse(blob: &[u8]) -> Option<Self> {
        let mut lines = blob.split(|it| *it == b'\n').map(|it| it.strip_suffix(b"\r").unwrap_or(it));
        if !VERSIONS.contains(&lines.next()?) {
            return None;
        }
        let (mut oid, mut size) = (None, None);
        // A key that is there twice would name one file to us and another to git-lfs.
        let mut keys = HashSet::from(["version"]);
        for line in lines {
            let text = std::str::from_utf8(line).ok()?;
            match text.split_once(' ') {
                Some((key, _)) if !keys.insert(key) => return None,
                Some(("oid", value)) => oid = value.strip_prefix("sha256:"),
                Some(("size", value)) => size = whole_number(value),
                // An extension's line; what it would do to the file is its own matter.
                Some(_) => (),
                None if text.is_empty() => (),
                None => return None,
            }
        }
        let oid = oid.filter(|it| it.len() == 64 && it.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')))?;
        Some(Self { oid: oid.to_owned(), size: size? })
    }

    /// Whether the file may be as short as the pointer itself.
    pub(in super::super) fn is_tiny(&self) -> bool {
        self.size <= BYTES_MAX as u64
    }

    /// Whether the file is empty.
    pub(in super::super) fn is_of_nothing(&self) -> bool {
        self.size == 0
    }

    /// The pointer as LFS writes it.
    fn text(&self) -> String {
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", self.oid, self.size)
    }
}

/// Digits alone, and no more zeros than it takes.
fn whole_number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|it: &u64| it.to_string() == text)
}

/// The blob that LFS would store for a file.
pub(in super::super) fn pointer_of_file(path: &Path) -> io::Result<Oid> {
    let mut file = File::open(path)?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        size += length as u64;
    }
    let pointer = Pointer { oid: hex::encode(hash.finalize()), size };
    Oid::hash_object(ObjectType::Blob, pointer.text().as_bytes()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::Pointer;

    #[test]
    fn a_pointer_is_what_lfs_writes_and_nothing_that_leads_elsewhere() {
        let pointer = Pointer { oid: "4d".repeat(32), size: 12345 };
        let text = pointer.text();
        assert_eq!(Pointer::parse(text.as_bytes()), Some(pointer.clone()));
        assert_eq!(Pointer::parse(text.replace('\n', "\r\n").as_bytes()), Some(pointer.clone()));
        assert_eq!(Pointer::parse(text.trim_end().as_bytes()), Some(pointer.clone()));
        let extended = text.replace("oid", "ext-0-foo sha256:00\noid");
        assert_eq!(Pointer::parse(extended.as_bytes()), Some(pointer));
        for bad in [
            text.replace("v1", "v9"),
            text.replace("4d4d", "../."),
            text.replace("4d4d", "4D4D"),
            text.replace("sha256", "sha512"),
            text.replace("12345", "-1"),
            text.replace("size", "length"),
            text.replace("12345", "+12345"),
            text.replace("12345", "012345"),
            text.replace("size", "oid \nsize"),
            format!("{text}size 7\n"),
            text.repeat(2),
            format!("\n{text}"),
            String::new(),
        ] {
            assert_eq!(Pointer::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
