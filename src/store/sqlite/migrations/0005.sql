-- Whether the clock of the machine is believed about what is old. One row.
CREATE TABLE retention (
    retention   INTEGER PRIMARY KEY CHECK (retention = 1),
    -- The time at which it was believed last; 0: never.
    believed_at INTEGER NOT NULL,
    -- How long daemons have run since then while it was not, in milliseconds.
    ran         INTEGER NOT NULL
) STRICT;
INSERT INTO retention SELECT 1, at, 0 FROM queue_clock;
