-- The search for unused tokens considers only tokens that have not expired, by the span of thirty
-- days in which they expire. Expired tokens, whose number grows forever, are skipped without being
-- read.
DROP INDEX pats_to_be_used;
CREATE INDEX pats_to_be_used ON pats (expires_at / 2592000000000, unused_day, pat_id) WHERE unused_days IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX pats_unused ON pats (expires_at / 2592000000000, used_day, pat_id) WHERE revoked_at IS NULL;
