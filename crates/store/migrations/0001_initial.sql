-- Times are microseconds since 1970 (UTC); ids are UUIDs as 16 bytes.
CREATE TABLE users (
  user_id       BLOB PRIMARY KEY,
  email         TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL,
  is_admin      INTEGER NOT NULL,
  created_at    INTEGER NOT NULL,
  disabled_at   INTEGER,
  changed_seq   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE pats (
  pat_id            BLOB PRIMARY KEY,
  user_id           BLOB NOT NULL REFERENCES users (user_id),
  name              TEXT NOT NULL,
  hint              TEXT NOT NULL,
  scopes            TEXT NOT NULL,
  digest            BLOB NOT NULL UNIQUE,
  key_id            INTEGER NOT NULL,
  parent_id         BLOB REFERENCES pats (pat_id),
  created_at        INTEGER NOT NULL,
  expires_at        INTEGER NOT NULL,
  revoked_at        INTEGER,
  revoked_seq       INTEGER,
  last_used_at      INTEGER,
  last_used_address TEXT,
  last_used_agent   TEXT,
  use_count         INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX pats_of_user ON pats (user_id, created_at DESC, pat_id DESC);
CREATE INDEX pats_of_parent ON pats (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE browser_sessions (
  digest     BLOB PRIMARY KEY,
  user_id    BLOB NOT NULL REFERENCES users (user_id),
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX browser_sessions_of_user ON browser_sessions (user_id);
CREATE INDEX browser_sessions_by_expiry ON browser_sessions (expires_at);

-- Numbered without gaps: the next number is taken in the transaction that commits it, and SQLite
-- has one writer. kind: 'revoked' (the tokens are in log_pats), 'disabled' or 'enabled' (user_id).
CREATE TABLE log (
  seq     INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  kind    TEXT NOT NULL,
  user_id BLOB
) STRICT;
CREATE TABLE log_pats (
  seq    INTEGER NOT NULL REFERENCES log (seq),
  pat_id BLOB NOT NULL,
  digest BLOB NOT NULL,
  PRIMARY KEY (seq, pat_id)
) STRICT, WITHOUT ROWID;

-- lease_until: nanoseconds since the boot that boot_id names. All processes on one file are on one machine.
CREATE TABLE nodes (
  node_id     BLOB PRIMARY KEY,
  boot_id     TEXT NOT NULL,
  lease_until INTEGER NOT NULL,
  applied_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
