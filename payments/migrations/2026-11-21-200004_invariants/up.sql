-- What must always hold, as views that must be empty, each with the number of rows that it looks at.

-- The time that the views judge by: the caller sets it, as every other time.
CREATE FUNCTION invariant_now() RETURNS timestamptz LANGUAGE sql STABLE AS $$
SELECT current_setting('jetway.now')::timestamptz
$$;

-- What each account's balance must be, from its entries.
CREATE VIEW ledger_account_sums AS
SELECT
    a.id AS account_id,
    coalesce(sum(
        CASE WHEN e.side = a.normal_side THEN e.amount_minor ELSE -e.amount_minor END
    ) FILTER (WHERE t.phase = 'POSTED'), 0) AS posted_minor,
    coalesce(sum(
        CASE WHEN e.side = a.normal_side THEN e.amount_minor ELSE -e.amount_minor END
    ) FILTER (
        WHERE t.phase = 'PENDING' AND NOT EXISTS (SELECT FROM ledger_txs AS r WHERE r.resolves = t.id)
    ), 0) AS pending_minor
FROM ledger_accounts AS a
LEFT JOIN ledger_entries AS e ON e.account_id = a.id
LEFT JOIN ledger_txs AS t ON t.id = e.tx_id
GROUP BY a.id;

-- Every ledger transaction that must be there.
CREATE VIEW ledger_required AS
SELECT 'attempt' AS source_type, id AS source_id, 'authorized' AS kind, currency, amount_minor
FROM attempts WHERE kind = 'AUTHORIZE' AND state = 'APPROVED'
UNION ALL
SELECT 'attempt', id, 'voided', currency, amount_minor FROM attempts WHERE kind = 'VOID' AND state = 'APPROVED'
UNION ALL
SELECT 'capture', id, 'captured', currency, amount_minor FROM captures
UNION ALL
SELECT 'refund', id, 'refund_created', currency, amount_minor FROM refunds
UNION ALL
SELECT 'refund', id, 'refund_succeeded', currency, amount_minor FROM refunds WHERE state = 'SUCCEEDED'
UNION ALL
SELECT 'refund', id, 'refund_failed', currency, amount_minor FROM refunds WHERE state IN ('FAILED', 'CANCELED');

-- What the acquirer must have approved, as the ledger knows it.
CREATE VIEW ledger_acquirer_operations AS
SELECT a.acquirer_ref, a.kind, t.id AS tx_id, a.currency, a.amount_minor
FROM ledger_txs AS t
INNER JOIN attempts AS a ON a.id = t.source_id
WHERE t.source_type = 'attempt'
UNION ALL
SELECT a.acquirer_ref, a.kind, t.id, e.currency, e.amount_minor
FROM ledger_txs AS t
INNER JOIN captures AS c ON c.id = t.source_id
INNER JOIN attempts AS a ON a.id = c.attempt_id
INNER JOIN ledger_entries AS e ON e.tx_id = t.id AND e.side = 'D'
WHERE t.source_type = 'capture'
UNION ALL
SELECT a.acquirer_ref, a.kind, t.id, e.currency, e.amount_minor
FROM ledger_txs AS t
INNER JOIN attempts AS a ON a.refund_id = t.source_id AND a.state = 'APPROVED'
INNER JOIN ledger_entries AS e ON e.tx_id = t.id AND e.side = 'D'
WHERE t.source_type = 'refund' AND t.kind = 'refund_succeeded';

