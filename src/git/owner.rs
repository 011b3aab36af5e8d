//! Who a file belongs to, and who we are, as a refusal names them.
//!
//! Invariant: a refusal for want of rights names the path, both users, and the command that gives the path over.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use nix::unistd::geteuid;

use super::{GitFailure, shell};
use crate::process::way::user_name;

/// The refusal where we may not do something with a path, such as "read it", and the command that lets us.
pub(super) fn refusal(path: &Path, what: &str) -> GitFailure {
    let owner = fs::symlink_metadata(path).map(|it| it.uid());
    let (shown, us, word) = (path.display(), user_name(geteuid().as_raw()), shell::path_word(path));
    let whose = owner.as_ref().map_or_else(|_| "nobody we know".to_owned(), |it| user_name(*it));
    let command = match owner.is_ok_and(|it| it == geteuid().as_raw()) {
        true => format!("chmod -R u+rwX {word}"),
        false => format!("chown -R {} {word}", shell::word(&us)),
    };
    GitFailure::permanent(format!(
        "`{shown}` belongs to `{whose}`, and `{us}`, as whom this hook works, may not {what}: run `{command}`"
    ))
}
