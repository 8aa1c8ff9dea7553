-- Where events are delivered to.
CREATE TABLE webhook_endpoints (
    id uuid PRIMARY KEY,
    -- Counts what its owner sees change, and is its etag.
    version bigint NOT NULL CHECK (version >= 1),
    -- Whose events; NULL for everybody's.
    merchant_id text REFERENCES merchants (id),
    url text NOT NULL,
    description text NOT NULL,
    -- Types, or `kind.*`; none for all.
    event_types text [] NOT NULL,
    state text NOT NULL CHECK (state IN ('ENABLED', 'DISABLED')),
    disabled_reason text CHECK (disabled_reason IN ('MANUAL', 'GONE', 'FAILING')),
    secret_version integer NOT NULL CHECK (secret_version >= 1),
    -- Attempts that failed, since the last that did not.
    consecutive_failures integer NOT NULL DEFAULT 0 CHECK (consecutive_failures >= 0),
    -- When the first of them failed.
    failing_since timestamptz,
    -- Nothing is attempted before this, and one delivery alone after it.
    resume_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT webhook_endpoints_disabled_check CHECK ((state = 'DISABLED') = (disabled_reason IS NOT NULL)),
    CONSTRAINT webhook_endpoints_failing_check CHECK ((consecutive_failures > 0) = (failing_since IS NOT NULL))
);

CREATE INDEX webhook_endpoints_merchant_id_idx ON webhook_endpoints (merchant_id);

-- What deliveries are signed with, as ciphertext.
CREATE TABLE vault.webhook_secrets (
    id uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    version integer NOT NULL CHECK (version >= 1),
    dek_id uuid NOT NULL REFERENCES vault.deks (id),
    nonce bytea NOT NULL CHECK (octet_length(nonce) = 12),
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL,
    -- Until when it signs beside its successor; NULL for the newest.
    expires_at timestamptz,
    UNIQUE (endpoint_id, version),
    UNIQUE (dek_id, nonce)
);

CREATE UNIQUE INDEX webhook_secrets_newest_key ON vault.webhook_secrets (endpoint_id) WHERE expires_at IS NULL;
CREATE INDEX webhook_secrets_expires_at_idx ON vault.webhook_secrets (expires_at) WHERE expires_at IS NOT NULL;

-- Every event since there are webhooks, written with it: what the outbox does not say of it, and whether it was spread over the endpoints.
CREATE TABLE webhook_events (
    event_id uuid PRIMARY KEY REFERENCES outbox (id),
    -- Of the call that caused it.
    idempotency_key text,
    spread_at timestamptz
);

CREATE INDEX webhook_events_unspread_idx ON webhook_events (event_id) WHERE spread_at IS NULL;
CREATE INDEX outbox_occurred_at_idx ON outbox (occurred_at);

CREATE TABLE webhook_deliveries (
    id uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    event_id uuid NOT NULL REFERENCES webhook_events (event_id),
    trigger text NOT NULL CHECK (trigger IN ('EVENT', 'REDELIVERY', 'REPLAY', 'PING')),
    state text NOT NULL CHECK (state IN ('PENDING', 'SUCCEEDED', 'DEAD')),
    attempts integer NOT NULL CHECK (attempts BETWEEN 0 AND 10),
    -- When it is attempted next.
    due_at timestamptz,
    -- Until when the worker that took it keeps others off, and by which its answer is known.
    lease_expires_at timestamptz,
    lease uuid,
    last_attempt_at timestamptz,
    last_failure text CHECK (
        last_failure IN (
            'HTTP_STATUS', 'TIMEOUT', 'NAME_NOT_RESOLVED', 'ADDRESS_FORBIDDEN', 'CONNECTION_FAILED', 'TLS_FAILED', 'SECRET_UNREADABLE',
            'ENDPOINT_DISABLED'
        )
    ),
    last_http_status integer CHECK (last_http_status BETWEEN 100 AND 999),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT webhook_deliveries_due_check CHECK ((state = 'PENDING') = (due_at IS NOT NULL)),
    CONSTRAINT webhook_deliveries_lease_check CHECK (
        (lease IS NULL) = (lease_expires_at IS NULL) AND (state = 'PENDING' OR lease IS NULL)
    )
);

-- An event is spread over an endpoint once.
CREATE UNIQUE INDEX webhook_deliveries_event_key ON webhook_deliveries (endpoint_id, event_id) WHERE trigger = 'EVENT';
CREATE INDEX webhook_deliveries_due_idx ON webhook_deliveries (endpoint_id, due_at) WHERE state = 'PENDING';
CREATE INDEX webhook_deliveries_leased_idx ON webhook_deliveries (endpoint_id, lease_expires_at) WHERE lease IS NOT NULL;
CREATE INDEX webhook_deliveries_endpoint_id_idx ON webhook_deliveries (endpoint_id, id DESC);

CREATE OR REPLACE VIEW free_texts AS
SELECT 'payment_intents ' || id AS place, reference || ' ' || cancel_reason || ' ' || coalesce(error_message, '') AS text
FROM payment_intents
UNION ALL
SELECT 'refunds ' || id, reason FROM refunds
UNION ALL
SELECT 'outbox ' || id, payload::text FROM outbox
UNION ALL
SELECT 'merchants ' || id, display_name FROM merchants
UNION ALL
SELECT 'webhook_endpoints ' || id, url || ' ' || description FROM webhook_endpoints
UNION ALL
SELECT 'webhook_events ' || event_id, idempotency_key FROM webhook_events WHERE idempotency_key IS NOT NULL;
