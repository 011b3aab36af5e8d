//! The environment that every child of a user gets, and where it finds programs.
//!
//! Invariant: nothing of the daemon's own environment gets through but its language, and to git work the way to remotes.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::user::Account;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where scripts and git work find this program.
pub fn program(name: &str) -> Option<PathBuf> {
    let can_run = |it: &PathBuf| it.is_file() && access(it, Access::EXEC_OK).is_ok();
    PATH.split(':').map(|it| Path::new(it).join(name)).find(can_run)
}

/// What every child of this user gets.
pub fn of_user(account: &Account) -> BTreeMap<OsString, OsString> {
    let mut env = BTreeMap::new();
    put(&mut env, "PATH", PATH);
    put(&mut env, "HOME", &account.home);
    put(&mut env, "USER", &account.name);
    put(&mut env, "LOGNAME", &account.name);
    put(&mut env, "SHELL", &account.shell);
    put(&mut env, "LANG", env::var_os("LANG").unwrap_or_else(|| "C.UTF-8".into()));
    put(&mut env, "GIT_TERMINAL_PROMPT", "0");
    env
}

/// What git work needs of our own environment to reach a remote.
pub const FOR_REMOTES: &[&str] = &[
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// What else it gets: a crash may have to be placed in there.
const FOR_TESTS: &[&str] = if cfg!(feature = "failpoints") { &["FAILPOINTS"] } else { &[] };

/// What git work of this user gets.
pub fn of_git_work(account: &Account) -> BTreeMap<OsString, OsString> {
    let mut env = of_user(account);
    for name in FOR_REMOTES.iter().chain(FOR_TESTS) {
        if let Some(value) = env::var_os(name) {
            put(&mut env, name, value);
        }
    }
    env
}

/// Adds a value. NUL bytes cannot be part of one and are left out; what is no name is left out whole.
pub fn put(env: &mut BTreeMap<OsString, OsString>, name: &str, value: impl AsRef<OsStr>) {
    if name.is_empty() || name.contains(['=', '\0']) {
        return;
    }
    let bytes = value.as_ref().as_bytes().iter().copied().filter(|it| *it != 0).collect();
    env.insert(name.into(), OsString::from_vec(bytes));
}
