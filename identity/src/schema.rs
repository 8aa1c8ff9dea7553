//! The tables of `migrations/`, in the form of `diesel print-schema`. A test compares them with the database.

diesel::table! {
    audit_events (seq) {
        seq -> Int8,
        ts -> Timestamptz,
        action -> Text,
        actor -> Text,
        target -> Text,
        outcome -> Text,
        request_id -> Text,
    }
}

diesel::table! {
    credentials (user_id, kind) {
        user_id -> Uuid,
        kind -> Text,
        phc -> Text,
        changed_at -> Timestamptz,
    }
}

diesel::table! {
    revocations (seq) {
        seq -> Int8,
        kind -> Text,
        id -> Text,
        value -> Int8,
        expires_at -> Timestamptz,
    }
}

diesel::table! {
    roles (name) {
        name -> Text,
        description -> Text,
    }
}

diesel::table! {
    sessions (id) {
        id -> Uuid,
        user_id -> Uuid,
        counter -> Int8,
        session_key -> Bytea,
        device_name -> Text,
        created_at -> Timestamptz,
        last_refreshed_at -> Timestamptz,
        idle_expires_at -> Timestamptz,
        absolute_expires_at -> Timestamptz,
        revoked_at -> Nullable<Timestamptz>,
        auth_time -> Timestamptz,
    }
}

diesel::table! {
    signing_keys (kid) {
        kid -> Text,
        public_x -> Text,
        private -> Bytea,
        state -> Text,
        activates_at -> Timestamptz,
        retires_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    user_roles (user_id, role) {
        user_id -> Uuid,
        role -> Text,
        granted_at -> Timestamptz,
    }
}

diesel::table! {
    users (id) {
        id -> Uuid,
        email_display -> Text,
        email_canonical -> Text,
        username_display -> Nullable<Text>,
        username_canonical -> Nullable<Text>,
        display_name -> Text,
        locale -> Text,
        status -> Text,
        sv -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::joinable!(credentials -> users (user_id));
diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(user_roles -> roles (role));
diesel::joinable!(user_roles -> users (user_id));

diesel::allow_tables_to_appear_in_same_query!(
    audit_events,
    credentials,
    revocations,
    roles,
    sessions,
    signing_keys,
    user_roles,
    users,
);
