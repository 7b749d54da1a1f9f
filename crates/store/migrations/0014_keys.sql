-- The earlier digests of a token's current secret, from before re-keying (trustrelay-authority,
-- module keys). They still find the token. Every log entry that names its secret also names them,
-- because a node's index may contain the token under one of them.
CREATE TABLE former_digests (
  digest BLOB PRIMARY KEY,
  pat_id BLOB NOT NULL REFERENCES pats (pat_id),
  key_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX former_digests_of_pat ON former_digests (pat_id);
