//! Health: what must answer well after a release went live.
//!
//! Invariant: a probe asks at least once, and never for ever.

use std::{ops::RangeInclusive, time::Duration};

/// One thing that must answer well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub question: Question,
    /// How often it is asked before it counts as failed; at least once.
    pub attempts: u32,
    /// The wait between two of them.
    pub interval: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// The wait before the first.
    pub start_after: Duration,
    /// How many good answers in a row are needed; at least one.
    pub stable: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether a GET of this URL answers with one of these statuses, and with this text in it if one is given.
    Http {
        /// `http://` or `https://`.
        url: String,
        /// The statuses that are good.
        expect: RangeInclusive<u16>,
        /// What the body must hold.
        body: Option<String>,
    },
    /// Whether this `host:port` takes a connection.
    Tcp {
        /// The address.
        address: String,
    },
    /// Whether this script, run in the live tree, ends with 0.
    Command {
        /// Its text, for `/bin/sh -e`.
        script: String,
    },
}

impl Question {
    /// What people call it.
    pub fn name(&self) -> String {
        match self {
            Self::Http { url, .. } => format!("GET {url}"),
            Self::Tcp { address } => format!("connect to {address}"),
            Self::Command { script } => script.lines().next().unwrap_or_default().to_owned(),
        }
    }
}
