-- Earlier digests of a token's present secret, from before it was re-keyed (trustrelay-authority, module keys). They still find the token, and every entry
-- that names its secret names them, because a node's index may hold the token under one of them.
CREATE TABLE former_digests (
  digest BYTEA PRIMARY KEY,
  pat_id UUID NOT NULL REFERENCES pats (pat_id),
  key_id BIGINT NOT NULL
);
CREATE INDEX former_digests_of_pat ON former_digests (pat_id);
