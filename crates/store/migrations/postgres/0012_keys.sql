-- The earlier digests of a token's current secret, from before re-keying (trustrelay-authority,
-- module keys). They still find the token. Every log entry that names its secret also names them,
-- because a node's index may contain the token under one of them.
CREATE TABLE former_digests (
  digest BYTEA PRIMARY KEY,
  pat_id UUID NOT NULL REFERENCES pats (pat_id),
  key_id BIGINT NOT NULL
);
CREATE INDEX former_digests_of_pat ON former_digests (pat_id);
