//! The database: the SQLite that is linked, and whether what is stored is whole.
//!
//! Invariant: it is opened for reading, also beside a daemon that writes.

use std::path::Path;

use super::Finding;
use crate::{
    model::size::Size,
    store::{self, Condition},
};

const SUBJECT: &str = "store";

/// Looks at the database of a state folder.
pub(super) fn look(state: &Path) -> Option<Finding> {
    let restore = "stop the daemon, keep a copy of the state folder, and put back a backup of landfall.db";
    Some(match store::examine(state) {
        Ok(None) => Finding::ok(SUBJECT, format!("SQLite {}; there is no database yet", store::engine_version())),
        Ok(Some(found)) => {
            let facts = format!("SQLite {}, schema {}, {}", store::engine_version(), found.schema, Size(found.bytes));
            match found.condition {
                Condition::Whole => Finding::ok(SUBJECT, format!("{facts}: `quick_check` finds no damage")),
                Condition::NotFinished(after) => {
                    let message = format!(
                        "{facts}: `quick_check` was not done after {} s, and had found nothing",
                        after.as_secs()
                    );
                    Finding::warn(SUBJECT, message, "look again when the machine has less to do")
                }
                Condition::Damaged(what) => {
                    Finding::fail(SUBJECT, format!("{facts}: the database is damaged: {what}"), restore)
                }
            }
        }
        Err(err) => Finding::fail(SUBJECT, err.to_string(), "if the folder is another user's, run this as root"),
    })
}
