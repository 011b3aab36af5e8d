-- Times are milliseconds since 1970. A column that may be NULL says so by what NULL means.
-- Rows of `hook` and `lane` stay for ever, and only the transaction that has just looked one up writes its number: what
-- every push writes is not held against them once more.

CREATE TABLE hook (
    hook        INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    -- How many rows of `run` it has, so that retention need not count history.
    runs        INTEGER NOT NULL DEFAULT 0,
    -- What people were last told of it; NULL: nothing yet.
    mood        TEXT CHECK (mood IN ('good', 'bad')),
    -- Its last succeeded commit, and the run that brought it.
    live_commit TEXT,
    live_run    INTEGER,
    -- When a run of it last began; NULL: none has.
    began_at    INTEGER,
    -- How many of its runs in a row were stopped for a newer push.
    yields      INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What a person has put on hold. Hook 0 stands for all hooks.
CREATE TABLE hold (
    hook   INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    author TEXT NOT NULL,
    since  INTEGER NOT NULL,
    -- When it ends by itself; NULL: it does not.
    until  INTEGER
) STRICT;
CREATE INDEX hold_until ON hold (until) WHERE until IS NOT NULL;

-- Commits that went live and did not come up: pushes of them are not queued.
CREATE TABLE bad_commit (
    hook      INTEGER NOT NULL REFERENCES hook,
    commit_id TEXT NOT NULL,
    run       INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    PRIMARY KEY (hook, commit_id)
) STRICT, WITHOUT ROWID;

-- The time by which jobs are ranked: that of the machine, but never going back. One row.
CREATE TABLE queue_clock (
    queue_clock INTEGER PRIMARY KEY CHECK (queue_clock = 1),
    at          INTEGER NOT NULL
) STRICT;
INSERT INTO queue_clock VALUES (1, 0);

-- The last succeeded commit of a hook and a ref.
CREATE TABLE live (
    hook      INTEGER NOT NULL REFERENCES hook,
    ref       TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    run       INTEGER NOT NULL,
    PRIMARY KEY (hook, ref)
) STRICT, WITHOUT ROWID;

-- The lane row is the only lock. It carries the head of its line, so that claim never looks at blocked jobs.
CREATE TABLE lane (
    lane       INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    next_seq   INTEGER NOT NULL DEFAULT 1,
    -- Raised by every claim; a write that carries an older one is refused.
    fence      INTEGER NOT NULL DEFAULT 0,
    -- Why nothing is claimed from it, and since when; NULL: it is open.
    stopped    TEXT,
    stopped_at INTEGER,
    -- The run that may be claimed next; NULL: the lane is empty, busy, stopped or on hold.
    ready_run  INTEGER,
    -- Not before; NULL: at once.
    ready_at   INTEGER,
    -- Among lanes the lowest comes first: that of the most urgent job in the line, which carries those before it along.
    ready_rank INTEGER,
    CHECK (ready_at IS NULL OR ready_run IS NOT NULL),
    CHECK ((ready_rank IS NULL) = (ready_run IS NULL)),
    CHECK ((stopped IS NULL) = (stopped_at IS NULL))
) STRICT;
CREATE INDEX lane_ready ON lane (ready_rank, ready_run) WHERE ready_run IS NOT NULL AND ready_at IS NULL;
CREATE INDEX lane_due ON lane (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX lane_stopped ON lane (stopped_at) WHERE stopped_at IS NOT NULL;

-- History. Small rows: the job stands beside it, and is never written again.
CREATE TABLE run (
    run         INTEGER PRIMARY KEY AUTOINCREMENT,
    hook        INTEGER NOT NULL,
    lane        INTEGER NOT NULL,
    -- The delivery behind it, as long as it is kept; NULL: a person asked for it.
    delivery    INTEGER,
    created_at  INTEGER NOT NULL,
    -- Its commit; NULL: it is to be found out.
    commit_id   TEXT,
    -- The run that repeats this one; NULL: none does.
    next_run    INTEGER,
    -- The run that took its place; NULL: none did.
    superseded_by INTEGER,
    -- How often it was claimed and could not be started, and why it could not the last time; NULL: that never happened.
    vain_starts INTEGER NOT NULL DEFAULT 0,
    vain_why    TEXT,
    -- What follows is known at the end. NULL in `fence` and `started_at`: it never was claimed, never began.
    fence       INTEGER,
    started_at  INTEGER,
    finished_at INTEGER,
    outcome     TEXT,
    fields      TEXT,
    -- 1: its folder on disk may be there.
    has_folder  INTEGER NOT NULL DEFAULT 0,
    CHECK ((finished_at IS NULL) = (outcome IS NULL))
) STRICT;
CREATE INDEX run_of_hook ON run (hook);
CREATE INDEX run_unfinished ON run (delivery) WHERE finished_at IS NULL;
CREATE INDEX run_superseded ON run (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX run_with_folder ON run (finished_at) WHERE has_folder = 1;

CREATE TABLE job (
    run INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    job TEXT NOT NULL
) STRICT;

-- Folders of forgotten runs that are still to be removed from disk.
CREATE TABLE folder_to_remove (
    run INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE pending (
    lane       INTEGER NOT NULL,
    -- Its place. A retry has the place of the run it repeats.
    seq        INTEGER NOT NULL,
    run        INTEGER NOT NULL UNIQUE REFERENCES run,
    hook       INTEGER NOT NULL,
    -- The full ref name; empty: none is known.
    ref        TEXT NOT NULL,
    -- Whose place it takes: nobody's, its hook's and ref's, or its hook's.
    replaces   TEXT NOT NULL CHECK (replaces IN ('nothing', 'ref', 'hook')),
    not_before INTEGER,
    -- When its turn in the line began to be waited for: a job has that of those whose place it took.
    since      INTEGER NOT NULL,
    -- The time of acceptance, less what its priority is worth; that of those whose place it took, if they came before.
    rank       INTEGER NOT NULL,
    -- The least time between the starts of two runs of its hook, in milliseconds.
    interval   INTEGER NOT NULL,
    PRIMARY KEY (lane, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX pending_of_hook ON pending (hook, ref);
CREATE INDEX pending_rank ON pending (lane, rank);

-- The primary key is the promise that a lane never has two.
CREATE TABLE active (
    lane         INTEGER PRIMARY KEY REFERENCES lane,
    run          INTEGER NOT NULL UNIQUE REFERENCES run,
    seq          INTEGER NOT NULL,
    fence        INTEGER NOT NULL,
    -- NULL: claimed, not begun.
    started_at   INTEGER,
    step         TEXT,
    -- Why a person wants it stopped; NULL: nobody does.
    cancel_asked TEXT,
    -- The newer run it is to make room for, unless it is going live; NULL: none.
    yields_to    INTEGER,
    -- As it waited, for a retry that keeps its place.
    ref          TEXT NOT NULL,
    since        INTEGER NOT NULL,
    rank         INTEGER NOT NULL
) STRICT;

CREATE TABLE delivery (
    delivery    INTEGER PRIMARY KEY AUTOINCREMENT,
    path        TEXT NOT NULL,
    forge       TEXT NOT NULL,
    event       TEXT,
    forge_id    TEXT,
    -- What was pushed; NULL: nothing was, or the runs it made tell.
    commit_id   TEXT,
    received_at INTEGER NOT NULL,
    result      TEXT NOT NULL,
    message     TEXT NOT NULL
) STRICT;
CREATE INDEX delivery_of_path ON delivery (path);
-- Of those that were queued, `seen` knows the id; an entry here would be one more page that every push writes.
CREATE INDEX delivery_of_forge_id ON delivery (forge_id) WHERE forge_id IS NOT NULL AND result <> 'queued';

-- The runs a delivery made, or, if it is a duplicate, the ones that were there already.
CREATE TABLE delivery_run (
    delivery INTEGER NOT NULL REFERENCES delivery ON DELETE CASCADE,
    run      INTEGER NOT NULL,
    hook     INTEGER NOT NULL,
    PRIMARY KEY (delivery, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE body (
    delivery   INTEGER PRIMARY KEY REFERENCES delivery ON DELETE CASCADE,
    size_bytes INTEGER NOT NULL,
    zstd       BLOB NOT NULL
) STRICT;

-- Which deliveries a hook has seen. Its own table, because it outlives the runs.
CREATE TABLE seen (
    seen     INTEGER PRIMARY KEY,
    hook     INTEGER NOT NULL,
    key      BLOB NOT NULL,
    -- The newest that was queued with this key, and its run.
    delivery INTEGER NOT NULL,
    run      INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    UNIQUE (key, hook)
) STRICT;

CREATE TABLE letter (
    letter      INTEGER PRIMARY KEY AUTOINCREMENT,
    run         INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    occasion    TEXT NOT NULL,
    address     TEXT NOT NULL,
    -- How often it was taken for sending.
    attempts    INTEGER NOT NULL DEFAULT 0,
    -- When it may be taken; 0: at once; NULL: it is done with.
    due_at      INTEGER,
    -- 1: somebody is sending it, and no other may take it.
    taken       INTEGER NOT NULL DEFAULT 0,
    sent_at     INTEGER,
    given_up_at INTEGER,
    -- What went wrong last.
    why         TEXT,
    CHECK ((due_at IS NULL) = (sent_at IS NOT NULL OR given_up_at IS NOT NULL))
) STRICT;
CREATE INDEX letter_due ON letter (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX letter_taken ON letter (letter) WHERE taken = 1;
CREATE INDEX letter_of_run ON letter (run);
