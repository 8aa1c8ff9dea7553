CREATE TABLE payment_intents (
    id uuid PRIMARY KEY,
    version bigint NOT NULL CHECK (version >= 1),
    state text NOT NULL CHECK (
        state IN (
            'REQUIRES_PAYMENT_METHOD', 'REQUIRES_CONFIRMATION', 'PROCESSING', 'REQUIRES_CAPTURE', 'SUCCEEDED', 'CANCELED'
        )
    ),
    -- What the acquirer is asked for, while PROCESSING.
    step text CHECK (step IN ('AUTHORIZING', 'AUTHORIZING_TO_CANCEL', 'CAPTURING', 'VOIDING')),
    customer_id uuid NOT NULL,
    merchant_id text NOT NULL REFERENCES merchants (id),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_minor bigint NOT NULL CHECK (amount_minor BETWEEN 1 AND 99999999999),
    amount_authorized_minor bigint NOT NULL CHECK (amount_authorized_minor >= 0),
    amount_captured_minor bigint NOT NULL CHECK (amount_captured_minor >= 0),
    amount_refunded_minor bigint NOT NULL CHECK (amount_refunded_minor >= 0),
    capture_method text NOT NULL CHECK (capture_method IN ('AUTOMATIC', 'MANUAL')),
    payment_method_id uuid REFERENCES payment_methods (id),
    reference text NOT NULL,
    cancel_reason text NOT NULL,
    confirmations integer NOT NULL CHECK (confirmations BETWEEN 0 AND 10),
    error_code text,
    error_decline_code text,
    error_message text,
    error_attempt integer,
    -- Whose call created it: one call creates one payment.
    request_caller text NOT NULL,
    request_key text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT payment_intents_processing_check CHECK ((state = 'PROCESSING') = (step IS NOT NULL)),
    CONSTRAINT payment_intents_amounts_check CHECK (
        amount_refunded_minor <= amount_captured_minor
        AND amount_captured_minor <= amount_authorized_minor
        AND amount_authorized_minor <= amount_minor
    ),
    CONSTRAINT payment_intents_succeeded_check CHECK ((state = 'SUCCEEDED') = (amount_captured_minor > 0)),
    CONSTRAINT payment_intents_error_check CHECK (
        num_nonnulls(error_code, error_decline_code, error_message, error_attempt) IN (0, 4)
    ),
    UNIQUE (id, currency)
);

CREATE INDEX payment_intents_customer_id_idx ON payment_intents (customer_id, id DESC);
CREATE INDEX payment_intents_processing_idx ON payment_intents (updated_at) WHERE state = 'PROCESSING';

-- Money on its way back.
CREATE TABLE refunds (
    id uuid PRIMARY KEY,
    version bigint NOT NULL CHECK (version >= 1),
    intent_id uuid NOT NULL,
    currency text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    state text NOT NULL CHECK (state IN ('PENDING', 'SUCCEEDED', 'FAILED', 'CANCELED')),
    reason text NOT NULL,
    request_caller text NOT NULL,
    request_key text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    FOREIGN KEY (intent_id, currency) REFERENCES payment_intents (id, currency)
);

CREATE INDEX refunds_intent_id_idx ON refunds (intent_id, id DESC);

-- Every request that the acquirer was ever sent, written before it is sent.
CREATE TABLE attempts (
    id uuid PRIMARY KEY,
    intent_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('AUTHORIZE', 'CAPTURE', 'VOID', 'REFUND')),
    -- 1, 2, 3 … of one kind for one payment.
    n integer NOT NULL CHECK (n >= 1),
    -- Unique for ever: UUIDv5 of payment, kind and n.
    acquirer_ref uuid NOT NULL UNIQUE,
    state text NOT NULL CHECK (state IN ('CREATED', 'SENT', 'UNKNOWN', 'NOT_FOUND', 'APPROVED', 'DECLINED')),
    currency text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    -- The card of an AUTHORIZE.
    payment_method_id uuid REFERENCES payment_methods (id),
    -- The authorisation of a CAPTURE or VOID, the capture of a REFUND.
    source_id uuid REFERENCES attempts (id),
    refund_id uuid REFERENCES refunds (id),
    decline_code text,
    -- The call that waits for the answer; NULL when none does.
    request_caller text,
    request_method text,
    request_key text,
    -- Until when the janitor that took it keeps others off.
    lease_expires_at timestamptz,
    sent_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    resolved_at timestamptz,
    FOREIGN KEY (intent_id, currency) REFERENCES payment_intents (id, currency),
    UNIQUE (intent_id, kind, n),
    CONSTRAINT attempts_card_check CHECK ((payment_method_id IS NOT NULL) = (kind = 'AUTHORIZE')),
    CONSTRAINT attempts_source_check CHECK ((source_id IS NULL) = (kind = 'AUTHORIZE')),
    CONSTRAINT attempts_refund_check CHECK ((refund_id IS NOT NULL) = (kind = 'REFUND')),
    CONSTRAINT attempts_resolved_check CHECK ((resolved_at IS NOT NULL) = (state IN ('APPROVED', 'DECLINED'))),
    CONSTRAINT attempts_decline_check CHECK ((decline_code IS NOT NULL) = (state = 'DECLINED')),
    CONSTRAINT attempts_request_check CHECK (num_nonnulls(request_caller, request_method, request_key) IN (0, 3))
);

-- The acquirer is asked one thing at a time about a payment. Refunds are independent of each other: each has its own.
CREATE UNIQUE INDEX attempts_open_key ON attempts (intent_id)
WHERE kind <> 'REFUND' AND state IN ('CREATED', 'SENT', 'UNKNOWN', 'NOT_FOUND');
CREATE UNIQUE INDEX attempts_refund_open_key ON attempts (refund_id)
WHERE state IN ('CREATED', 'SENT', 'UNKNOWN', 'NOT_FOUND');
-- Nobody is charged twice for one payment.
CREATE UNIQUE INDEX attempts_approved_authorize_key ON attempts (intent_id)
WHERE kind = 'AUTHORIZE' AND state = 'APPROVED';
CREATE UNIQUE INDEX attempts_approved_refund_key ON attempts (refund_id) WHERE state = 'APPROVED';
-- One call has at most one effect of a kind.
CREATE UNIQUE INDEX attempts_request_key ON attempts (request_caller, request_method, request_key, kind);
CREATE INDEX attempts_open_sent_at_idx ON attempts (sent_at)
WHERE state IN ('CREATED', 'SENT', 'UNKNOWN', 'NOT_FOUND');
CREATE INDEX attempts_payment_method_id_idx ON attempts (payment_method_id)
WHERE state IN ('CREATED', 'SENT', 'UNKNOWN', 'NOT_FOUND');

-- Money taken.
CREATE TABLE captures (
    id uuid PRIMARY KEY,
    intent_id uuid NOT NULL,
    attempt_id uuid NOT NULL UNIQUE REFERENCES attempts (id),
    currency text NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    fee_minor bigint NOT NULL CHECK (fee_minor BETWEEN 0 AND amount_minor),
    created_at timestamptz NOT NULL,
    FOREIGN KEY (intent_id, currency) REFERENCES payment_intents (id, currency)
);

CREATE INDEX captures_intent_id_idx ON captures (intent_id);
