-- Who looks for unused tokens asks about those that have not ended yet, by the span of thirty days in which they end: what has ended, which is ever more, is
-- passed over unread.
DROP INDEX pats_to_be_used;
CREATE INDEX pats_to_be_used ON pats (expires_at / 2592000000000, unused_day, pat_id) WHERE unused_days IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX pats_unused ON pats (expires_at / 2592000000000, used_day, pat_id) WHERE revoked_at IS NULL;
