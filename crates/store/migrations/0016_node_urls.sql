-- Where the other nodes reach a node; and which sessions an entry has ended there, eight bytes each, little-endian: one that was open on several nodes is
-- counted once. `sessions` goes on being the number of all that was ended.
ALTER TABLE leases ADD COLUMN url TEXT;
ALTER TABLE cuts ADD COLUMN numbers BLOB NOT NULL DEFAULT x'';
