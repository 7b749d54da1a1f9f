-- Who changed what. Each entry's hash holds the one before it (trustrelay-authority, module audit). The columns before `entry` repeat what
-- is in it, for those who look something up.
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

-- The last entry, whatever has been cut off since at the other end. Whoever appends takes the next number from this one row, and holds its lock
-- until the commit: the last of all locks that are taken.
CREATE TABLE audit_head (
  one  BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
  seq  BIGINT NOT NULL,
  hash BYTEA NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));
