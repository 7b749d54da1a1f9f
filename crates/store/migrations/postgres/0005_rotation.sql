-- The earlier secrets of a token, and the data for repeating the answer to its last rotation
-- (trustrelay-authority, module rotation).
ALTER TABLE pats ADD COLUMN rotated_at BIGINT;
CREATE TABLE retired_secrets (
  digest          BYTEA PRIMARY KEY,
  pat_id          UUID NOT NULL REFERENCES pats (pat_id),
  key_id          BIGINT NOT NULL,
  hint            TEXT NOT NULL,
  retired_at      BIGINT NOT NULL,
  valid_until     BIGINT NOT NULL,
  until_first_use BOOLEAN NOT NULL,
  used_after_at   BIGINT
);
CREATE INDEX retired_secrets_of_pat ON retired_secrets (pat_id, retired_at);
CREATE TABLE rotations (
  pat_id          UUID PRIMARY KEY REFERENCES pats (pat_id),
  at              BIGINT NOT NULL,
  seq             BIGINT NOT NULL,
  old_valid_until BIGINT NOT NULL,
  until_first_use BOOLEAN NOT NULL,
  key_digest      BYTEA NOT NULL,
  asked_digest    BYTEA NOT NULL,
  nonce           BYTEA NOT NULL
);
CREATE INDEX rotations_by_time ON rotations (at);

-- Secrets that a log entry names in addition to log_pats. For an entry of the kind 'retired', each
-- secret is valid until valid_until at the latest. For the kind 'revoked', they are the earlier
-- secrets of the revoked tokens and are revoked with them.
CREATE TABLE log_secrets (
  seq         BIGINT NOT NULL REFERENCES log (seq),
  digest      BYTEA NOT NULL,
  pat_id      UUID NOT NULL,
  valid_until BIGINT,
  PRIMARY KEY (seq, digest)
);
