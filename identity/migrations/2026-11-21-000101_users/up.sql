CREATE TABLE users (
    id uuid PRIMARY KEY,
    email_display text NOT NULL CHECK (email_display <> ''),
    email_canonical text NOT NULL CHECK (octet_length(email_canonical) BETWEEN 3 AND 254),
    username_display text,
    username_canonical text CHECK (username_canonical ~ '^[a-z0-9._-]{3,50}$'),
    display_name text NOT NULL,
    locale text NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'disabled', 'deleted')),
    -- Counts the changes to what the user may do; tokens carry it.
    sv bigint NOT NULL CHECK (sv >= 1),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT users_email_canonical_key UNIQUE (email_canonical),
    CONSTRAINT users_username_canonical_key UNIQUE (username_canonical),
    CONSTRAINT users_username_check CHECK ((username_display IS NULL) = (username_canonical IS NULL)),
    CONSTRAINT users_deleted_check CHECK ((deleted_at IS NOT NULL) = (status = 'deleted'))
);

CREATE TABLE credentials (
    user_id uuid NOT NULL REFERENCES users (id),
    kind text NOT NULL CHECK (kind IN ('password')),
    -- Nothing but an argon2id hash in PHC string format fits.
    phc text NOT NULL CHECK (phc ~ '^\$argon2id\$v=19\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]{22,}\$[A-Za-z0-9+/]{43,}$'),
    -- When the user chose the password. The same password hashed anew does not count.
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, kind)
);
