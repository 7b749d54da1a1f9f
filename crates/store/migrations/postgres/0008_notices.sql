-- The HTTP receivers of notices: of one user's notices or, without user_id, of everybody's.
CREATE TABLE webhooks (
  webhook_id UUID PRIMARY KEY,
  user_id    UUID REFERENCES users,
  url        TEXT NOT NULL,
  origin     TEXT NOT NULL,
  key_id     BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX webhooks_of ON webhooks (user_id);

-- The notices to owners of tokens. `once` is the key of the notice's subject, so that each notice
-- is created only once.
CREATE TABLE notices (
  notice_id  UUID PRIMARY KEY,
  user_id    UUID NOT NULL REFERENCES users,
  pat_id     UUID,
  kind       TEXT NOT NULL,
  once       TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  facts      TEXT NOT NULL
);
CREATE INDEX notices_of ON notices (user_id, notice_id);
CREATE INDEX notices_by_age ON notices (created_at);

-- The deliveries of notices. They keep the id of a webhook that was removed.
CREATE TABLE deliveries (
  delivery_id UUID PRIMARY KEY,
  notice_id   UUID NOT NULL REFERENCES notices ON DELETE CASCADE,
  channel     TEXT NOT NULL,
  webhook_id  UUID,
  is_shared   BOOLEAN NOT NULL,
  target      TEXT COLLATE "C" NOT NULL,
  attempts    BIGINT NOT NULL,
  next_at     BIGINT NOT NULL,
  state       TEXT NOT NULL,
  error       TEXT,
  done_at     BIGINT
);
CREATE INDEX deliveries_of ON deliveries (notice_id);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'pending';

-- Tokens by their expiry.
CREATE INDEX pats_by_end ON pats (expires_at) WHERE revoked_at IS NULL;
