-- A row says that a lease is held and for how long, and not until when: whoever waits for it goes by a clock of its own.
-- A lease of before may be of any length that there is: it is waited for as long, once.
-- claim: which of the node's claims it is. length: nanoseconds. renewed_at: nanoseconds since the boot that boot_id names, for people alone.
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
