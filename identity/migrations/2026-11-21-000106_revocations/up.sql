CREATE TABLE revocations (
    -- Given out one by one under an advisory lock that is held until the commit: no number becomes visible after a higher one.
    seq bigint PRIMARY KEY CHECK (seq >= 1),
    kind text NOT NULL CHECK (kind IN ('session', 'user_version', 'key')),
    -- The UUID of a session or a user, or the name of a key.
    id text NOT NULL,
    -- The lowest sv that is still good; 0 for other kinds.
    value bigint NOT NULL CHECK (value >= 0),
    -- When no token that it concerns can be alive any more. On the clock of tokens.
    expires_at timestamptz NOT NULL,
    CONSTRAINT revocations_id_check CHECK (
        CASE kind WHEN 'key' THEN id <> '' ELSE id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' END
    )
);

CREATE INDEX revocations_expires_at_idx ON revocations (expires_at);
