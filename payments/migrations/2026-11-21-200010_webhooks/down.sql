CREATE OR REPLACE VIEW free_texts AS
SELECT 'payment_intents ' || id AS place, reference || ' ' || cancel_reason || ' ' || coalesce(error_message, '') AS text
FROM payment_intents
UNION ALL
SELECT 'refunds ' || id, reason FROM refunds
UNION ALL
SELECT 'outbox ' || id, payload::text FROM outbox
UNION ALL
SELECT 'merchants ' || id, display_name FROM merchants;
DROP TABLE webhook_deliveries;
DROP INDEX outbox_occurred_at_idx;
DROP TABLE webhook_events;
DROP TABLE vault.webhook_secrets;
DROP TABLE webhook_endpoints;
