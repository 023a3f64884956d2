-- Events as the agent accepted them, one row each. To read along while the agent runs:
--   sqlite3 -readonly events.db "SELECT event_time, username, event_name FROM events ORDER BY place DESC LIMIT 20"
--
-- `canonical` and `salt` are the evidence; all other columns can be recomputed from them and from the journal.
-- A column that is VIRTUAL takes no space. What the API can filter by and no index helps with is stored as a
-- column of its own, so that reading all rows need not parse JSON.
CREATE TABLE events (
    -- Number of the origin (table position) in the upper bits, seq in the lower 48. The first origin has number
    -- 0, so on a lone host place equals seq. As the row id it makes (origin, seq) unique without an index, and
    -- rows are only ever appended.
    place             INTEGER PRIMARY KEY,
    origin            TEXT    NOT NULL,
    seq               INTEGER AS (place & 0xFFFFFFFFFFFF) VIRTUAL,
    event_id          TEXT    AS (CAST(substr(canonical, 14, 36) AS TEXT)) VIRTUAL,
    event_time        TEXT    AS (json_extract(CAST(canonical AS TEXT), '$.event_time')) VIRTUAL,
    event_name        TEXT    NOT NULL,
    username          TEXT    NOT NULL,
    resource          TEXT,
    event_source      TEXT    NOT NULL,
    source_ip_address TEXT    NOT NULL,
    request_id        TEXT,
    read_only         INTEGER NOT NULL,
    kind              TEXT    NOT NULL,
    host              TEXT    NOT NULL,
    outcome           TEXT    NOT NULL,
    severity          TEXT    NOT NULL,
    event_data        TEXT    AS (json_extract(CAST(canonical AS TEXT), '$.event_data')) VIRTUAL,
    received_time     TEXT    AS (strftime('%Y-%m-%dT%H:%M:%S', received_time_ns / 1000000000, 'unixepoch')
                                  || printf('.%09dZ', received_time_ns % 1000000000)) VIRTUAL,
    -- Nanoseconds since 1970. The text of event_time has 3, 6 or 9 fractional digits and does not sort.
    event_time_ns     INTEGER NOT NULL,
    received_time_ns  INTEGER NOT NULL,
    salt              BLOB    NOT NULL,
    canonical         BLOB    NOT NULL
) STRICT;

-- Retention by kind and age; order across origins; look-up by event_id, whose first 48 bits are the received
-- time in ms.
CREATE INDEX events_kind ON events (kind, received_time_ns);
-- after, before.
CREATE INDEX events_time ON events (event_time_ns);
-- What one user did, newest first: the row id is part of every index.
CREATE INDEX events_username ON events (username);

-- How far each journal is stored. Moves in the transaction of the rows: this is what makes delivery exactly once.
CREATE TABLE position (
    origin    TEXT    PRIMARY KEY,
    number    INTEGER NOT NULL UNIQUE,
    seq       INTEGER NOT NULL,
    leaf_hash BLOB    NOT NULL
) STRICT;

-- Rows and canonical bytes by kind, kept up to date in the same transactions.
CREATE TABLE usage (
    kind  TEXT    PRIMARY KEY,
    rows  INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT;
INSERT INTO usage (kind, rows, bytes) VALUES ('application', 0, 0), ('kernel', 0, 0), ('immudb', 0, 0), ('agent', 0, 0);
