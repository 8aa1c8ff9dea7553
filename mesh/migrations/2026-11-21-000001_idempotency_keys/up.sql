-- One row for each call that must not happen twice, written in the transaction of its effect.
CREATE TABLE idempotency_keys (
    caller text NOT NULL CHECK (caller <> ''),
    method text NOT NULL CHECK (method <> ''),
    key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    -- SHA-256 of the request without its secrets.
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    state text NOT NULL CHECK (state IN ('IN_PROGRESS', 'COMPLETED')),
    lease_expires_at timestamptz NOT NULL,
    -- What is done already, for whoever takes the call over.
    recovery_point text NOT NULL,
    -- The row that the call created.
    subject uuid,
    -- The answer, a protobuf message.
    response bytea,
    -- Or the refusal, an encoded google.rpc.Status.
    status bytea,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (caller, method, key),
    CONSTRAINT idempotency_keys_retention_check CHECK (expires_at >= created_at + interval '24 hours'),
    CONSTRAINT idempotency_keys_answer_check
    CHECK (num_nonnulls(response, status) = CASE state WHEN 'COMPLETED' THEN 1 ELSE 0 END)
);

CREATE INDEX idempotency_keys_expires_at_idx ON idempotency_keys (expires_at);
