-- Each order in which tokens can be searched has an index with that order and the searched columns.
-- The dropped index duplicates pats_by_expiry.
DROP INDEX pats_by_end;
DROP INDEX pats_by_hint;
CREATE INDEX pats_by_hint ON pats (hint, created_at, pat_id);

-- Uses are recorded every few seconds. An index on last_used_at, or on an expression of it, would
-- make each recorded use add a new entry to every index of the table. Without one, the row is
-- updated in place (a heap-only tuple). Searches therefore use columns that change once a day, and
-- pages reserve room for the row's next version.
DROP INDEX pats_by_use;
DROP INDEX pats_to_be_used;
ALTER TABLE pats
  ADD COLUMN used_day BIGINT GENERATED ALWAYS AS (coalesce(last_used_at, created_at) / 86400000000) STORED,
  ADD COLUMN unused_day BIGINT GENERATED ALWAYS AS (coalesce(last_used_at, created_at) / 86400000000 + unused_days) STORED,
  SET (fillfactor = 85);
CREATE INDEX pats_by_use ON pats (used_day, pat_id) WHERE revoked_at IS NULL;
-- By the day on which a token ends if it stays unused until then.
CREATE INDEX pats_to_be_used ON pats (unused_day, pat_id) WHERE unused_days IS NOT NULL AND revoked_at IS NULL;
