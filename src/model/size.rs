//! How much: bytes, as people read them.
//!
//! Invariant: a size is shown with at most one digit after the point, rounded down, so that room is never overstated.

use std::fmt;

/// So many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let Some((shift, unit)) = units.into_iter().find(|(shift, _)| self.0 >> shift > 0) else {
            return write!(out, "{} B", self.0);
        };
        let (whole, rest) = (self.0 >> shift, self.0 & ((1 << shift) - 1));
        match (rest * 10) >> shift {
            0 => write!(out, "{whole} {unit}"),
            tenths => write!(out, "{whole}.{tenths} {unit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_are_short() {
        let texts = [0, 12, 2048, 5_872_026, 512 << 20, 3 << 29, u64::MAX].map(|it| Size(it).to_string());
        assert_eq!(texts, ["0 B", "12 B", "2 KiB", "5.6 MiB", "512 MiB", "1.5 GiB", "16777215.9 TiB"]);
    }
}
