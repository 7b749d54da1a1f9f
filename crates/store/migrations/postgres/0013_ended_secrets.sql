-- Records explicitly that a secret has ended, so that no clock decides it. Secrets that were not
-- valid beyond the log's last entry have ended. Log entries carry the same information.
ALTER TABLE retired_secrets ADD COLUMN ended BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE retired_secrets SET ended = TRUE WHERE valid_until <= COALESCE((SELECT MAX(at) FROM log), 0);
ALTER TABLE log_secrets ADD COLUMN ended BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE log_secrets s SET ended = TRUE FROM log l WHERE l.seq = s.seq AND s.valid_until <= l.at;
