-- That a secret has ended is said here, and by no clock. What was good no longer than the log's last entry has ended; entries say it of themselves.
ALTER TABLE retired_secrets ADD COLUMN ended BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE retired_secrets SET ended = TRUE WHERE valid_until <= COALESCE((SELECT MAX(at) FROM log), 0);
ALTER TABLE log_secrets ADD COLUMN ended BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE log_secrets s SET ended = TRUE FROM log l WHERE l.seq = s.seq AND s.valid_until <= l.at;
