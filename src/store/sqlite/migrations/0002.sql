-- The word by which a run is told from every other, also from one of the same number that a database knew which was lost
-- or put back; NULL: its row is older than such words.
ALTER TABLE run ADD COLUMN token TEXT;

-- At a start there were folders of runs that the database did not know: it was put back, lost or emptied.
CREATE TABLE loss (
    at        INTEGER NOT NULL,
    -- The highest number of a run that it knew; 0: none.
    known_run INTEGER NOT NULL,
    -- The highest number of a folder.
    found_run INTEGER NOT NULL
) STRICT;

-- Those folders. They go when they are as old as logs may be.
CREATE TABLE lost_folder (
    run INTEGER PRIMARY KEY,
    at  INTEGER NOT NULL
) STRICT;
