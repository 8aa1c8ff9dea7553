CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    -- How often the session was refreshed. Only the refresh token with this number is good.
    counter bigint NOT NULL CHECK (counter >= 0),
    -- What refresh tokens are authenticated with, encrypted.
    session_key bytea NOT NULL CHECK (octet_length(session_key) > 32),
    device_name text NOT NULL,
    created_at timestamptz NOT NULL,
    last_refreshed_at timestamptz NOT NULL,
    idle_expires_at timestamptz NOT NULL,
    absolute_expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    -- When the user last proved who they are.
    auth_time timestamptz NOT NULL
);

CREATE INDEX sessions_live_idx ON sessions (user_id, created_at) WHERE revoked_at IS NULL;
