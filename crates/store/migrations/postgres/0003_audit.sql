-- The changes and who made them. Each entry's hash covers the previous one (trustrelay-authority,
-- module audit). The columns before `entry` repeat parts of its content for searches.
CREATE TABLE audit (
  seq           BIGINT PRIMARY KEY,
  at            BIGINT NOT NULL,
  action        TEXT COLLATE "C" NOT NULL,
  actor_user_id UUID,
  actor_pat_id  UUID,
  user_id       UUID,
  pat_id        UUID,
  entry         BYTEA NOT NULL,
  hash          BYTEA NOT NULL
);
CREATE INDEX audit_of_user ON audit (user_id, seq) WHERE user_id IS NOT NULL;
CREATE INDEX audit_of_pat ON audit (pat_id, seq) WHERE pat_id IS NOT NULL;
CREATE INDEX audit_of_actor ON audit (actor_user_id, seq) WHERE actor_user_id IS NOT NULL;
CREATE INDEX audit_of_action ON audit (action, seq);

-- The last entry, regardless of entries removed at the other end. An appending transaction takes
-- the next number from this single row and holds its lock until the commit. It is always the last
-- lock taken.
CREATE TABLE audit_head (
  one  BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
  seq  BIGINT NOT NULL,
  hash BYTEA NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));
