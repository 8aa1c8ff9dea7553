//! The tables of `migrations/`, for queries.

diesel::table! {
    operations (acquirer_ref) {
        acquirer_ref -> Text,
        position -> Int8,
        kind -> Text,
        outcome -> Text,
        decline_code -> Text,
        currency -> Text,
        amount_minor -> Int8,
        authorization_ref -> Nullable<Text>,
        capture_ref -> Nullable<Text>,
        reference -> Text,
        last4 -> Text,
        captured_minor -> Int8,
        refunded_minor -> Int8,
        voided -> Bool,
        created_at -> Timestamptz,
    }
}
