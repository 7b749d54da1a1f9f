-- Records explicitly that a secret has ended, so that no clock decides it. Secrets that were not
-- valid beyond the log's last entry have ended. Log entries carry the same information.
ALTER TABLE retired_secrets ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
UPDATE retired_secrets SET ended = 1 WHERE valid_until <= COALESCE((SELECT MAX(at) FROM log), 0);
ALTER TABLE log_secrets ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
UPDATE log_secrets SET ended = 1 WHERE valid_until <= (SELECT at FROM log WHERE log.seq = log_secrets.seq);
