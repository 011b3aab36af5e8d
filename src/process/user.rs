//! The user that steps and git work run as.
//!
//! Invariant: everything a child needs to become this user is known before the fork.

use std::{
    ffi::CString,
    io,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Uid, User, getegid, geteuid, getgrouplist, getgroups, setegid, seteuid, setgroups};
use rustix::{
    fs::{Access, AtFlags, CWD, accessat},
    io::Errno,
    process::{Gid as KernelGid, Uid as KernelUid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

/// A user of this machine.
#[derive(Clone, Debug)]
pub struct Account {
    /// The name in the user database, or the number where there is no entry.
    pub name: String,
    /// The user's number.
    pub uid: Uid,
    /// The user's own group.
    pub gid: Gid,
    /// All groups the user is in.
    pub groups: Vec<Gid>,
    /// The home folder.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
}

/// What came of trying something as a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It is allowed.
    Granted,
    /// It is not, for this reason.
    Refused(Errno),
    /// Only root can try it as that user.
    Untold,
}

impl Account {
    /// The user of this name, or the one we run as. The error is a sentence.
    pub fn find(name: Option<&str>) -> Result<Self, String> {
        match name {
            None => Self::own(),
            Some(name) => Self::named(name),
        }
    }

    /// Whether this is the user we run as, so that nothing has to change.
    pub fn is_own(&self) -> bool {
        self.uid == geteuid()
    }

    /// What makes the thread that calls it this user for good; the kernel keeps a user for each thread. It is prepared
    /// here, so that it may be called between fork and exec: it makes system calls only.
    pub fn assume(&self) -> impl Fn() -> io::Result<()> + Send + Sync + use<> {
        let is_own = self.is_own();
        let (uid, gid) = (KernelUid::from_raw(self.uid.as_raw()), KernelGid::from_raw(self.gid.as_raw()));
        let groups: Vec<_> = self.groups.iter().map(|it| KernelGid::from_raw(it.as_raw())).collect();
        move || {
            if !is_own {
                // The kernel's own calls: libc would tell threads of it, and after a fork there are none.
                set_thread_groups(&groups)?;
                set_thread_gid(gid)?;
                set_thread_uid(uid)?;
            }
            Ok(())
        }
    }

    /// The user of this number.
    pub fn numbered(uid: u32) -> Result<Self, String> {
        let uid = Uid::from_raw(uid);
        if uid == geteuid() {
            return Self::own();
        }
        let entry = User::from_uid(uid).map_err(|err| format!("cannot look up user {uid}: {err}"))?;
        Self::of_entry(entry.ok_or_else(|| format!("there is no user {uid} on this machine"))?)
    }

    /// Whether this user may do so with what is at that path. For a moment the whole process is that user, so it is for
    /// a process that does nothing else meanwhile.
    pub fn tries(&self, path: &Path, wanted: Access) -> Tried {
        let access = || match accessat(CWD, path, wanted, AtFlags::EACCESS) {
            Ok(()) => Tried::Granted,
            Err(err) => Tried::Refused(err),
        };
        if self.is_own() {
            return access();
        }
        let (Ok(groups), own_group, own) = (getgroups(), getegid(), geteuid()) else { return Tried::Untold };
        if !own.is_root() || setgroups(&self.groups).is_err() {
            return Tried::Untold;
        }
        let tried = match setegid(self.gid).and_then(|()| seteuid(self.uid)) {
            Ok(()) => access(),
            Err(_) => Tried::Untold,
        };
        let back = seteuid(own).and_then(|()| setegid(own_group)).and_then(|()| setgroups(&groups));
        back.expect("who was root before may be so again");
        tried
    }

    fn own() -> Result<Self, String> {
        let uid = geteuid();
        let entry = User::from_uid(uid).map_err(|err| format!("cannot look up user {uid}: {err}"))?;
        match entry {
            Some(entry) => Self::of_entry(entry),
            // Containers run as numbers without an entry.
            None => Ok(Self {
                name: uid.to_string(),
                uid,
                gid: nix::unistd::getegid(),
                groups: Vec::new(),
                home: "/".into(),
                shell: "/bin/sh".into(),
            }),
        }
    }

    fn named(name: &str) -> Result<Self, String> {
        if name.contains(['/', '\0']) || matches!(name, "" | "." | "..") {
            return Err(format!("`{name}` is not a name of a user"));
        }
        let entry = User::from_name(name).map_err(|err| format!("cannot look up user `{name}`: {err}"))?;
        let entry = entry.ok_or_else(|| format!("there is no user `{name}` on this machine"))?;
        if entry.uid != geteuid() && !geteuid().is_root() {
            return Err(format!("only root can run steps as `{name}`, and this daemon does not run as root"));
        }
        Self::of_entry(entry)
    }

    fn of_entry(entry: User) -> Result<Self, String> {
        let name = CString::new(entry.name.as_str()).map_err(|_| "a user's name has a NUL byte".to_owned())?;
        let groups = getgrouplist(&name, entry.gid)
            .map_err(|err| format!("cannot look up the groups of `{}`: {err}", entry.name))?;
        let User { name, uid, gid, dir: home, shell, .. } = entry;
        Ok(Self { name, uid, gid, groups, home, shell })
    }
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn an_unknown_user_is_named() {
        let err = Account::find(Some("no-such-user-here")).expect_err("unknown");
        assert_eq!(err, "there is no user `no-such-user-here` on this machine");
        assert!(Account::find(Some("../root")).is_err());
    }

    #[test]
    fn without_a_name_it_is_the_user_we_run_as() {
        assert!(Account::find(None).expect("own account").is_own());
    }
}
