-- That a secret has ended is said here, and by no clock. What was good no longer than the log's last entry has ended; entries say it of themselves.
ALTER TABLE retired_secrets ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
UPDATE retired_secrets SET ended = 1 WHERE valid_until <= COALESCE((SELECT MAX(at) FROM log), 0);
ALTER TABLE log_secrets ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
UPDATE log_secrets SET ended = 1 WHERE valid_until <= (SELECT at FROM log WHERE log.seq = log_secrets.seq);
