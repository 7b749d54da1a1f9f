-- Times are microseconds since 1970 (UTC). A database's version is the number of migrations applied
-- to it.
CREATE TABLE trustrelay_schema (
  one     BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
  version BIGINT NOT NULL
);
INSERT INTO trustrelay_schema (version) VALUES (0);

CREATE TABLE users (
  user_id       UUID PRIMARY KEY,
  email         TEXT NOT NULL UNIQUE,
  password_hash TEXT NOT NULL,
  is_admin      BOOLEAN NOT NULL,
  created_at    BIGINT NOT NULL,
  disabled_at   BIGINT,
  changed_seq   BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE pats (
  pat_id            UUID PRIMARY KEY,
  user_id           UUID NOT NULL REFERENCES users (user_id),
  name              TEXT NOT NULL,
  hint              TEXT NOT NULL,
  scopes            TEXT NOT NULL,
  digest            BYTEA NOT NULL UNIQUE,
  key_id            BIGINT NOT NULL,
  parent_id         UUID REFERENCES pats (pat_id),
  created_at        BIGINT NOT NULL,
  expires_at        BIGINT NOT NULL,
  revoked_at        BIGINT,
  revoked_seq       BIGINT,
  last_used_at      BIGINT,
  last_used_address TEXT,
  last_used_agent   TEXT,
  use_count         BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX pats_of_user ON pats (user_id, created_at DESC, pat_id DESC);
CREATE INDEX pats_of_parent ON pats (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE browser_sessions (
  digest     BYTEA PRIMARY KEY,
  user_id    UUID NOT NULL REFERENCES users (user_id),
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX browser_sessions_of_user ON browser_sessions (user_id);
CREATE INDEX browser_sessions_by_expiry ON browser_sessions (expires_at);

-- Numbered without gaps, in commit order: a transaction that writes an entry takes its number from
-- log_head's single row, and holds that row's lock until the commit. A sequence would hand out
-- numbers that commit in another order, or never. kind: 'revoked' (the tokens are in log_pats),
-- 'disabled' or 'enabled' (user_id).
CREATE TABLE log_head (
  one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
  seq  BIGINT NOT NULL
);
INSERT INTO log_head (seq) VALUES (0);
CREATE TABLE log (
  seq     BIGINT PRIMARY KEY,
  at      BIGINT NOT NULL,
  kind    TEXT NOT NULL,
  user_id UUID
);
CREATE TABLE log_pats (
  seq    BIGINT NOT NULL REFERENCES log (seq),
  pat_id UUID NOT NULL,
  digest BYTEA NOT NULL,
  PRIMARY KEY (seq, pat_id)
);

-- lease_until: by this database's own clock.
CREATE TABLE nodes (
  node_id     UUID PRIMARY KEY,
  name        TEXT NOT NULL,
  lease_until BIGINT NOT NULL,
  applied_seq BIGINT NOT NULL
);
-- The number of sessions that each entry has ended on each node.
CREATE TABLE cuts (
  seq      BIGINT NOT NULL,
  node_id  UUID NOT NULL,
  sessions BIGINT NOT NULL,
  PRIMARY KEY (seq, node_id)
);

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value BYTEA NOT NULL
);

-- The calls of tokens. day: in UTC, as YYYY-MM-DD; durations are microseconds. tool: UTF-8 as
-- bytes, because clients choose it and PostgreSQL's text type cannot store every character.
CREATE TABLE call_days (
  pat_id    UUID NOT NULL REFERENCES pats (pat_id),
  day       TEXT COLLATE "C" NOT NULL,
  upstream  TEXT COLLATE "C" NOT NULL,
  tool      BYTEA NOT NULL,
  outcome   TEXT COLLATE "C" NOT NULL,
  calls     BIGINT NOT NULL,
  duration  BIGINT NOT NULL,
  bytes_in  BIGINT NOT NULL,
  bytes_out BIGINT NOT NULL,
  PRIMARY KEY (pat_id, day, upstream, tool, outcome)
);
CREATE INDEX call_days_by_day ON call_days (day);

-- The latest calls of each token. Of calls at the same time, the one with the larger id is later.
CREATE TABLE latest_calls (
  call_id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  pat_id    UUID NOT NULL REFERENCES pats (pat_id),
  at        BIGINT NOT NULL,
  upstream  TEXT NOT NULL,
  tool      BYTEA NOT NULL,
  outcome   TEXT NOT NULL,
  duration  BIGINT NOT NULL,
  bytes_in  BIGINT NOT NULL,
  bytes_out BIGINT NOT NULL
);
CREATE INDEX latest_calls_of_pat ON latest_calls (pat_id, at DESC, call_id DESC);
CREATE INDEX latest_calls_by_time ON latest_calls (at);
