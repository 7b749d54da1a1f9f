-- A row says that a lease is held and for how long, and not until when: whoever waits for it goes by a clock of its own.
-- A lease of before may be of any length that there is: it is waited for as long, once. The old column goes, so that a program of before,
-- whose leases nobody would see, gets no more of them.
-- claim: which of the node's claims it is. length: microseconds. renewed_at: by this database's clock, for people and for the removal of old rows.
ALTER TABLE nodes DROP COLUMN lease_until,
  ADD COLUMN held BOOLEAN NOT NULL DEFAULT TRUE,
  ADD COLUMN claim BIGINT NOT NULL DEFAULT 0,
  ADD COLUMN length BIGINT NOT NULL DEFAULT 60000000,
  ADD COLUMN renewed_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE nodes ALTER COLUMN held DROP DEFAULT, ALTER COLUMN claim DROP DEFAULT,
  ALTER COLUMN length DROP DEFAULT, ALTER COLUMN renewed_at DROP DEFAULT;
