-- Earlier digests of a token's present secret, from before it was re-keyed (trustrelay-authority, module keys). They still find the token, and every entry
-- that names its secret names them, because a node's index may hold the token under one of them.
CREATE TABLE former_digests (
  digest BLOB PRIMARY KEY,
  pat_id BLOB NOT NULL REFERENCES pats (pat_id),
  key_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX former_digests_of_pat ON former_digests (pat_id);
