//! The ground that the daemon stands on: its state folder, and the file system below it.
//!
//! Invariant: the folder is looked at and not written to.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, statfs},
    io::Errno,
};

use super::{AS_WHOM, Finding, plain};
use crate::{
    hooks::Outline,
    model::size::Size,
    process::user::{Account, Tried},
};

const SUBJECT: &str = "state";

/// What statfs(2) calls file systems.
const KINDS: &[(u32, &str, Kind)] = &[
    (0xef53, "ext4", Kind::Local),
    (0x5846_5342, "xfs", Kind::Local),
    (0x9123_683e, "btrfs", Kind::Local),
    (0x2fc1_2fc1, "zfs", Kind::Local),
    (0xf2f5_2010, "f2fs", Kind::Local),
    (0xca45_1a4e, "bcachefs", Kind::Local),
    (0x0102_1994, "tmpfs", Kind::Passing),
    (0x8584_58f6, "ramfs", Kind::Passing),
    (0x794c_7630, "overlay", Kind::Passing),
    (0x6969, "NFS", Kind::Remote),
    (0xff53_4d42, "CIFS", Kind::Remote),
    (0xfe53_4d42, "SMB", Kind::Remote),
    (0x517b, "SMB", Kind::Remote),
    (0x0102_1997, "9p", Kind::Remote),
    (0x6573_5546, "FUSE", Kind::Remote),
    (0x00c3_6400, "Ceph", Kind::Remote),
    (0x5346_414f, "AFS", Kind::Remote),
    (0x0bd0_0bd0, "Lustre", Kind::Remote),
];

#[derive(Clone, Copy)]
enum Kind {
    /// A disk of this machine.
    Local,
    /// What is there is gone after a restart of the machine or the container.
    Passing,
    /// Perhaps on another machine.
    Remote,
}

/// The most that any hook wants to be free before it runs.
pub(super) fn room_needed(outline: &Outline) -> u64 {
    outline.hooks.values().map(|it| it.deploy.min_free_bytes).max().unwrap_or_default()
}

/// Looks at the state folder of this user, where so many bytes must be free.
pub(super) fn look(state: &Path, daemon: &Account, needed: u64) -> Vec<Finding> {
    let shown = state.display();
    let metadata = match fs::metadata(state) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return vec![Finding::fail(
                SUBJECT,
                format!("{shown} is not a folder"),
                "remove it, or set `server.state`",
            )];
        }
        Err(_) => return vec![missing(state, daemon)],
    };
    let mut findings = Vec::new();
    match daemon.tries(state, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Tried::Granted => (),
        Tried::Refused(Errno::ROFS) => {
            let message = format!("{shown} is on a file system that is read-only");
            return vec![Finding::fail(SUBJECT, message, "mount it for writing")];
        }
        Tried::Refused(err) => {
            let message = format!("`{}` cannot write to {shown}: {}", daemon.name, plain(err));
            return vec![Finding::fail(SUBJECT, message, format!("`chown -R {} {shown}`", daemon.name))];
        }
        Tried::Untold => {
            let message = format!("cannot tell whether `{}` may write to {shown}", daemon.name);
            return vec![Finding::warn(SUBJECT, message, AS_WHOM)];
        }
    }
    if metadata.mode() & 0o066 != 0 {
        let message = format!("others than the daemon may look into {shown} (mode {:03o})", metadata.mode() & 0o777);
        let help = format!("`chmod 711 {shown}`, or 700 where no hook has a `user`");
        findings.push(Finding::warn(SUBJECT, message, help));
    }
    findings.extend(file_system(state, needed));
    findings
}

/// The folder is made at the first start, if that can be.
fn missing(state: &Path, daemon: &Account) -> Finding {
    let shown = state.display();
    let nearest: PathBuf = state.ancestors().find(|it| it.exists()).unwrap_or(Path::new("/")).to_owned();
    match daemon.tries(&nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Tried::Granted => Finding::ok(SUBJECT, format!("{shown} is not there yet; the first start makes it")),
        Tried::Refused(err) => {
            let message =
                format!("`{}` cannot make {shown}, nor anything in {}: {}", daemon.name, nearest.display(), plain(err));
            let help = format!("`install -d -m 700 -o {} {shown}`, or set `server.state`", daemon.name);
            Finding::fail(SUBJECT, message, help)
        }
        Tried::Untold => Finding::warn(
            SUBJECT,
            format!("{shown} is not there, and `{}` may be able to make it", daemon.name),
            AS_WHOM,
        ),
    }
}

fn file_system(state: &Path, needed: u64) -> Vec<Finding> {
    let shown = state.display();
    let stat = match statfs(state) {
        Ok(stat) => stat,
        Err(err) => {
            return vec![Finding::fail(
                SUBJECT,
                format!("cannot ask for room at {shown}: {}", plain(err)),
                "look at the disk",
            )];
        }
    };
    // The type is signed on some machines; the numbers are 32 bits wide on all.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "magic numbers have 32 bits")]
    let magic = stat.f_type as u32;
    let (name, kind) =
        KINDS.iter().find(|(it, ..)| *it == magic).map_or(("another kind", Kind::Local), |it| (it.1, it.2));
    #[expect(clippy::cast_sign_loss, reason = "a block has a size")]
    let free = stat.f_bavail.saturating_mul(stat.f_bsize as u64);
    let facts = format!("{shown} on {name}, {} free", Size(free));
    let mut findings = Vec::new();
    if free < needed {
        let message = format!(
            "only {} are free at {shown}, and `deploy.min_free` asks for {}: nothing will be deployed",
            Size(free),
            Size(needed)
        );
        findings.push(Finding::fail(SUBJECT, message, "make room, or lower `server.keep_logs` or `deploy.min_free`"));
    } else if free / 2 < needed {
        let message = format!("{facts}, close to the {} that `deploy.min_free` asks for", Size(needed));
        findings.push(Finding::warn(SUBJECT, message, "make room, or lower `server.keep_logs`"));
    }
    match kind {
        Kind::Remote => {
            let message = format!("{shown} is on {name}, whose locks and flushes a database cannot rely on");
            findings.push(Finding::fail(SUBJECT, message, "set `server.state` to a folder on a local disk"));
        }
        Kind::Passing => {
            let message = format!("{shown} is on {name}: the queue and the history may be gone after a restart");
            findings.push(Finding::warn(SUBJECT, message, "set `server.state` to a folder that stays"));
        }
        Kind::Local => (),
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, facts));
    }
    findings
}
