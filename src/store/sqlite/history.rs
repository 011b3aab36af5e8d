//! Reads: pages of runs and deliveries, a hook at a glance.
//!
//! Invariant: every page walks an index from its newest end, and nothing here counts history.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, types::ValueRef};

use crate::{
    forge::DedupeKey,
    journal,
    model::{
        name::HookName,
        run::{RunId, RunStep},
        source::Forge,
        text,
    },
    store::{
        StoreError,
        arrival::DeliveryNo,
        claims::Stop,
        history::{
            Counts, DeliveryFilter, DeliveryView, HookSummary, ListedRun, RunFilter, RunStage, RunState, RunView,
            UnreadableRun,
        },
        sqlite::{
            hold, live, press, repository,
            rows::{commit_id, hook_name, key_bytes, known, lane_name, source_path, time},
            runs,
        },
    },
};

const RUN: &str = "SELECT r.run, h.name AS hook, l.name AS lane, j.job, r.commit_id, r.delivery, r.next_run, r.fields,
        r.has_folder, r.vain_why, r.created_at, r.started_at, r.finished_at, r.outcome,
        iif(l.ready_run = r.run, l.ready_at, p.not_before) AS not_before,
        coalesce((SELECT reason FROM hold WHERE hold.hook = p.hook),
                 (SELECT reason FROM hold WHERE hold.hook = 0 AND p.run IS NOT NULL)) AS hold,
        (WITH RECURSIVE taken (run) AS (
             SELECT s.run FROM run s WHERE s.superseded_by = r.run
             UNION SELECT s.run FROM taken JOIN run s ON s.superseded_by = taken.run LIMIT 100)
         SELECT group_concat(run) FROM taken) AS supersedes,
        a.started_at AS begun_at, a.step, a.cancel_asked, a.yields_to,
        coalesce(a.fence, r.fence) AS fence
    FROM run r LEFT JOIN hook h USING (hook) LEFT JOIN lane l ON l.lane = r.lane LEFT JOIN job j USING (run)
    LEFT JOIN pending p USING (run) LEFT JOIN active a USING (run)";

/// One run.
pub(in crate::store) fn run(tx: &Connection, run: RunId) -> Result<Option<ListedRun>, StoreError> {
    let mut views = views(tx, &format!("{RUN} WHERE r.run = ?1"), &[&run.0])?;
    Ok(views.pop())
}

/// A page of runs. Waiting and running ones are looked up where they wait and run, so the page costs the same
/// whatever lies behind them.
pub(in crate::store) fn runs(tx: &Connection, filter: &RunFilter) -> Result<Vec<ListedRun>, StoreError> {
    let hook = match &filter.hook {
        None => None,
        Some(name) => match runs::known_hook(tx, name)? {
            None => return Ok(Vec::new()),
            known => known,
        },
    };
    let of_hook = if hook.is_some() { "r.hook = ?1" } else { "?1 IS NULL" };
    let of_stage = match filter.stage {
        None => "1",
        Some(RunStage::Finished) => "r.finished_at IS NOT NULL",
        Some(RunStage::Running) => "r.run IN (SELECT run FROM active WHERE started_at IS NOT NULL)",
        Some(RunStage::Queued) => {
            "r.run IN (SELECT run FROM pending UNION ALL SELECT run FROM active WHERE started_at IS NULL)"
        }
    };
    let before = filter.before.map_or(i64::MAX, |it| it.0);
    let page = format!("{RUN} WHERE {of_hook} AND {of_stage} AND r.run < ?2 ORDER BY r.run DESC LIMIT ?3");
    views(tx, &page, &[&hook, &before, &filter.limit])
}

/// How far back a commit is looked for: a commit is asked about while people remember it, and an index over ids,
/// which are random, would make every run's end slower for ever.
const LOOK_BACK_RUNS: u32 = 10_000;

/// The newest runs that ended with a commit of these first digits.
pub(in crate::store) fn runs_of_commit(
    tx: &Connection,
    digits: &str,
    limit: u32,
) -> Result<Vec<ListedRun>, StoreError> {
    let recent = "r.run > (SELECT coalesce(max(run), 0) FROM run) - ?2";
    let page = format!("{RUN} WHERE {recent} AND substr(r.commit_id, 1, ?3) = ?1 ORDER BY r.run DESC LIMIT ?4");
    let length = u32::try_from(digits.len()).unwrap_or(u32::MAX);
    views(tx, &page, &[&digits, &LOOK_BACK_RUNS, &length, &limit])
}

fn views(tx: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<ListedRun>, StoreError> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut views = Vec::new();
    while let Some(row) = rows.next()? {
        views.push(match view(row) {
            Ok(view) => ListedRun::Whole(Box::new(view)),
            Err(StoreError::Damaged(why)) => ListedRun::Unreadable(unreadable(row, why)?),
            Err(error) => return Err(error),
        });
    }
    Ok(views)
}

