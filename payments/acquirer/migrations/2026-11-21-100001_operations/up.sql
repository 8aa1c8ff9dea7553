-- One row for each reference that was ever heard of, with the answer that it got.
CREATE TABLE operations (
    acquirer_ref text PRIMARY KEY CHECK (char_length(acquirer_ref) BETWEEN 1 AND 64),
    position bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE,
    kind text NOT NULL CHECK (kind IN ('AUTHORIZE', 'CAPTURE', 'VOID', 'REFUND')),
    outcome text NOT NULL CHECK (outcome IN ('APPROVED', 'DECLINED')),
    decline_code text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_minor bigint NOT NULL CHECK (amount_minor >= 0),
    -- As the caller sent it: it may name nothing, and then the operation was declined.
    authorization_ref text CHECK ((authorization_ref IS NOT NULL) = (kind IN ('CAPTURE', 'VOID'))),
    capture_ref text CHECK ((capture_ref IS NOT NULL) = (kind = 'REFUND')),
    reference text NOT NULL,
    -- All that is kept of a card.
    last4 text NOT NULL CHECK (last4 ~ '^[0-9]{0,4}$'),
    -- Of an approved authorisation.
    captured_minor bigint NOT NULL DEFAULT 0 CHECK (captured_minor BETWEEN 0 AND amount_minor),
    -- Of an approved capture.
    refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND amount_minor),
    voided boolean NOT NULL DEFAULT FALSE,
    created_at timestamptz NOT NULL,
    CONSTRAINT operations_declined_check CHECK ((outcome = 'DECLINED') = (decline_code <> '')),
    CONSTRAINT operations_voided_check CHECK (NOT voided OR captured_minor = 0)
);

CREATE INDEX operations_reference_position_idx ON operations (reference, position);
