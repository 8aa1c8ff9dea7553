CREATE TABLE signing_keys (
    -- JWK thumbprint (RFC 7638).
    kid text PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9_-]{1,64}$'),
    -- The public key, base64url.
    public_x text NOT NULL CHECK (char_length(public_x) = 43),
    -- The private key (PKCS #8), encrypted.
    private bytea NOT NULL CHECK (octet_length(private) > 32),
    -- next: published, not used yet. active: signs. retired: verifies until retires_at.
    state text NOT NULL CHECK (state IN ('next', 'active', 'retired')),
    activates_at timestamptz NOT NULL,
    retires_at timestamptz,
    CONSTRAINT signing_keys_retired_check CHECK (state <> 'retired' OR retires_at IS NOT NULL)
);

CREATE UNIQUE INDEX signing_keys_active_key ON signing_keys (state) WHERE state = 'active';