/// What is left of a run.
fn unreadable(row: &Row, why: String) -> Result<UnreadableRun, StoreError> {
    let is_there = |column: &str| row.get_ref(column).is_ok_and(|it| it != ValueRef::Null);
    let word = |column: &str| match row.get_ref(column) {
        Ok(ValueRef::Text(bytes)) => text::shown(&String::from_utf8_lossy(bytes)).into_owned(),
        Ok(ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Blob(_)) | Err(_) => "?".to_owned(),
    };
    Ok(UnreadableRun {
        id: RunId(row.get("run")?),
        hook: word("hook"),
        lane: word("lane"),
        stage: match (is_there("finished_at"), is_there("begun_at")) {
            (true, _) => RunStage::Finished,
            (false, true) => RunStage::Running,
            (false, false) => RunStage::Queued,
        },
        created_at: row.get("created_at").ok().and_then(|it| time(it).ok()),
        why,
    })
}

fn view(row: &Row) -> Result<RunView, StoreError> {
    let job = row.get::<_, Option<String>>("job")?.ok_or_else(|| StoreError::Damaged("its job is gone".into()))?;
    let job = journal::job::decode(&job)?;
    let commit: Option<String> = row.get("commit_id")?;
    let commit = commit.map(|it| commit_id(&it)).transpose()?.or_else(|| job.target.commit().cloned());
    let fields: Option<String> = row.get("fields")?;
    let fields = fields.map(|it| serde_json::from_str(&it)).transpose();
    Ok(RunView {
        id: RunId(row.get("run")?),
        hook: hook_name(&row.get::<_, String>("hook")?)?,
        lane: lane_name(&row.get::<_, String>("lane")?)?,
        state: state(row)?,
        job,
        commit,
        delivery: row.get::<_, Option<i64>>("delivery")?.map(DeliveryNo),
        repeated_by: row.get::<_, Option<i64>>("next_run")?.map(RunId),
        fence: row.get("fence")?,
        supersedes: numbers(row.get("supersedes")?)?,
        fields: fields.map_err(|err| StoreError::Damaged(err.to_string()))?.unwrap_or_default(),
        has_folder: row.get("has_folder")?,
        created_at: time(row.get("created_at")?)?,
    })
}

fn state(row: &Row) -> Result<RunState, StoreError> {
    let ended: (Option<i64>, Option<String>) = (row.get("finished_at")?, row.get("outcome")?);
    if let (Some(at), Some(outcome)) = ended {
        let started_at = row.get::<_, Option<i64>>("started_at")?.map(time).transpose()?;
        let outcome = journal::outcome::decode(&outcome)?;
        return Ok(RunState::Finished { started_at, at: time(at)?, outcome });
    }
    if let Some(since) = row.get::<_, Option<i64>>("begun_at")? {
        let step = row.get::<_, Option<String>>("step")?.unwrap_or_else(|| RunStep::Lock.word().into());
        let step = known("step", &step, RunStep::parse(&step))?;
        let stop = match (row.get("cancel_asked")?, row.get::<_, Option<i64>>("yields_to")?) {
            (Some(reason), _) => Some(Stop::Cancel(reason)),
            (None, Some(to)) => Some(Stop::Yield { to: RunId(to) }),
            (None, None) => None,
        };
        return Ok(RunState::Running { since: time(since)?, step, stop });
    }
    let not_before = row.get::<_, Option<i64>>("not_before")?.map(time).transpose()?;
    Ok(RunState::Queued { not_before, hold: row.get("hold")?, trouble: row.get("vain_why")? })
}

/// The numbers of runs as `group_concat` gives them.
fn numbers(list: Option<String>) -> Result<Vec<RunId>, StoreError> {
    let numbers = list.iter().flat_map(|it| it.split(',')).map(|it| it.parse().map(RunId));
    let mut numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(|err| StoreError::Damaged(err.to_string()))?;
    numbers.sort_unstable();
    Ok(numbers)
}

const DELIVERY: &str = "SELECT delivery, path, forge, event, forge_id, received_at, result, message FROM delivery";

/// One delivery.
pub(in crate::store) fn delivery(tx: &Connection, no: DeliveryNo) -> Result<Option<DeliveryView>, StoreError> {
    Ok(delivery_views(tx, &format!("{DELIVERY} WHERE delivery = ?1"), &[&no.0])?.pop())
}

/// The newest delivery with this id of its sender's.
pub(in crate::store) fn delivery_by_id(tx: &Connection, id: &str) -> Result<Option<DeliveryView>, StoreError> {
    let newest = format!(
        "{DELIVERY} WHERE forge_id = ?1 AND delivery = (SELECT max(delivery) FROM (
             SELECT max(delivery) AS delivery FROM delivery WHERE forge_id = ?1 AND result <> 'queued'
             UNION ALL SELECT max(delivery) FROM seen WHERE key IN (?2, ?3)))"
    );
    let keys = [DedupeKey::Id(id.to_owned()), DedupeKey::Named(id.to_owned())].map(|it| key_bytes(&it));
    Ok(delivery_views(tx, &newest, &[&id, &keys[0], &keys[1]])?.pop())
}

