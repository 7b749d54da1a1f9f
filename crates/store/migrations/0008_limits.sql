-- What a token is held to beyond its scopes. allowed_networks: in CIDR notation, space-separated. NULL: not limited.
ALTER TABLE pats ADD COLUMN allowed_networks TEXT;
ALTER TABLE pats ADD COLUMN requests_per_minute INTEGER;
ALTER TABLE pats ADD COLUMN unused_days INTEGER;
-- Those that end if nobody uses them.
CREATE INDEX pats_to_be_used ON pats (pat_id) WHERE unused_days IS NOT NULL AND revoked_at IS NULL;
