DROP TABLE captures;
DROP TABLE attempts;
DROP TABLE refunds;
DROP TABLE payment_intents;
