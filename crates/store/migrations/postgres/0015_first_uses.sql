-- The log entry that ended a secret which the first use of its successor ends. The successor is let in when every node has applied it.
ALTER TABLE retired_secrets ADD COLUMN first_use_seq BIGINT;
