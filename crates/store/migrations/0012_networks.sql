-- The networks from which tokens were used, as text (192.0.2.0/24).
CREATE TABLE pat_networks (
  pat_id        BLOB NOT NULL REFERENCES pats (pat_id),
  network       TEXT NOT NULL,
  first_used_at INTEGER NOT NULL,
  last_used_at  INTEGER NOT NULL,
  PRIMARY KEY (pat_id, network)
) STRICT, WITHOUT ROWID;
CREATE INDEX pat_networks_by_use ON pat_networks (last_used_at);
