-- The limits of a token beyond its scopes. allowed_networks: in CIDR notation, separated by spaces.
-- NULL: unlimited.
ALTER TABLE pats ADD COLUMN allowed_networks TEXT,
  ADD COLUMN requests_per_minute BIGINT,
  ADD COLUMN unused_days BIGINT;
-- The tokens that end if they stay unused.
CREATE INDEX pats_to_be_used ON pats (pat_id) WHERE unused_days IS NOT NULL AND revoked_at IS NULL;
