//! An errand: one order to a child of the keeper, and its one answer.
//!
//! The order is the child's standard input, the answer its standard output; what people should read goes to standard
//! error, line by line.
//!
//! Invariant: both ends are the same program, so the forms have no version. A secret crosses only by this pipe.

use std::{
    io::{self, Read, Write},
    process::ExitCode,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use super::text_form;
use crate::model::run::FailureClass;

/// This very program, even if another file stands at its path by now.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Why an errand failed, and whether trying again may help.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{reason}")]
pub struct ErrandFailure {
    /// Whether trying again may help.
    #[serde(with = "text_form")]
    pub class: FailureClass,
    /// One sentence for people, without a full stop and without credentials.
    pub reason: String,
}

impl ErrandFailure {
    /// The remote could not be reached, or broke off.
    pub fn fetch(reason: impl Into<String>) -> Self {
        Self { class: FailureClass::Fetch, reason: reason.into() }
    }

    /// Another try cannot end differently.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self { class: FailureClass::Permanent, reason: reason.into() }
    }

    /// Anything else.
    pub fn other(reason: impl Into<String>) -> Self {
        Self { class: FailureClass::Other, reason: reason.into() }
    }
}

/// The order as the child reads it.
pub fn encode<O: Serialize>(order: &O) -> String {
    serde_json::to_string(order).expect("an order is strings and numbers, and its paths come from UTF-8")
}

/// The answer, as the child wrote it.
pub fn decode<A: DeserializeOwned>(answer: &[u8]) -> Result<A, ErrandFailure> {
    let no_answer = |why: &str| ErrandFailure::other(format!("the child process gave no answer: {why}"));
    if answer.is_empty() {
        return Err(no_answer("it was ended, or could not be started"));
    }
    let answer: Result<A, ErrandFailure> = serde_json::from_slice(answer).map_err(|err| no_answer(&err.to_string()))?;
    answer
}

/// Serves one errand: reads the order from standard input, carries it out, and writes the answer to standard output.
pub fn serve<O: DeserializeOwned, A: Serialize>(carry_out: impl FnOnce(O) -> Result<A, ErrandFailure>) -> ExitCode {
    let unreadable = |err: &dyn std::fmt::Display| ErrandFailure::other(format!("cannot read the order: {err}"));
    let mut text = String::new();
    let read = io::stdin().read_to_string(&mut text).map_err(|err| unreadable(&err));
    let order = read.and_then(|_| serde_json::from_str(&text).map_err(|err| unreadable(&err)));
    let answer = order.and_then(carry_out);
    let is_good = answer.is_ok();
    let mut out = io::stdout();
    match out.write_all(answer_text(&answer).as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if is_good => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

/// An answer that cannot be written down, such as a path that is not UTF-8, is a failure that says so.
fn answer_text<A: Serialize>(answer: &Result<A, ErrandFailure>) -> String {
    let mut text = serde_json::to_string(answer).unwrap_or_else(|err| {
        let failure: Result<(), _> = Err(ErrandFailure::permanent(format!("the answer cannot be told: {err}")));
        serde_json::to_string(&failure).expect("a failure is two strings")
    });
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::{ErrandFailure, answer_text, decode};

    #[test]
    fn an_answer_comes_back_as_it_was_given_and_silence_is_a_failure() {
        let good: Result<Vec<u32>, ErrandFailure> = Ok(vec![1, 2]);
        assert_eq!(decode(answer_text(&good).as_bytes()), good);
        for failure in [ErrandFailure::permanent("gone"), ErrandFailure::fetch("broke off"), ErrandFailure::other("x")]
        {
            let bad: Result<Vec<u32>, ErrandFailure> = Err(failure);
            assert_eq!(decode(answer_text(&bad).as_bytes()), bad);
        }
        assert!(decode::<u32>(b"").expect_err("silence").reason.contains("no answer"));
        assert!(decode::<u32>(b"{").is_err());
    }
}
