//! What the configuration of a clone says of line ends (git-config(1), `core.autocrlf` and `core.eol`).
//!
//! Invariant: a fresh tree has no configuration, and [`Habit::Lf`] is what holds without one.

use git2::Config;

/// How a clone keeps its line ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::git) enum Habit {
    /// Files are as their blobs are.
    #[default]
    Lf,
    /// The same, and CRLF in a file stands for LF (`core.autocrlf=input`).
    LfForCrlf,
    /// Whatever looks like a text has CRLF (`core.autocrlf=true`).
    Crlf,
    /// What the attributes call a text has CRLF (`core.eol=crlf`).
    CrlfIfAsked,
}

impl Habit {
    /// What this configuration says.
    pub(in crate::git) fn of(config: &Config) -> Self {
        let text = |name: &str| config.get_string(name).unwrap_or_default().to_ascii_lowercase();
        if text("core.autocrlf") == "input" {
            return Self::LfForCrlf;
        }
        match config.get_bool("core.autocrlf") {
            Ok(true) => Self::Crlf,
            Ok(false) | Err(_) if text("core.eol") == "crlf" => Self::CrlfIfAsked,
            Ok(false) | Err(_) => Self::Lf,
        }
    }

    /// Whether a text has CRLF.
    pub(super) fn gives_texts_crlf(self) -> bool {
        match self {
            Self::Crlf | Self::CrlfIfAsked => true,
            Self::Lf | Self::LfForCrlf => false,
        }
    }
}
