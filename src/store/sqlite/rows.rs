//! How values stand in columns.
//!
//! Invariant: what was stored reads back unchanged, to the millisecond; what does not is `Damaged`, never guessed.

use jiff::Timestamp;
use rusqlite::Row;

use crate::{
    forge::DedupeKey,
    journal,
    model::{
        deploy::Strategy,
        hook::QueuePolicy,
        job::{Asked, Job},
        name::{HookName, LaneName, SourceName},
        push::{CommitId, RefName},
        source::SourcePath,
    },
    store::StoreError,
};

/// A time as a number of milliseconds.
pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// The time of a number of milliseconds.
pub(super) fn time(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|err| damaged("time", &err.to_string()))
}

/// The name of a hook.
pub(super) fn hook_name(text: &str) -> Result<HookName, StoreError> {
    HookName::parse(text).ok_or_else(|| damaged("hook", text))
}

/// The name of a lane.
pub(super) fn lane_name(text: &str) -> Result<LaneName, StoreError> {
    LaneName::parse(text).ok_or_else(|| damaged("lane", text))
}

/// A commit.
pub(super) fn commit_id(text: &str) -> Result<CommitId, StoreError> {
    CommitId::parse(text).ok_or_else(|| damaged("commit", text))
}

/// The path of a source, as its `Display` wrote it.
pub(super) fn source_path(text: &str) -> Result<SourcePath, StoreError> {
    let hook = text.strip_prefix("/hooks/").and_then(HookName::parse).map(SourcePath::Hook);
    let shared = text.strip_prefix("/sources/").and_then(SourceName::parse).map(SourcePath::Shared);
    hook.or(shared).ok_or_else(|| damaged("path", text))
}

/// The value of a stored word.
pub(super) fn known<T>(what: &'static str, word: &str, value: Option<T>) -> Result<T, StoreError> {
    value.ok_or_else(|| damaged(what, word))
}

/// The job in a column, if there is one that can be read.
pub(super) fn readable_job(row: &Row, column: usize) -> rusqlite::Result<Option<Job>> {
    let text = row.get_ref(column)?.as_str().ok();
    Ok(text.and_then(|it| journal::job::decode(it).ok()))
}

/// A ref in the queue; empty: none is known.
pub(super) fn ref_key(ref_name: Option<&RefName>) -> String {
    ref_name.map(RefName::full).unwrap_or_default()
}

/// Whose place a waiting job takes: nobody's, its hook's and ref's, or that of any branch of its hook, where that
/// deploys to one path. A tag takes the place of the same tag alone, and nothing but that tag takes its place: what
/// comes with a tag is another deploy than what comes with the branch, also where one `git push` brings both.
/// A way back takes nobody's: what waits before it was accepted, and is no newer push.
///
/// Only a push takes places: what a person asks for may well be older than what waits.
pub(super) fn replaces(job: &Job, delivery: Option<i64>) -> &'static str {
    if !is_push(job, delivery) {
        return "nothing";
    }
    let is_tag = matches!(job.target.ref_name(), Some(RefName::Tag(_)));
    match (job.hook.queue, &job.hook.deploy.strategy) {
        (QueuePolicy::All, _) => "nothing",
        (QueuePolicy::Latest | QueuePolicy::Cancel, _) if is_tag => "ref",
        (QueuePolicy::Latest | QueuePolicy::Cancel, Strategy::InPlace { .. } | Strategy::Releases { .. }) => "hook",
        (QueuePolicy::Latest | QueuePolicy::Cancel, Strategy::Checkout { .. } | Strategy::None { .. }) => "ref",
    }
}

/// Whether a job is there because of a push: one that a delivery brought, or that its remote told of.
pub(super) fn is_push(job: &Job, delivery: Option<i64>) -> bool {
    delivery.is_some() || job.asked == Asked::Push
}

/// In SQL, whether a ref is no tag. What has no ref that is known counts as a branch.
pub(super) const IS_NO_TAG: &str = "substr(ref, 1, 10) <> 'refs/tags/'";

/// Whether a job of the same hook takes the place of an older one with this ref.
pub(super) fn takes_place((job, delivery): (&Job, Option<i64>), older_ref: &str) -> bool {
    match replaces(job, delivery) {
        "hook" => !older_ref.starts_with("refs/tags/"),
        "ref" => older_ref == ref_key(job.target.ref_name()),
        _ => false,
    }
}

/// A dedupe key, its kind first, so that an id never looks like a hash.
pub(super) fn key_bytes(key: &DedupeKey) -> Vec<u8> {
    match key {
        DedupeKey::Id(id) => [b"i", id.as_bytes()].concat(),
        DedupeKey::Named(id) => [b"n", id.as_bytes()].concat(),
        DedupeKey::Body(hash) => [b"b", hash.as_slice()].concat(),
        DedupeKey::BodyWithin(hash, _) => [b"w", hash.as_slice()].concat(),
    }
}

/// Under which the newest accepted push of a ref is remembered, for senders that are known by their bodies alone.
pub(super) fn ref_mark(ref_name: Option<&RefName>) -> Vec<u8> {
    [b"r", ref_key(ref_name).as_bytes()].concat()
}

fn damaged(what: &str, text: &str) -> StoreError {
    StoreError::Damaged(format!("`{text}` is not a {what}"))
}
