//! The tables of `migrations/`, for queries.

diesel::table! {
    merchants (id) {
        id -> Text,
        display_name -> Text,
        fee_minor -> Int8,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    vault.deks (id) {
        id -> Uuid,
        merchant -> Text,
        kek_version -> Int4,
        wrapped_dek -> Bytea,
        state -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    vault.cards (id) {
        id -> Uuid,
        dek_id -> Uuid,
        nonce -> Bytea,
        ciphertext -> Nullable<Bytea>,
        created_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    payment_methods (id) {
        id -> Uuid,
        customer_id -> Uuid,
        brand -> Text,
        bin6 -> Text,
        last4 -> Text,
        exp_month -> Int2,
        exp_year -> Int2,
        fingerprint -> Text,
        card_id -> Uuid,
        created_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    payment_intents (id) {
        id -> Uuid,
        version -> Int8,
        state -> Text,
        step -> Nullable<Text>,
        customer_id -> Uuid,
        merchant_id -> Text,
        currency -> Text,
        amount_minor -> Int8,
        amount_authorized_minor -> Int8,
        amount_captured_minor -> Int8,
        amount_refunded_minor -> Int8,
        capture_method -> Text,
        payment_method_id -> Nullable<Uuid>,
        reference -> Text,
        cancel_reason -> Text,
        confirmations -> Int4,
        error_code -> Nullable<Text>,
        error_decline_code -> Nullable<Text>,
        error_message -> Nullable<Text>,
        error_attempt -> Nullable<Int4>,
        request_caller -> Text,
        request_key -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    refunds (id) {
        id -> Uuid,
        version -> Int8,
        intent_id -> Uuid,
        currency -> Text,
        amount_minor -> Int8,
        state -> Text,
        reason -> Text,
        request_caller -> Text,
        request_key -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    attempts (id) {
        id -> Uuid,
        intent_id -> Uuid,
        kind -> Text,
        n -> Int4,
        acquirer_ref -> Uuid,
        state -> Text,
        currency -> Text,
        amount_minor -> Int8,
        payment_method_id -> Nullable<Uuid>,
        source_id -> Nullable<Uuid>,
        refund_id -> Nullable<Uuid>,
        decline_code -> Nullable<Text>,
        request_caller -> Nullable<Text>,
        request_method -> Nullable<Text>,
        request_key -> Nullable<Text>,
        lease_expires_at -> Nullable<Timestamptz>,
        sent_at -> Timestamptz,
        created_at -> Timestamptz,
        resolved_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    captures (id) {
        id -> Uuid,
        intent_id -> Uuid,
        attempt_id -> Uuid,
        currency -> Text,
        amount_minor -> Int8,
        fee_minor -> Int8,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    ledger_accounts (id) {
        id -> Int8,
        code -> Text,
        merchant_id -> Nullable<Text>,
        currency -> Text,
        normal_side -> Text,
        floored -> Bool,
    }
}

diesel::table! {
    ledger_txs (id) {
        id -> Uuid,
        source_type -> Text,
        source_id -> Uuid,
        kind -> Text,
        phase -> Text,
        resolves -> Nullable<Uuid>,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    ledger_entries (tx_id, line) {
        tx_id -> Uuid,
        line -> Int2,
        account_id -> Int8,
        side -> Text,
        currency -> Text,
        amount_minor -> Int8,
    }
}

diesel::table! {
    webhook_endpoints (id) {
        id -> Uuid,
        version -> Int8,
        merchant_id -> Nullable<Text>,
        url -> Text,
        description -> Text,
        event_types -> Array<Text>,
        state -> Text,
        disabled_reason -> Nullable<Text>,
        secret_version -> Int4,
        consecutive_failures -> Int4,
        failing_since -> Nullable<Timestamptz>,
        resume_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    vault.webhook_secrets (id) {
        id -> Uuid,
        endpoint_id -> Uuid,
        version -> Int4,
        dek_id -> Uuid,
        nonce -> Bytea,
        ciphertext -> Bytea,
        created_at -> Timestamptz,
        expires_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webhook_events (event_id) {
        event_id -> Uuid,
        idempotency_key -> Nullable<Text>,
        spread_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    webhook_deliveries (id) {
        id -> Uuid,
        endpoint_id -> Uuid,
        event_id -> Uuid,
        trigger -> Text,
        state -> Text,
        attempts -> Int4,
        due_at -> Nullable<Timestamptz>,
        lease_expires_at -> Nullable<Timestamptz>,
        lease -> Nullable<Uuid>,
        last_attempt_at -> Nullable<Timestamptz>,
        last_failure -> Nullable<Text>,
        last_http_status -> Nullable<Int4>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::joinable!(webhook_secrets -> deks (dek_id));
diesel::allow_tables_to_appear_in_same_query!(webhook_secrets, deks);
diesel::joinable!(payment_methods -> cards (card_id));
diesel::joinable!(cards -> deks (dek_id));
diesel::allow_tables_to_appear_in_same_query!(cards, deks, payment_methods);