-- Whether a text holds 13 to 19 digits that begin as a card number does and pass its checksum (ISO/IEC 7812).
CREATE FUNCTION holds_card_number(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce(bool_or(valid), FALSE) FROM (
    SELECT sum(
        CASE WHEN (length(run) - place) % 2 = 0 THEN digit ELSE digit * 2 - CASE WHEN digit > 4 THEN 9 ELSE 0 END END
    ) % 10 = 0 AS valid
    FROM (SELECT (regexp_matches($1, '(?<![0-9])([3-6][0-9]{12,18})(?![0-9])', 'g'))[1] AS run) AS runs
    CROSS JOIN LATERAL generate_series(1, length(run)) AS place
    CROSS JOIN LATERAL (SELECT substr(run, place::integer, 1)::integer AS digit) AS digits
    GROUP BY run
) AS checked
$$;

-- Every text that came from outside or goes there.
CREATE VIEW free_texts AS
SELECT 'payment_intents ' || id AS place, reference || ' ' || cancel_reason || ' ' || coalesce(error_message, '') AS text
FROM payment_intents
UNION ALL
SELECT 'refunds ' || id, reason FROM refunds
UNION ALL
SELECT 'outbox ' || id, payload::text FROM outbox
UNION ALL
SELECT 'merchants ' || id, display_name FROM merchants;

-- Each ledger transaction sums to zero in each currency.
CREATE VIEW inv_l01_transaction_balances AS
SELECT tx_id || ' ' || currency AS offender FROM ledger_entries
GROUP BY tx_id, currency HAVING sum(CASE side WHEN 'D' THEN amount_minor ELSE -amount_minor END) <> 0;
CREATE VIEW inv_l01_transaction_balances_examined AS
SELECT (SELECT count(*) FROM ledger_txs) AS examined;

-- The whole ledger sums to zero in each currency.
CREATE VIEW inv_l02_ledger_balances AS
SELECT currency AS offender FROM ledger_entries
GROUP BY currency HAVING sum(CASE side WHEN 'D' THEN amount_minor ELSE -amount_minor END) <> 0;
CREATE VIEW inv_l02_ledger_balances_examined AS
SELECT (SELECT count(*) FROM ledger_entries) AS examined;

-- Every posted or pending transaction has a debit and a credit.
CREATE VIEW inv_l03_both_sides AS
SELECT t.id::text AS offender FROM ledger_txs AS t
WHERE t.phase <> 'VOID' AND (
    NOT EXISTS (SELECT FROM ledger_entries AS e WHERE e.tx_id = t.id AND e.side = 'D')
    OR NOT EXISTS (SELECT FROM ledger_entries AS e WHERE e.tx_id = t.id AND e.side = 'C')
);
CREATE VIEW inv_l03_both_sides_examined AS
SELECT (SELECT count(*) FROM ledger_txs WHERE phase <> 'VOID') AS examined;

-- Each stored balance is the sum of its posted entries.
CREATE VIEW inv_l04_posted_balances AS
SELECT b.account_id::text AS offender FROM ledger_balances AS b
INNER JOIN ledger_account_sums AS s ON s.account_id = b.account_id
WHERE b.posted_minor <> s.posted_minor;
CREATE VIEW inv_l04_posted_balances_examined AS
SELECT (SELECT count(*) FROM ledger_balances) AS examined;

-- Each stored reservation is the sum of its unresolved pending entries.
CREATE VIEW inv_l05_pending_balances AS
SELECT b.account_id::text AS offender FROM ledger_balances AS b
INNER JOIN ledger_account_sums AS s ON s.account_id = b.account_id
WHERE b.pending_minor <> s.pending_minor;
CREATE VIEW inv_l05_pending_balances_examined AS
SELECT (SELECT count(*) FROM ledger_balances) AS examined;

-- A resolution posts no more than was reserved.
CREATE VIEW inv_l06_resolution_within_reservation AS
SELECT t.id::text AS offender FROM ledger_txs AS t
WHERE t.resolves IS NOT NULL AND (
    coalesce((SELECT sum(e.amount_minor) FROM ledger_entries AS e WHERE e.tx_id = t.id AND e.side = 'D'), 0)
    > coalesce((SELECT sum(e.amount_minor) FROM ledger_entries AS e WHERE e.tx_id = t.resolves AND e.side = 'D'), 0)
);
CREATE VIEW inv_l06_resolution_within_reservation_examined AS
SELECT (SELECT count(*) FROM ledger_txs WHERE resolves IS NOT NULL) AS examined;

-- Floored accounts are never below zero, counting reservations.
CREATE VIEW inv_l07_floors AS
SELECT s.account_id::text AS offender FROM ledger_account_sums AS s
INNER JOIN ledger_accounts AS a ON a.id = s.account_id
WHERE a.floored AND s.posted_minor + least(s.pending_minor, 0) < 0;
CREATE VIEW inv_l07_floors_examined AS
SELECT (SELECT count(*) FROM ledger_accounts) AS examined;

-- What a payment says was captured is the sum of its captures.
CREATE VIEW inv_p01_captured AS
SELECT i.id::text AS offender FROM payment_intents AS i
WHERE i.amount_captured_minor <> coalesce((SELECT sum(c.amount_minor) FROM captures AS c WHERE c.intent_id = i.id), 0);
CREATE VIEW inv_p01_captured_examined AS
SELECT (SELECT count(*) FROM payment_intents) AS examined;

-- What a payment says was refunded is the sum of its live refunds.
CREATE VIEW inv_p02_refunded AS
SELECT i.id::text AS offender FROM payment_intents AS i
WHERE i.amount_refunded_minor <> coalesce((
    SELECT sum(r.amount_minor) FROM refunds AS r WHERE r.intent_id = i.id AND r.state IN ('PENDING', 'SUCCEEDED')
), 0);
CREATE VIEW inv_p02_refunded_examined AS
SELECT (SELECT count(*) FROM payment_intents) AS examined;

-- Refunded is at most captured, captured at most authorised, authorised at most the amount.
CREATE VIEW inv_p03_amounts AS
SELECT id::text AS offender FROM payment_intents
WHERE amount_refunded_minor > amount_captured_minor OR amount_captured_minor > amount_authorized_minor
    OR amount_authorized_minor > amount_minor;
CREATE VIEW inv_p03_amounts_examined AS
SELECT (SELECT count(*) FROM payment_intents) AS examined;

-- Each authorisation, capture, void and refund has exactly the ledger transactions that it requires.
CREATE VIEW inv_p04_ledger_transactions AS
SELECT required.source_type || ' ' || required.source_id || ' ' || required.kind AS offender FROM ledger_required AS required
LEFT JOIN ledger_txs AS t
    ON t.source_type = required.source_type AND t.source_id = required.source_id AND t.kind = required.kind
WHERE t.id IS NULL
UNION ALL
SELECT t.id::text AS offender FROM ledger_txs AS t
WHERE NOT EXISTS (
    SELECT FROM ledger_required AS required
    WHERE required.source_type = t.source_type AND required.source_id = t.source_id AND required.kind = t.kind
);
CREATE VIEW inv_p04_ledger_transactions_examined AS
SELECT (SELECT count(*) FROM ledger_required) AS examined;

-- Captures, refunds and their entries are in the currency and the amount of what they are of.
CREATE VIEW inv_p05_currency AS
SELECT c.id::text AS offender FROM captures AS c INNER JOIN payment_intents AS i ON i.id = c.intent_id
WHERE c.currency <> i.currency
UNION ALL
SELECT r.id::text AS offender FROM refunds AS r INNER JOIN payment_intents AS i ON i.id = r.intent_id
WHERE r.currency <> i.currency
UNION ALL
SELECT t.id::text AS offender FROM ledger_required AS required
INNER JOIN ledger_txs AS t
    ON t.source_type = required.source_type AND t.source_id = required.source_id AND t.kind = required.kind
WHERE t.phase <> 'VOID' AND required.amount_minor <> coalesce((
    SELECT sum(e.amount_minor) FROM ledger_entries AS e
    WHERE e.tx_id = t.id AND e.side = 'D' AND e.currency = required.currency
), 0);
CREATE VIEW inv_p05_currency_examined AS
SELECT (SELECT count(*) FROM captures) + (SELECT count(*) FROM refunds) AS examined;

-- Nothing waits for the acquirer for more than 15 minutes.
CREATE VIEW inv_p07_stuck AS
SELECT id::text AS offender FROM payment_intents
WHERE state = 'PROCESSING' AND updated_at < invariant_now() - interval '15 minutes'
UNION ALL
SELECT id::text AS offender FROM attempts
WHERE state IN ('CREATED', 'SENT', 'UNKNOWN', 'NOT_FOUND') AND created_at < invariant_now() - interval '15 minutes';
CREATE VIEW inv_p07_stuck_examined AS
SELECT (SELECT count(*) FROM payment_intents) + (SELECT count(*) FROM attempts) AS examined;

-- A canceled payment has no capture and no open reservation.
CREATE VIEW inv_p08_canceled AS
SELECT i.id::text AS offender FROM payment_intents AS i
WHERE i.state = 'CANCELED' AND (
    EXISTS (SELECT FROM captures AS c WHERE c.intent_id = i.id)
    OR EXISTS (
        SELECT FROM attempts AS a
        INNER JOIN ledger_txs AS t ON t.source_type = 'attempt' AND t.source_id = a.id AND t.phase = 'PENDING'
        WHERE a.intent_id = i.id AND NOT EXISTS (SELECT FROM ledger_txs AS r WHERE r.resolves = t.id)
    )
);
CREATE VIEW inv_p08_canceled_examined AS
SELECT (SELECT count(*) FROM payment_intents) AS examined;

-- A payment has at most one approved authorisation.
CREATE VIEW inv_p09_one_authorization AS
SELECT intent_id::text AS offender FROM attempts WHERE kind = 'AUTHORIZE' AND state = 'APPROVED'
GROUP BY intent_id HAVING count(*) > 1;
CREATE VIEW inv_p09_one_authorization_examined AS
SELECT (SELECT count(*) FROM attempts WHERE kind = 'AUTHORIZE' AND state = 'APPROVED') AS examined;

-- A request id has one effect, and an effect one request id.
CREATE VIEW inv_p10_one_effect AS
SELECT subject::text AS offender FROM idempotency_keys WHERE subject IS NOT NULL
GROUP BY subject HAVING count(*) > 1
UNION ALL
SELECT min(id::text) AS offender FROM attempts WHERE request_key IS NOT NULL
GROUP BY request_caller, request_method, request_key, kind HAVING count(*) > 1
UNION ALL
SELECT i.id::text AS offender FROM payment_intents AS i
WHERE EXISTS (
    SELECT FROM idempotency_keys AS k
    WHERE k.caller = i.request_caller AND k.key = i.request_key AND k.method LIKE '%/CreatePaymentIntent'
        AND k.subject IS DISTINCT FROM i.id AND k.created_at <= i.created_at
)
UNION ALL
SELECT r.id::text AS offender FROM refunds AS r
WHERE EXISTS (
    SELECT FROM idempotency_keys AS k
    WHERE k.caller = r.request_caller AND k.key = r.request_key AND k.method LIKE '%/CreateRefund'
        AND k.subject IS DISTINCT FROM r.id AND k.created_at <= r.created_at
);
CREATE VIEW inv_p10_one_effect_examined AS
SELECT (SELECT count(*) FROM idempotency_keys) AS examined;

-- No request id is without an answer 15 minutes after its lease.
CREATE VIEW inv_p11_keys_answered AS
SELECT method || ' ' || key AS offender FROM idempotency_keys
WHERE state = 'IN_PROGRESS' AND lease_expires_at < invariant_now() - interval '15 minutes';
CREATE VIEW inv_p11_keys_answered_examined AS
SELECT (SELECT count(*) FROM idempotency_keys) AS examined;

-- No text holds what looks like a card number.
CREATE VIEW inv_p12_no_card_numbers AS
SELECT t.place AS offender FROM free_texts AS t WHERE holds_card_number(t.text);
CREATE VIEW inv_p12_no_card_numbers_examined AS
SELECT (SELECT count(*) FROM free_texts) AS examined;
