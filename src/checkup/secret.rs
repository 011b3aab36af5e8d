//! Where secrets are said to be. What they are is the daemon's matter.
//!
//! Invariant: no secret is opened.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt};

use super::{Finding, plain};
use crate::{hooks::NamedSecret, model::secret::SecretRef};

const SUBJECT: &str = "secrets";

/// Looks at the files, and counts what only the daemon can look up.
pub(super) fn look(secrets: &[NamedSecret]) -> Vec<Finding> {
    let (mut findings, mut files) = (Vec::new(), BTreeSet::new());
    let (mut variables, mut credentials, mut written) = (BTreeSet::new(), BTreeSet::new(), 0_usize);
    for NamedSecret { key, origin } in secrets {
        match origin {
            SecretRef::Env(name) => drop(variables.insert(name)),
            SecretRef::Credential(name) => drop(credentials.insert(name)),
            SecretRef::Written(_) => written += 1,
            SecretRef::File(path) if !files.insert(path) => (),
            SecretRef::File(path) => match fs::metadata(path) {
                Err(err) => {
                    let message = format!("`{key}`: {} cannot be seen: {}", path.display(), plain(err));
                    findings.push(Finding::fail(SUBJECT, message, "put it there, for the daemon's user alone"));
                }
                Ok(metadata) if metadata.permissions().mode() & 0o004 != 0 => {
                    let message = format!("`{key}`: everybody on this machine may read {}", path.display());
                    findings.push(Finding::warn(SUBJECT, message, format!("`chmod o= {}`", path.display())));
                }
                Ok(_) => (),
            },
        }
    }
    if findings.is_empty() && !secrets.is_empty() {
        let parts = [
            count(files.len(), "file", "is there and closed to others", "are there and closed to others"),
            count(variables.len(), "variable", "is the daemon's to find", "are the daemon's to find"),
            count(credentials.len(), "credential", "is systemd's to hand over", "are systemd's to hand over"),
            count(written, "secret", "stands in hooks.yaml", "stand in hooks.yaml"),
        ];
        findings.push(Finding::ok(SUBJECT, parts.into_iter().flatten().collect::<Vec<_>>().join(", ")));
    }
    findings
}

fn count(number: usize, what: &str, one: &str, many: &str) -> Option<String> {
    match number {
        0 => None,
        1 => Some(format!("1 {what} {one}")),
        _ => Some(format!("{number} {what}s {many}")),
    }
}
