-- Every search of the audit log is ordered by time, so each index ends in it.
DROP INDEX audit_of_user;
DROP INDEX audit_of_pat;
DROP INDEX audit_of_actor;
DROP INDEX audit_of_action;
CREATE INDEX audit_by_time ON audit (at, seq);
CREATE INDEX audit_by_user ON audit (user_id, at, seq) WHERE user_id IS NOT NULL;
CREATE INDEX audit_by_pat ON audit (pat_id, at, seq) WHERE pat_id IS NOT NULL;
CREATE INDEX audit_by_actor_user ON audit (actor_user_id, at, seq) WHERE actor_user_id IS NOT NULL;
CREATE INDEX audit_by_actor_pat ON audit (actor_pat_id, at, seq) WHERE actor_pat_id IS NOT NULL;
CREATE INDEX audit_by_action ON audit (action, at, seq);
CREATE INDEX audit_by_subject ON audit (substr(action, 1, instr(action, '.') - 1), at, seq);

-- The last entry that was cut off. The kept entries begin after it.
CREATE TABLE audit_cut (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  seq  INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;
INSERT INTO audit_cut (one, seq, hash) VALUES (1, 0, zeroblob(32));

-- A node's statement that the chain had this state.
CREATE TABLE audit_seals (
  seq INTEGER PRIMARY KEY,
  at  INTEGER NOT NULL,
  mac BLOB NOT NULL
) STRICT;
