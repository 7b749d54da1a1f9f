-- Each order in which tokens can be searched has an index with that order and the searched columns.
-- The indexes are on columns, because SQLite cannot continue between two rows with equal values in
-- an index on an expression.
ALTER TABLE pats ADD COLUMN folded_name TEXT GENERATED ALWAYS AS (lower(name)) VIRTUAL;
DROP INDEX pats_by_name;
CREATE INDEX pats_by_name ON pats (folded_name, pat_id);
-- By whole days, so that daily use keeps a token's position for the day.
ALTER TABLE pats ADD COLUMN used_day INTEGER GENERATED ALWAYS AS (coalesce(last_used_at, created_at) / 86400000000) VIRTUAL;
DROP INDEX pats_by_use;
CREATE INDEX pats_by_use ON pats (used_day, pat_id) WHERE revoked_at IS NULL;
-- By the day on which a token ends if it stays unused until then.
ALTER TABLE pats ADD COLUMN unused_day INTEGER GENERATED ALWAYS AS (coalesce(last_used_at, created_at) / 86400000000 + unused_days) VIRTUAL;
DROP INDEX pats_to_be_used;
CREATE INDEX pats_to_be_used ON pats (unused_day, pat_id) WHERE unused_days IS NOT NULL AND revoked_at IS NULL;
DROP INDEX pats_by_hint;
CREATE INDEX pats_by_hint ON pats (hint, created_at, pat_id);
-- Duplicates pats_by_expiry.
DROP INDEX pats_by_end;
