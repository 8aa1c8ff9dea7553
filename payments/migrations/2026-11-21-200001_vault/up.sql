-- Who is paid. Every airline is one.
CREATE TABLE merchants (
    id text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9-]{1,63}$'),
    display_name text NOT NULL,
    -- Kept by us of each capture, in minor units of its currency.
    fee_minor bigint NOT NULL DEFAULT 0 CHECK (fee_minor >= 0),
    created_at timestamptz NOT NULL
);

-- Card numbers, as ciphertext only, in a schema that a stricter role can own.
CREATE SCHEMA vault;

-- Keys that encrypt cards, wrapped by a key that is never in a database.
CREATE TABLE vault.deks (
    id uuid PRIMARY KEY,
    merchant text NOT NULL,
    kek_version integer NOT NULL CHECK (kek_version > 0),
    wrapped_dek bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'DECRYPT_ONLY', 'DESTROYED')),
    created_at timestamptz NOT NULL
);

CREATE UNIQUE INDEX deks_merchant_key ON vault.deks (merchant) WHERE state = 'ACTIVE';

CREATE TABLE vault.cards (
    id uuid PRIMARY KEY,
    dek_id uuid NOT NULL REFERENCES vault.deks (id),
    nonce bytea NOT NULL CHECK (octet_length(nonce) = 12),
    -- Number, expiry and holder. NULL once the card is forgotten.
    ciphertext bytea,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT cards_deleted_check CHECK ((ciphertext IS NULL) = (deleted_at IS NOT NULL)),
    -- One nonce is never used twice under one key.
    UNIQUE (dek_id, nonce)
);

CREATE TABLE payment_methods (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL,
    brand text NOT NULL,
    bin6 text NOT NULL CHECK (bin6 ~ '^[0-9]{6}$'),
    last4 text NOT NULL CHECK (last4 ~ '^[0-9]{4}$'),
    exp_month smallint NOT NULL CHECK (exp_month BETWEEN 1 AND 12),
    exp_year smallint NOT NULL CHECK (exp_year BETWEEN 2000 AND 2099),
    -- HMAC-SHA-256 of the number, in hexadecimal.
    fingerprint text NOT NULL CHECK (fingerprint ~ '^[0-9a-f]{64}$'),
    card_id uuid NOT NULL UNIQUE REFERENCES vault.cards (id),
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);

CREATE INDEX payment_methods_customer_id_idx ON payment_methods (customer_id, id DESC);
