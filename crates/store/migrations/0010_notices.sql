-- The HTTP receivers of notices: of one user's notices or, without user_id, of everybody's.
CREATE TABLE webhooks (
  webhook_id BLOB PRIMARY KEY,
  user_id    BLOB REFERENCES users,
  url        TEXT NOT NULL,
  origin     TEXT NOT NULL,
  key_id     INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_of ON webhooks (user_id);

-- The notices to owners of tokens. `once` is the key of the notice's subject, so that each notice
-- is created only once.
CREATE TABLE notices (
  notice_id  BLOB PRIMARY KEY,
  user_id    BLOB NOT NULL REFERENCES users,
  pat_id     BLOB,
  kind       TEXT NOT NULL,
  once       TEXT NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  facts      TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_of ON notices (user_id, notice_id);
CREATE INDEX notices_by_age ON notices (created_at);

-- The deliveries of notices. They keep the id of a webhook that was removed.
CREATE TABLE deliveries (
  delivery_id BLOB PRIMARY KEY,
  notice_id   BLOB NOT NULL REFERENCES notices ON DELETE CASCADE,
  channel     TEXT NOT NULL,
  webhook_id  BLOB,
  is_shared   INTEGER NOT NULL,
  target      TEXT NOT NULL,
  attempts    INTEGER NOT NULL,
  next_at     INTEGER NOT NULL,
  state       TEXT NOT NULL,
  error       TEXT,
  done_at     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_of ON deliveries (notice_id);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'pending';

-- Tokens by their expiry.
CREATE INDEX pats_by_end ON pats (expires_at) WHERE revoked_at IS NULL;
