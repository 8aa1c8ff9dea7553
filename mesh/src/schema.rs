//! The tables of `migrations/`, for queries.

diesel::table! {
    idempotency_keys (caller, method, key) {
        caller -> Text,
        method -> Text,
        key -> Text,
        fingerprint -> Bytea,
        state -> Text,
        lease_expires_at -> Timestamptz,
        recovery_point -> Text,
        subject -> Nullable<Uuid>,
        response -> Nullable<Bytea>,
        status -> Nullable<Bytea>,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    outbox (id) {
        id -> Uuid,
        position -> Int8,
        aggregate_type -> Text,
        aggregate_id -> Uuid,
        version -> Int8,
        event_type -> Text,
        payload -> Jsonb,
        request_id -> Text,
        occurred_at -> Timestamptz,
    }
}
