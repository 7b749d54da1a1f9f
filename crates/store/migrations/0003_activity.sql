-- The calls of tokens. day: in UTC, as YYYY-MM-DD; durations are microseconds.
CREATE TABLE call_days (
  pat_id    BLOB NOT NULL REFERENCES pats (pat_id),
  day       TEXT NOT NULL,
  upstream  TEXT NOT NULL,
  tool      TEXT NOT NULL,
  outcome   TEXT NOT NULL,
  calls     INTEGER NOT NULL,
  duration  INTEGER NOT NULL,
  bytes_in  INTEGER NOT NULL,
  bytes_out INTEGER NOT NULL,
  PRIMARY KEY (pat_id, day, upstream, tool, outcome)
) STRICT, WITHOUT ROWID;
CREATE INDEX call_days_by_day ON call_days (day);

-- The latest calls of each token. Of calls at the same time, the one with the larger id is later.
CREATE TABLE latest_calls (
  call_id   INTEGER PRIMARY KEY,
  pat_id    BLOB NOT NULL REFERENCES pats (pat_id),
  at        INTEGER NOT NULL,
  upstream  TEXT NOT NULL,
  tool      TEXT NOT NULL,
  outcome   TEXT NOT NULL,
  duration  INTEGER NOT NULL,
  bytes_in  INTEGER NOT NULL,
  bytes_out INTEGER NOT NULL
) STRICT;
CREATE INDEX latest_calls_of_pat ON latest_calls (pat_id, at DESC, call_id DESC);
CREATE INDEX latest_calls_by_time ON latest_calls (at);
