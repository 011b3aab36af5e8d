//! Names that a person writes in hooks.yaml and that end up in URLs, folders and logs.
//!
//! Invariant: a value of these types is safe as one component of a path and of a URL.

use std::fmt;

/// A word of 1 to 63 characters out of `a-z 0-9 . _ -` that begins with a letter or digit.
fn is_plain(text: &str) -> bool {
    let mut characters = text.bytes();
    let begins_well = characters.next().is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    let goes_on_well =
        characters.all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'.' | b'_' | b'-'));
    begins_well && goes_on_well && text.len() <= 63
}

macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name, if `text` matches `[a-z0-9][a-z0-9._-]{0,62}`.
            pub fn parse(text: &str) -> Option<Self> {
                is_plain(text).then(|| Self(text.to_owned()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

plain_name! {
    /// The name of an entry of hooks.yaml.
    HookName
}
plain_name! {
    /// The name of a sender: an entry under `sources`, or the hook that has a sender of its own.
    SourceName
}
plain_name! {
    /// The name of the line in which jobs wait; at most one of them runs at a time.
    LaneName
}

impl HookName {
    /// The lane of a hook that names none: one line per hook.
    pub fn own_lane(&self) -> LaneName {
        LaneName(self.0.clone())
    }

    /// The source of a hook that names none: the sender at `/hooks/<name>`.
    pub fn own_source(&self) -> SourceName {
        SourceName(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::HookName;

    #[test]
    fn a_name_is_one_safe_path_component() {
        for good in ["a", "website", "0", "my-site_2.example", &"a".repeat(63)] {
            assert!(HookName::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".", "..", ".git", "-x", "A", "a/b", "a b", "ü", "a\n", &"a".repeat(64)] {
            assert!(HookName::parse(bad).is_none(), "{bad}");
        }
    }
}
