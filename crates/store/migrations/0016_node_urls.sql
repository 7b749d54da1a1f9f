-- url: the URL at which other nodes reach a node. numbers: the sessions that an entry has ended
-- there, eight bytes each, little-endian. A session that was open on several nodes is counted once.
-- `sessions` remains the number of everything that was ended.
ALTER TABLE leases ADD COLUMN url TEXT;
ALTER TABLE cuts ADD COLUMN numbers BLOB NOT NULL DEFAULT x'';
