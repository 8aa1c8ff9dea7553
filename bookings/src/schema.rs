//! The tables of `migrations/`, in the form of `diesel print-schema`; a test compares them with the database.

diesel::table! {
    cities (id) {
        id -> Text,
        display_name -> Text,
        country_code -> Text,
    }
}

diesel::table! {
    airports (id) {
        id -> Text,
        display_name -> Text,
        city_id -> Text,
        time_zone -> Text,
    }
}

diesel::table! {
    airlines (id) {
        id -> Text,
        display_name -> Text,
        ticketing_code -> Text,
    }
}

diesel::table! {
    airline_managers (airline_id, user_id) {
        airline_id -> Text,
        user_id -> Uuid,
    }
}

diesel::table! {
    aircraft_types (id) {
        id -> Text,
        display_name -> Text,
        cabins -> Jsonb,
    }
}

diesel::table! {
    flights (id) {
        id -> Uuid,
        airline_id -> Text,
        flight_number -> Int4,
        origin -> Text,
        destination -> Text,
        departure_at -> Timestamptz,
        arrival_at -> Timestamptz,
        departure_date -> Date,
        aircraft_type_id -> Text,
        state -> Text,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    fares (flight_id, cabin, fare) {
        flight_id -> Uuid,
        cabin -> Text,
        fare -> Text,
        base_minor -> Int8,
        taxes_minor -> Int8,
        currency -> Text,
        refundable -> Bool,
        penalty_minor -> Int8,
    }
}

diesel::table! {
    inventory (flight_id, leg, cabin) {
        flight_id -> Uuid,
        leg -> Int2,
        cabin -> Text,
        capacity -> Int4,
        overbook -> Int4,
        held -> Int4,
        sold -> Int4,
    }
}

diesel::table! {
    holds (id) {
        id -> Uuid,
        customer_id -> Uuid,
        airline_id -> Text,
        state -> Text,
        currency -> Text,
        total_minor -> Int8,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        expires_at -> Timestamptz,
        pinned_until -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    hold_items (hold_id, item_no) {
        hold_id -> Uuid,
        item_no -> Int2,
        flight_id -> Uuid,
        leg -> Int2,
        cabin -> Text,
        fare -> Text,
        seat_no -> Text,
        passenger_index -> Int2,
        base_minor -> Int8,
        taxes_minor -> Int8,
        refundable -> Bool,
        penalty_minor -> Int8,
    }
}

diesel::table! {
    bookings (id) {
        id -> Uuid,
        hold_id -> Uuid,
        customer_id -> Uuid,
        airline_id -> Text,
        state -> Text,
        record_locator -> Nullable<Text>,
        currency -> Text,
        total_minor -> Int8,
        refunded_minor -> Int8,
        payment_method -> Uuid,
        payment_intent -> Nullable<Uuid>,
        failure_reason -> Nullable<Text>,
        failure_decline_code -> Nullable<Text>,
        failure_message -> Nullable<Text>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        confirmed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    seats (flight_id, leg, seat_no) {
        flight_id -> Uuid,
        leg -> Int2,
        seat_no -> Text,
        state -> Text,
        hold_id -> Nullable<Uuid>,
        booking_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    passengers (booking_id, passenger_index) {
        booking_id -> Uuid,
        passenger_index -> Int2,
        given_name -> Text,
        family_name -> Text,
    }
}

diesel::table! {
    tickets (ticket_number) {
        ticket_number -> Text,
        booking_id -> Uuid,
        passenger_index -> Int2,
        state -> Text,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    coupons (ticket_number, coupon_no) {
        ticket_number -> Text,
        coupon_no -> Int2,
        booking_id -> Uuid,
        flight_id -> Uuid,
        leg -> Int2,
        cabin -> Text,
        seat_no -> Text,
        state -> Text,
    }
}

diesel::table! {
    cancellations (id) {
        id -> Uuid,
        booking_id -> Uuid,
        state -> Text,
        refund_minor -> Int8,
        penalty_minor -> Int8,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        confirmed_at -> Nullable<Timestamptz>,
        settled_at -> Nullable<Timestamptz>,
        refund_id -> Nullable<Uuid>,
    }
}

diesel::table! {
    sagas (id) {
        id -> Uuid,
        kind -> Text,
        booking_id -> Uuid,
        step -> Text,
        state -> Text,
        round -> Int4,
        step_keys -> Jsonb,
        attempts -> Int4,
        lease_owner -> Nullable<Uuid>,
        lease_until -> Nullable<Timestamptz>,
        next_at -> Timestamptz,
        deadline_at -> Timestamptz,
        failure -> Nullable<Jsonb>,
        note -> Nullable<Text>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    holds, hold_items, bookings, passengers, tickets, coupons, flights, airlines
);
