-- url: the URL at which other nodes reach a node. numbers: the sessions that an entry has ended
-- there. A session that was open on several nodes is counted once. `sessions` remains the number of
-- everything that was ended, because older nodes write nothing else.
ALTER TABLE nodes ADD COLUMN url TEXT;
ALTER TABLE cuts ADD COLUMN numbers BIGINT[] NOT NULL DEFAULT '{}';
