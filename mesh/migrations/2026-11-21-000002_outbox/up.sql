-- Events, written in the transaction of what they tell of.
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    -- In the order of insertion, which is not the order of commits.
    position bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    aggregate_type text NOT NULL CHECK (aggregate_type <> ''),
    aggregate_id uuid NOT NULL,
    -- 1, 2, 3 … of each aggregate, without gaps.
    version bigint NOT NULL CHECK (version >= 1),
    event_type text NOT NULL CHECK (event_type <> ''),
    payload jsonb NOT NULL,
    -- Of the call that caused the event; empty when none did.
    request_id text NOT NULL,
    occurred_at timestamptz NOT NULL,
    UNIQUE (position),
    UNIQUE (aggregate_type, aggregate_id, version)
);
