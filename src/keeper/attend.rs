//! Stays with a child until it and everything it started are gone: keeps what it prints, and its limits.
//!
//! Invariant: when [`attend`] returns, the keeper has no child.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::pin,
};

use jiff::Timestamp;
use tokio::{
    net::unix::pipe,
    select,
    sync::Notify,
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::keeper::{
    child::Child,
    controllers::Met,
    family::{Exit, Family},
    limits::{Cancel, Limits, Stop},
    output::RunLog,
    processes,
};

/// What is read at once.
const READ_BYTES: usize = 256 * 1024;

/// How many reads are done before somebody else gets a turn.
const READS_MAX: usize = 16;

/// The longest answer of a child.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How a child ended, and all it had started.
#[derive(Debug)]
pub struct Attended {
    /// How.
    pub end: End,
    /// What it answered, if it had an order.
    pub answer: Vec<u8>,
    /// What people should know besides.
    pub notes: Vec<String>,
    /// What its control group, if it has one, had met of its limits by then.
    pub met: Option<Met>,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(Exit),
    /// We ended it.
    Stopped(Stop),
}

/// Stays with a child until it and everything it started are gone.
pub async fn attend(child: Child, log: &RefCell<RunLog>, limits: Limits, cancel: &mut Cancel) -> Attended {
    let Child { pid, ended, mut output, mut answer, group } = child;
    let family = Family::of(pid, group.clone());
    let mut met = None;
    let watched =
        Watched { log, last_output: Cell::new(Instant::now()), trouble: Notify::new(), notes: RefCell::default() };
    let mut answered = Vec::new();
    let end = {
        let mut keeping = pin!(keep_output(&mut output, &watched));
        let mut hearing = pin!(hear_answer(answer.as_mut(), &mut answered, &watched));
        let mut watching = pin!(async {
            let end = wait_for_end(&ended, &family, limits, cancel, &watched).await;
            // Whoever ends what is left takes the group away, and with it what it counted.
            met = group.as_ref().map(|it| it.met());
            clear(&family, limits, &end, &watched).await;
            end
        });
        let (mut is_kept, mut is_heard) = (false, false);
        loop {
            select! {
                biased;
                () = &mut keeping, if !is_kept => is_kept = true,
                () = &mut hearing, if !is_heard => is_heard = true,
                end = &mut watching => break end,
            }
        }
    };
    let is_well = read_rest(answer.as_ref(), &mut answered) && answered.len() <= ANSWER_BYTES_MAX;
    drain(&output, log);
    log.borrow_mut().end_output(Timestamp::now());
    let end = match (end, log.borrow().trouble()) {
        (End::Exited(_), Some(trouble)) => End::Stopped(Stop::Trouble(trouble.to_owned())),
        (End::Exited(_), None) if !is_well => End::Stopped(Stop::Trouble("its answer cannot be read".into())),
        (end, _) => end,
    };
    Attended { end, answer: answered, notes: watched.notes.into_inner(), met }
}

/// What those who attend one child share. They are parts of one task, so nothing here is borrowed across a wait.
struct Watched<'a> {
    log: &'a RefCell<RunLog>,
    last_output: Cell<Instant>,
    trouble: Notify,
    notes: RefCell<Vec<String>>,
}

impl Watched<'_> {
    fn note(&self, text: String) {
        self.log.borrow_mut().remark(Timestamp::now(), &text);
        self.notes.borrow_mut().push(text);
    }
}

/// Moves what is printed into the log until nobody can print any more.
async fn keep_output(output: &mut pipe::Receiver, watched: &Watched<'_>) {
    let mut buffer = vec![0; READ_BYTES];
    while output.readable().await.is_ok() {
        for _ in 0..READS_MAX {
            match output.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    watched.last_output.set(Instant::now());
                    watched.log.borrow_mut().output(Timestamp::now(), &buffer[..count]);
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    watched.log.borrow_mut().flush();
                    break;
                }
                Err(_) => return,
            }
        }
        if watched.log.borrow().trouble().is_some() {
            watched.trouble.notify_one();
        }
        yield_now().await;
    }
}

async fn hear_answer(answer: Option<&mut pipe::Receiver>, answered: &mut Vec<u8>, watched: &Watched<'_>) {
    let Some(answer) = answer else { return };
    let mut buffer = vec![0; 16 * 1024];
    while answer.readable().await.is_ok() {
        match answer.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) if answered.len() + count > ANSWER_BYTES_MAX => {
                answered.resize(ANSWER_BYTES_MAX + 1, 0);
                watched.trouble.notify_one();
                return;
            }
            Ok(count) => answered.extend_from_slice(&buffer[..count]),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => (),
            Err(_) => return,
        }
    }
}

