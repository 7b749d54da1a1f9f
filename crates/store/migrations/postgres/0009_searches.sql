-- Each order in which tokens are searched through has an index that holds it, and what is asked for with it.
-- The same as pats_by_expiry.
DROP INDEX pats_by_end;
DROP INDEX pats_by_hint;
CREATE INDEX pats_by_hint ON pats (hint, created_at, pat_id);

-- Uses are written down every few seconds. An index of last_used_at, also one of an expression of it, makes each of them a new entry in every
-- index of the table; without one the row is changed where it is (a heap-only tuple). So what is searched for goes by columns that change once a day,
-- and pages keep room for the row's next version.
DROP INDEX pats_by_use;
DROP INDEX pats_to_be_used;
ALTER TABLE pats
  ADD COLUMN used_day BIGINT GENERATED ALWAYS AS (coalesce(last_used_at, created_at) / 86400000000) STORED,
  ADD COLUMN unused_day BIGINT GENERATED ALWAYS AS (coalesce(last_used_at, created_at) / 86400000000 + unused_days) STORED,
  SET (fillfactor = 85);
CREATE INDEX pats_by_use ON pats (used_day, pat_id) WHERE revoked_at IS NULL;
-- By the day on which a token ends if nobody uses it until then.
CREATE INDEX pats_to_be_used ON pats (unused_day, pat_id) WHERE unused_days IS NOT NULL AND revoked_at IS NULL;