/// The newest deliveries that pushed a commit which begins with these digits, and made no run of it.
pub(in crate::store) fn deliveries_of_commit(
    tx: &Connection,
    digits: &str,
    limit: u32,
) -> Result<Vec<DeliveryView>, StoreError> {
    let recent = "delivery > (SELECT coalesce(max(delivery), 0) FROM delivery) - ?2";
    let page = format!("{DELIVERY} WHERE {recent} AND substr(commit_id, 1, ?3) = ?1 ORDER BY delivery DESC LIMIT ?4");
    let length = u32::try_from(digits.len()).unwrap_or(u32::MAX);
    delivery_views(tx, &page, &[&digits, &LOOK_BACK_RUNS, &length, &limit])
}

/// A page of deliveries.
pub(in crate::store) fn deliveries(tx: &Connection, filter: &DeliveryFilter) -> Result<Vec<DeliveryView>, StoreError> {
    let path = filter.path.as_ref().map(ToString::to_string);
    let of_path = if path.is_some() { "path = ?1" } else { "?1 IS NULL" };
    let before = filter.before.map_or(i64::MAX, |it| it.0);
    let page = format!("{DELIVERY} WHERE {of_path} AND delivery < ?2 ORDER BY delivery DESC LIMIT ?3");
    delivery_views(tx, &page, &[&path, &before, &filter.limit])
}

fn delivery_views(tx: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<Vec<DeliveryView>, StoreError> {
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    let mut views = Vec::new();
    while let Some(row) = rows.next()? {
        let (number, forge): (i64, String) = (row.get(0)?, row.get(2)?);
        views.push(DeliveryView {
            id: DeliveryNo(number),
            path: source_path(&row.get::<_, String>(1)?)?,
            forge: known("forge", &forge, Forge::parse(&forge))?,
            event: row.get(3)?,
            delivery_id: row.get(4)?,
            received_at: time(row.get(5)?)?,
            result: row.get(6)?,
            message: row.get(7)?,
            runs: runs_of(tx, number)?,
        });
    }
    Ok(views)
}

fn runs_of(tx: &Connection, delivery: i64) -> Result<Vec<(RunId, HookName)>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT d.run, h.name FROM delivery_run d JOIN hook h USING (hook) WHERE d.delivery = ?1 ORDER BY d.run",
    )?;
    let mut rows = statement.query([delivery])?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        runs.push((RunId(row.get(0)?), hook_name(&row.get::<_, String>(1)?)?));
    }
    Ok(runs)
}

/// The body of a delivery, if it is still kept.
pub(in crate::store) fn payload(tx: &Connection, no: DeliveryNo) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = tx.prepare_cached("SELECT size_bytes, zstd FROM body WHERE delivery = ?1")?;
    let row: Option<(i64, Vec<u8>)> = statement.query_row([no.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((size_bytes, zstd)) = row else { return Ok(None) };
    let damaged = |why: String| StoreError::Damaged(format!("body of delivery {no}: {why}"));
    let size_bytes = usize::try_from(size_bytes).map_err(|err| damaged(err.to_string()))?;
    press::decompress(&zstd, size_bytes).map(Some)
}

/// So many runs are looked through at a glance. Whoever lists a thousand hooks does not wait for those that left out
/// thousands of pushes.
const GLANCE_RUNS_MAX: i64 = 20;

/// A hook at a glance.
pub(in crate::store) fn hook_summary(tx: &Connection, name: &HookName) -> Result<HookSummary, StoreError> {
    let Some(hook) = runs::known_hook(tx, name)? else {
        return Ok(HookSummary {
            live: None,
            disturbed: None,
            last: None,
            active: None,
            waiting: 0,
            bad_commits: Vec::new(),
            renamed_to: None,
        });
    };
    let last = format!("{RUN} WHERE r.hook = ?1 AND r.finished_at IS NOT NULL ORDER BY r.run DESC LIMIT 1");
    let active = format!("{RUN} WHERE r.run IN (SELECT run FROM active) AND r.hook = ?1 ORDER BY r.run DESC LIMIT 1");
    let mut waiting = tx.prepare_cached("SELECT count(*) FROM pending WHERE hook = ?1")?;
    Ok(HookSummary {
        live: live::live(tx, name, None)?,
        disturbed: live::disturbed_by(tx, name, None, GLANCE_RUNS_MAX)?,
        last: views(tx, &last, &[&hook])?.pop(),
        active: views(tx, &active, &[&hook])?.pop(),
        waiting: waiting.query_row([hook], |row| row.get::<_, u32>(0))?.into(),
        bad_commits: hold::bad_commits(tx, name)?,
        renamed_to: repository::new_name(tx, hook)?,
    })
}

/// How much there is to do. These tables hold what is to be done, never what was.
pub(in crate::store) fn counts(tx: &Connection) -> Result<Counts, StoreError> {
    let count = |sql: &str| tx.prepare_cached(sql)?.query_row([], |row| row.get::<_, u32>(0));
    Ok(Counts {
        queued: count("SELECT count(*) FROM pending")?.into(),
        running: count("SELECT count(*) FROM active")?.into(),
        letters: count("SELECT count(*) FROM letter WHERE due_at IS NOT NULL")?.into(),
    })
}
