-- The display name of a node, and the number of sessions that each entry has ended on it.
ALTER TABLE nodes ADD COLUMN name TEXT NOT NULL DEFAULT '';
CREATE TABLE cuts (
  seq      INTEGER NOT NULL,
  node_id  BLOB NOT NULL,
  sessions INTEGER NOT NULL,
  PRIMARY KEY (seq, node_id)
) STRICT, WITHOUT ROWID;
