-- A row says that a lease is held and for how long, but not until when: a waiting node measures the
-- time with its own clock. A lease from before this migration may have any length, so it is waited
-- for as long as any lease may last, once. The old column is dropped, so that an older program,
-- whose leases would not be seen, gets no more of them. claim: the number of the node's claim.
-- length: microseconds. renewed_at: by this database's clock, for people and for the removal of old
-- rows.
ALTER TABLE nodes DROP COLUMN lease_until,
  ADD COLUMN held BOOLEAN NOT NULL DEFAULT TRUE,
  ADD COLUMN claim BIGINT NOT NULL DEFAULT 0,
  ADD COLUMN length BIGINT NOT NULL DEFAULT 60000000,
  ADD COLUMN renewed_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ALTER COLUMN held DROP DEFAULT, ALTER COLUMN claim DROP DEFAULT,
  ALTER COLUMN length DROP DEFAULT, ALTER COLUMN renewed_at DROP DEFAULT;
