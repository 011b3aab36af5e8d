-- The newest push of each ref that was accepted and did not turn out to be stale, as of the runs up to
-- `hook.accepted_up_to`. It outlives the runs.
CREATE TABLE accepted (
    hook      INTEGER NOT NULL REFERENCES hook,
    -- In lower case, since forges do not tell names apart by it.
    repo      TEXT NOT NULL,
    ref       TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    -- The run by which the push was accepted.
    run       INTEGER NOT NULL,
    PRIMARY KEY (hook, repo, ref)
) STRICT, WITHOUT ROWID;
ALTER TABLE hook ADD COLUMN accepted_up_to INTEGER NOT NULL DEFAULT 0;

-- What the last look at the remote of a hook was for; NULL: there was none.
ALTER TABLE hook ADD COLUMN looked_for TEXT;
-- Where it saw refs that only match a pattern.
CREATE TABLE seen_ref (
    hook      INTEGER NOT NULL REFERENCES hook,
    ref       TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    PRIMARY KEY (hook, ref)
) STRICT, WITHOUT ROWID;

-- What was queued because the remote had it and no delivery had brought it, until another push of the ref is accepted: a
-- delivery that comes late is the same push.
CREATE TABLE caught_up (
    hook      INTEGER NOT NULL REFERENCES hook,
    ref       TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    -- The object of an annotated tag; NULL: it is none.
    tag_id    TEXT,
    run       INTEGER NOT NULL,
    PRIMARY KEY (hook, ref)
) STRICT, WITHOUT ROWID;
