-- Where the other nodes reach a node; and which sessions an entry has ended there: one that was open on several nodes is counted once. `sessions` goes
-- on being the number of all that was ended: nodes of before write nothing else.
ALTER TABLE nodes ADD COLUMN url TEXT;
ALTER TABLE cuts ADD COLUMN numbers BIGINT[] NOT NULL DEFAULT '{}';
