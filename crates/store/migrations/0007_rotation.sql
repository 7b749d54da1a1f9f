-- The earlier secrets of a token, and the data for repeating the answer to its last rotation
-- (trustrelay-authority, module rotation).
ALTER TABLE pats ADD COLUMN rotated_at INTEGER;
CREATE TABLE retired_secrets (
  digest          BLOB PRIMARY KEY,
  pat_id          BLOB NOT NULL REFERENCES pats (pat_id),
  key_id          INTEGER NOT NULL,
  hint            TEXT NOT NULL,
  retired_at      INTEGER NOT NULL,
  valid_until     INTEGER NOT NULL,
  until_first_use INTEGER NOT NULL,
  used_after_at   INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX retired_secrets_of_pat ON retired_secrets (pat_id, retired_at);
CREATE TABLE rotations (
  pat_id          BLOB PRIMARY KEY REFERENCES pats (pat_id),
  at              INTEGER NOT NULL,
  seq             INTEGER NOT NULL,
  old_valid_until INTEGER NOT NULL,
  until_first_use INTEGER NOT NULL,
  key_digest      BLOB NOT NULL,
  asked_digest    BLOB NOT NULL,
  nonce           BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX rotations_by_time ON rotations (at);

-- Secrets that a log entry names in addition to log_pats. For an entry of the kind 'retired', each
-- secret is valid until valid_until at the latest. For the kind 'revoked', they are the earlier
-- secrets of the revoked tokens and are revoked with them.
CREATE TABLE log_secrets (
  seq         INTEGER NOT NULL REFERENCES log (seq),
  digest      BLOB NOT NULL,
  pat_id      BLOB NOT NULL,
  valid_until INTEGER,
  PRIMARY KEY (seq, digest)
) STRICT, WITHOUT ROWID;
