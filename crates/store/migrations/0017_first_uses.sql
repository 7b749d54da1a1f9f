-- The log entry that ended a secret because its successor was used for the first time. The
-- successor is admitted once every node has applied this entry.
ALTER TABLE retired_secrets ADD COLUMN first_use_seq INTEGER;
