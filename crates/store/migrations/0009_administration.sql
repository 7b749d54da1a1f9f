-- Decisions of administrators (trustrelay-authority, module admin). upstreams: the names, separated
-- by spaces, of the upstreams that the account may use; NULL: all.
ALTER TABLE users ADD COLUMN upstreams TEXT;
CREATE INDEX users_by_age ON users (created_at DESC, user_id DESC);
-- The enabled administrators, of whom at least one must remain.
CREATE INDEX users_who_administer ON users (user_id) WHERE is_admin AND disabled_at IS NULL;

-- digest: of the secret in the link. created_by: NULL if the operator created the invitation.
CREATE TABLE invites (
  invite_id  BLOB PRIMARY KEY,
  digest     BLOB NOT NULL UNIQUE,
  email      TEXT NOT NULL UNIQUE,
  is_admin   INTEGER NOT NULL,
  created_by BLOB,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A single row. Its version increases with each change. entry: JSON.
CREATE TABLE policy (
  one     INTEGER PRIMARY KEY CHECK (one = 1),
  version INTEGER NOT NULL,
  entry   TEXT NOT NULL
) STRICT;
INSERT INTO policy (one, version, entry) VALUES (1, 0, '{}');

-- All tokens, in each order in which they can be searched.
CREATE INDEX pats_by_age ON pats (created_at, pat_id);
CREATE INDEX pats_by_name ON pats (lower(name), pat_id);
CREATE INDEX pats_by_hint ON pats (hint);
CREATE INDEX pats_by_expiry ON pats (expires_at, pat_id) WHERE revoked_at IS NULL;
CREATE INDEX pats_by_use ON pats (coalesce(last_used_at, created_at), pat_id) WHERE revoked_at IS NULL;
CREATE INDEX pats_revoked ON pats (created_at, pat_id) WHERE revoked_at IS NOT NULL;
