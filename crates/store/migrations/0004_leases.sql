-- A row says that a lease is held and for how long, but not until when: a waiting node measures the
-- time with its own clock. A lease from before this migration may have any length, so it is waited
-- for as long as any lease may last, once. claim: the number of the node's claim. length:
-- nanoseconds. renewed_at: nanoseconds since the boot that boot_id names, for people only.
CREATE TABLE leases (
  node_id     BLOB PRIMARY KEY,
  boot_id     TEXT NOT NULL,
  name        TEXT NOT NULL,
  applied_seq INTEGER NOT NULL,
  held        INTEGER NOT NULL,
  claim       INTEGER NOT NULL,
  length      INTEGER NOT NULL,
  renewed_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO leases SELECT node_id, boot_id, name, applied_seq, 1, 0, 60000000000, 0 FROM nodes;
DROP TABLE nodes;
