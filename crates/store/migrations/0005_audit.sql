-- The changes and who made them. Each entry's hash covers the previous one (trustrelay-authority,
-- module audit). The columns before `entry` repeat parts of its content for searches.
CREATE TABLE audit (
  seq           INTEGER PRIMARY KEY,
  at            INTEGER NOT NULL,
  action        TEXT NOT NULL,
  actor_user_id BLOB,
  actor_pat_id  BLOB,
  user_id       BLOB,
  pat_id        BLOB,
  entry         BLOB NOT NULL,
  hash          BLOB NOT NULL
) STRICT;
CREATE INDEX audit_of_user ON audit (user_id, seq) WHERE user_id IS NOT NULL;
CREATE INDEX audit_of_pat ON audit (pat_id, seq) WHERE pat_id IS NOT NULL;
CREATE INDEX audit_of_actor ON audit (actor_user_id, seq) WHERE actor_user_id IS NOT NULL;
CREATE INDEX audit_of_action ON audit (action, seq);

-- The last entry, regardless of entries removed at the other end.
CREATE TABLE audit_head (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  seq  INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, zeroblob(32));