/// Waits until the child has ended, or has to.
async fn wait_for_end(
    ended: &tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
    family: &Family,
    limits: Limits,
    cancel: &mut Cancel,
    watched: &Watched<'_>,
) -> End {
    loop {
        let silent_at = watched.last_output.get() + limits.silence;
        let step_at = limits.step.map_or(limits.whole.at, |it| it.at);
        let over = select! {
            biased;
            () = cancel.asked() => return End::Stopped(Stop::Cancelled),
            () = watched.trouble.notified() => {
                let trouble = watched.log.borrow().trouble().map(str::to_owned);
                return End::Stopped(Stop::Trouble(trouble.unwrap_or_else(|| "its answer is too long".into())));
            }
            _ = ended.readable() => None,
            () = sleep_until(limits.whole.at) => Some(Stop::WholeTime(limits.whole.span)),
            () = sleep_until(step_at), if limits.step.is_some() => {
                Some(Stop::StepTime(limits.step.map_or(limits.whole.span, |it| it.span)))
            }
            () = sleep_until(silent_at) => {
                // What was printed while we could not look is read first.
                yield_now().await;
                let is_silent = watched.last_output.get() + limits.silence <= Instant::now();
                is_silent.then_some(Stop::Silence(limits.silence))
            }
        };
        // A child that ended in time did so also where we were stopped meanwhile, and see it late.
        family.reap();
        match (family.exit(), over) {
            (Some(exit), _) => return End::Exited(exit),
            (None, Some(stop)) => return End::Stopped(stop),
            (None, None) => (),
        }
    }
}

/// Ends whoever is left, and says who that was.
async fn clear(family: &Family, limits: Limits, end: &End, watched: &Watched<'_>) {
    match end {
        End::Exited(_) => {
            let left = family.linger().await;
            if !left.is_empty() {
                watched.note(format!("the step left {} behind: ending what is left", processes::names(&left)));
            }
        }
        End::Stopped(stop) => watched.log.borrow_mut().remark(Timestamp::now(), &format!("ending the step: {stop}")),
    }
    let report = |staying: &[processes::Process]| {
        watched.note(format!("{} cannot be ended: waiting until it is gone", processes::names(staying)));
    };
    family.end(limits.grace, report).await;
}

/// Reads what is still in a pipe whose writers are gone.
fn drain(output: &pipe::Receiver, log: &RefCell<RunLog>) {
    let mut buffer = vec![0; READ_BYTES];
    // No more than the pipe can hold: somebody outside the run may have been handed its other end.
    for _ in 0..READS_MAX {
        let Some(bytes) = read_now(output, &mut buffer) else { return };
        log.borrow_mut().output(Timestamp::now(), bytes);
    }
}

/// Reads the rest of an answer; `false` if it is too long.
fn read_rest(answer: Option<&pipe::Receiver>, answered: &mut Vec<u8>) -> bool {
    let Some(answer) = answer else { return true };
    let mut buffer = vec![0; 16 * 1024];
    while let Some(bytes) = read_now(answer, &mut buffer) {
        if answered.len() + bytes.len() > ANSWER_BYTES_MAX {
            return false;
        }
        answered.extend_from_slice(bytes);
    }
    true
}

/// What the kernel has in a pipe at this moment, if anything. The runtime is not asked: what was written since it last
/// looked it would not know of, and nobody is left to wait for.
fn read_now<'a>(pipe: &pipe::Receiver, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    match rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut *buffer)) {
        Ok(count @ 1..) => Some(&buffer[..count]),
        Ok(0) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};

    use tokio::net::unix::pipe;

    use super::{read_now, read_rest};

    /// A pipe that the runtime has seen empty, and that holds the last words of somebody who is gone.
    fn with_last_words() -> pipe::Receiver {
        let (output, mut printed) = std::io::pipe().expect("a pipe");
        let output = pipe::Receiver::from_owned_fd(output.into()).expect("a pipe");
        let seen = output.try_read(&mut [0; 16]).map_err(|err| err.kind());
        assert_eq!(seen, Err(ErrorKind::WouldBlock), "nothing has been written");
        printed.write_all(b"last words").expect("written");
        output
    }

    #[tokio::test]
    async fn what_was_written_since_the_runtime_last_looked_is_read_as_well() {
        let (output, mut buffer) = (with_last_words(), [0; 16]);
        assert!(output.try_read(&mut buffer).is_err(), "the runtime has not looked again");
        assert_eq!(read_now(&output, &mut buffer), Some(&b"last words"[..]));
        assert_eq!(read_now(&output, &mut buffer), None);
        let mut answered = b"first and ".to_vec();
        assert!(read_rest(Some(&with_last_words()), &mut answered));
        assert_eq!(answered, b"first and last words");
    }
}
