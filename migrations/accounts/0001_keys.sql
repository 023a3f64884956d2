-- Accounts: API keys, page sessions and one-time tokens. Secrets are stored as SHA-256; times are ns since 1970.
CREATE TABLE IF NOT EXISTS api_key (
    name      TEXT PRIMARY KEY,
    hash      BLOB NOT NULL UNIQUE,
    can_write INTEGER NOT NULL,
    can_read  INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    revoked   INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS page_token (
    hash    BLOB PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS session (
    hash    BLOB PRIMARY KEY,
    expires INTEGER NOT NULL
) STRICT;
