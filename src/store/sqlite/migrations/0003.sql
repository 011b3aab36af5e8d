-- Whether a run had begun to change what it deploys to. If it ends without, whose place it took waits again.
-- NULL: it has not ended, or it ended under a release that did not note it.
ALTER TABLE run ADD COLUMN has_staged INTEGER;
-- The same of a run under way, as far as its steps were noted.
ALTER TABLE active ADD COLUMN has_staged INTEGER NOT NULL DEFAULT 0;
UPDATE active SET has_staged = 1
WHERE step IN ('stage', 'shared', 'run', 'seal', 'switch', 'activate', 'health', 'rollback');

-- A tag takes the place of the same tag alone.
UPDATE pending SET replaces = 'ref' WHERE replaces = 'hook' AND substr(ref, 1, 10) = 'refs/tags/';

-- The run by which its push was accepted first; NULL: this one. A retry, a run that waits again and one that a
-- redelivery queued are of an older push than their number says.
ALTER TABLE run ADD COLUMN first_run INTEGER;
-- How often deliveries with this key were queued.
ALTER TABLE seen ADD COLUMN times INTEGER NOT NULL DEFAULT 1;

-- The address its pushes come to, and the forge's own number of its repository; NULL: no push has told it.
ALTER TABLE hook ADD COLUMN repository TEXT;
-- What the forge calls that repository by now; NULL: as hooks.yaml did at the last push that was queued.
ALTER TABLE hook ADD COLUMN renamed_to TEXT;
CREATE INDEX hook_of_repository ON hook (repository) WHERE repository IS NOT NULL;
