CREATE TABLE audit_events (
    seq bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    ts timestamptz NOT NULL,
    action text NOT NULL CHECK (action <> ''),
    -- Who did it: a resource name, `anonymous` or `command-line`.
    actor text NOT NULL CHECK (actor <> ''),
    -- What it was done to: a resource name, or empty.
    target text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('done', 'unchanged', 'refused')),
    request_id text NOT NULL
);

CREATE FUNCTION audit_events_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_events is append-only';
END
$$;

CREATE TRIGGER audit_events_append_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events
FOR EACH STATEMENT EXECUTE FUNCTION audit_events_refuse();
