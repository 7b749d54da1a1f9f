-- Each order in which tokens are searched through has an index that holds it, and what is asked for with it. Of columns: in an index of an expression
-- SQLite finds no place between two rows that are alike in it.
ALTER TABLE pats ADD COLUMN folded_name TEXT GENERATED ALWAYS AS (lower(name)) VIRTUAL;
DROP INDEX pats_by_name;
CREATE INDEX pats_by_name ON pats (folded_name, pat_id);
-- By days alone: what is used daily keeps its place for the day.
ALTER TABLE pats ADD COLUMN used_day INTEGER GENERATED ALWAYS AS (coalesce(last_used_at, created_at) / 86400000000) VIRTUAL;
DROP INDEX pats_by_use;
CREATE INDEX pats_by_use ON pats (used_day, pat_id) WHERE revoked_at IS NULL;
-- By the day on which a token ends if nobody uses it until then.
ALTER TABLE pats ADD COLUMN unused_day INTEGER GENERATED ALWAYS AS (coalesce(last_used_at, created_at) / 86400000000 + unused_days) VIRTUAL;
DROP INDEX pats_to_be_used;
CREATE INDEX pats_to_be_used ON pats (unused_day, pat_id) WHERE unused_days IS NOT NULL AND revoked_at IS NULL;
DROP INDEX pats_by_hint;
CREATE INDEX pats_by_hint ON pats (hint, created_at, pat_id);
-- The same as pats_by_expiry.
DROP INDEX pats_by_end;
