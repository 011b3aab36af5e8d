//! Has a child of the daemon carry out an errand, as some user and within a time.
//!
//! Invariant: the child has that time and no more. One that is not waited for any more goes with all that it started.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::unistd::setsid;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

use super::{errand::OWN_PROGRAM, user::Account};

/// An answer beyond this is not read: about half a million refs of a remote.
const ANSWER_BYTES_MAX: u64 = 128 << 20;

/// A child to be. No `Debug`: its environment may hold the way through a proxy.
pub struct ErrandChild<'a> {
    /// The hidden subcommand.
    pub errand: &'static str,
    /// Who it is; `None`: who we are.
    pub account: Option<&'a Account>,
    /// Its whole environment.
    pub env: BTreeMap<OsString, OsString>,
    /// How long it may take.
    pub time_max: Duration,
}

impl ErrandChild<'_> {
    /// Hands over the order and gives the answer as the child wrote it. The error is a clause.
    pub async fn carry_out(&self, order: &str) -> Result<Vec<u8>, String> {
        let mut child = self.start().map_err(|err| match self.account {
            Some(account) => format!("cannot start a child as `{}`: {err}", account.name),
            None => format!("cannot start a child: {err}"),
        })?;
        let answered = timeout(self.time_max, converse(&mut child, order)).await;
        end_session(&child);
        let (answer, status) = answered
            .map_err(|_| format!("there was no answer within {} s", self.time_max.as_secs()))?
            .map_err(|err| format!("the child broke off: {err}"))?;
        if answer.is_empty() { Err(format!("the child gave no answer ({status})")) } else { Ok(answer) }
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg(self.errand).env_clear().envs(&self.env).current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        become_user(&mut command, self.account);
        command.spawn()
    }
}

/// Lets the child have a session of its own, and be that user.
#[expect(unsafe_code, reason = "a child becomes another user only between fork and exec")]
fn become_user(command: &mut Command, account: Option<&Account>) {
    let assume = account.map(Account::assume);
    let become_it = move || {
        setsid()?;
        assume.as_ref().map_or(Ok(()), |it| it())
    };
    // SAFETY: the closure runs between fork and exec; it makes system calls only, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(become_it);
    }
}

async fn converse(child: &mut Child, order: &str) -> io::Result<(Vec<u8>, ExitStatus)> {
    let mut to_child = child.stdin.take().expect("the child was given a pipe as its input");
    let mut from_child = child.stdout.take().expect("the child was given a pipe as its output").take(ANSWER_BYTES_MAX);
    let mut answer = Vec::new();
    let hand_over = async {
        // A child that ends without reading says why by itself.
        let _ = to_child.write_all(order.as_bytes()).await;
        drop(to_child);
    };
    let ((), read) = tokio::join!(hand_over, from_child.read_to_end(&mut answer));
    read?;
    Ok((answer, child.wait().await?))
}

/// Ends a child that was not waited for, with its session. The number of one that was is nobody's.
fn end_session(child: &Child) {
    let pid = child.id().and_then(|it| i32::try_from(it).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        env, thread,
        time::{Duration, Instant},
    };

    use super::ErrandChild;

    #[tokio::test]
    async fn a_child_that_says_nothing_is_told_from_one_that_answers() {
        // This program is the tests themselves, which take the name of an errand for that of a test.
        let child = |errand, time_max| ErrandChild { errand, account: None, env: BTreeMap::new(), time_max };
        let answer = child("no-such-test-here", Duration::from_secs(60)).carry_out("{}").await.expect("an answer");
        assert!(String::from_utf8_lossy(&answer).contains("running 0 tests"));
        let why = child("--no-such-flag", Duration::from_secs(60)).carry_out("{}").await.expect_err("it says nothing");
        assert!(why.contains("gave no answer (exit status"), "{why}");
    }

    /// What the other test has a child do: nothing, for as long as it is asked to.
    #[test]
    fn a_child_may_take_its_time() {
        if let Ok(seconds) = env::var("TAKES_SECONDS") {
            thread::sleep(Duration::from_secs(seconds.parse().expect("a number")));
        }
    }

    #[tokio::test]
    async fn a_child_that_is_late_is_ended() {
        let errand = "process::errand_child::tests::a_child_may_take_its_time";
        let (env, time_max) = (BTreeMap::from([("TAKES_SECONDS".into(), "1000".into())]), Duration::from_millis(500));
        let began = Instant::now();
        let why = ErrandChild { errand, account: None, env, time_max }.carry_out("{}").await.expect_err("it is late");
        assert!(why.contains("no answer within 0 s") && began.elapsed() < Duration::from_secs(100), "{why}");
    }
}
