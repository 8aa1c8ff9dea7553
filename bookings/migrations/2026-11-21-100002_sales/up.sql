CREATE TABLE holds (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL,
    airline_id text NOT NULL REFERENCES airlines,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'PINNED', 'CONSUMED', 'RELEASED', 'EXPIRED')),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    total_minor bigint NOT NULL CHECK (total_minor >= 1),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- When an ACTIVE hold is over, whether or not anything has noticed.
    expires_at timestamptz NOT NULL,
    -- When the purchase that pins it should be over.
    pinned_until timestamptz,
    CHECK (state NOT IN ('PINNED', 'CONSUMED') OR pinned_until IS NOT NULL)
);

CREATE INDEX holds_expires_at_idx ON holds (expires_at) WHERE state = 'ACTIVE';
CREATE INDEX holds_customer_id_idx ON holds (customer_id) WHERE state IN ('ACTIVE', 'PINNED');

-- What is held, at the price of the moment: later changes of the fare do not reach it.
CREATE TABLE hold_items (
    hold_id uuid NOT NULL REFERENCES holds,
    item_no smallint NOT NULL CHECK (item_no >= 0),
    flight_id uuid NOT NULL REFERENCES flights,
    leg smallint NOT NULL CHECK (leg >= 1),
    cabin text NOT NULL,
    fare text NOT NULL,
    seat_no text NOT NULL,
    passenger_index smallint NOT NULL CHECK (passenger_index >= 0),
    base_minor bigint NOT NULL CHECK (base_minor >= 1),
    taxes_minor bigint NOT NULL CHECK (taxes_minor >= 0),
    refundable boolean NOT NULL,
    penalty_minor bigint NOT NULL CHECK (penalty_minor BETWEEN 0 AND base_minor),
    PRIMARY KEY (hold_id, item_no),
    UNIQUE (hold_id, flight_id, leg, passenger_index)
);

CREATE INDEX hold_items_flight_id_idx ON hold_items (flight_id);

CREATE TABLE bookings (
    id uuid PRIMARY KEY,
    hold_id uuid NOT NULL UNIQUE REFERENCES holds,
    customer_id uuid NOT NULL,
    airline_id text NOT NULL REFERENCES airlines,
    state text NOT NULL CHECK (
        state IN ('PENDING', 'AWAITING_ACTION', 'CONFIRMED', 'FAILED', 'EXPIRED', 'CANCELING', 'CANCELED', 'COMPLETED')
    ),
    record_locator text UNIQUE CHECK (record_locator ~ '^[A-HJ-NP-Z2-9]{6}$'),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    total_minor bigint NOT NULL CHECK (total_minor >= 1),
    refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor BETWEEN 0 AND total_minor),
    -- The card, by the id that payments knows it by.
    payment_method uuid NOT NULL,
    payment_intent uuid UNIQUE,
    failure_reason text,
    failure_decline_code text,
    failure_message text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    confirmed_at timestamptz,
    CONSTRAINT bookings_sold_check CHECK (
        (state IN ('CONFIRMED', 'CANCELING', 'CANCELED', 'COMPLETED'))
        = (record_locator IS NOT NULL AND payment_intent IS NOT NULL AND confirmed_at IS NOT NULL)
    ),
    CONSTRAINT bookings_failure_check CHECK ((state IN ('FAILED', 'EXPIRED')) = (failure_reason IS NOT NULL)),
    CONSTRAINT bookings_refunded_check CHECK (refunded_minor = 0 OR state = 'CANCELED')
);

CREATE INDEX bookings_customer_id_id_idx ON bookings (customer_id, id);

-- One row for each seat that somebody has: no row, free. The key is what keeps a seat from being given twice.
CREATE TABLE seats (
    flight_id uuid NOT NULL REFERENCES flights,
    leg smallint NOT NULL CHECK (leg >= 1),
    seat_no text NOT NULL CHECK (seat_no ~ '^[1-9][0-9]{0,2}[A-Z]$'),
    state text NOT NULL CHECK (state IN ('HELD', 'SOLD', 'BLOCKED')),
    hold_id uuid REFERENCES holds,
    booking_id uuid REFERENCES bookings,
    PRIMARY KEY (flight_id, leg, seat_no),
    CONSTRAINT seats_owner_check CHECK (
        (state = 'HELD') = (hold_id IS NOT NULL) AND (state = 'SOLD') = (booking_id IS NOT NULL)
    )
);

CREATE INDEX seats_hold_id_idx ON seats (hold_id) WHERE hold_id IS NOT NULL;
CREATE INDEX seats_booking_id_idx ON seats (booking_id) WHERE booking_id IS NOT NULL;

CREATE TABLE passengers (
    booking_id uuid NOT NULL REFERENCES bookings,
    passenger_index smallint NOT NULL CHECK (passenger_index >= 0),
    given_name text NOT NULL,
    family_name text NOT NULL,
    PRIMARY KEY (booking_id, passenger_index)
);

-- The last ten digits of ticket numbers.
CREATE SEQUENCE ticket_serials MINVALUE 1 MAXVALUE 9999999999;

CREATE TABLE tickets (
    ticket_number text PRIMARY KEY CHECK (ticket_number ~ '^[0-9]{13}$'),
    booking_id uuid NOT NULL,
    passenger_index smallint NOT NULL,
    state text NOT NULL CHECK (state IN ('OPEN', 'REFUNDED')),
    created_at timestamptz NOT NULL,
    UNIQUE (booking_id, passenger_index),
    FOREIGN KEY (booking_id, passenger_index) REFERENCES passengers
);

CREATE TABLE coupons (
    ticket_number text NOT NULL REFERENCES tickets,
    coupon_no smallint NOT NULL CHECK (coupon_no >= 1),
    booking_id uuid NOT NULL REFERENCES bookings,
    flight_id uuid NOT NULL REFERENCES flights,
    leg smallint NOT NULL CHECK (leg >= 1),
    cabin text NOT NULL,
    seat_no text NOT NULL,
    state text NOT NULL CHECK (state IN ('OPEN', 'REFUNDED')),
    PRIMARY KEY (ticket_number, coupon_no)
);

-- The last wall: whatever the code above it does, a seat is not sold twice.
CREATE UNIQUE INDEX coupons_live_seat_key ON coupons (flight_id, leg, seat_no) WHERE state = 'OPEN';
CREATE INDEX coupons_booking_id_idx ON coupons (booking_id);

CREATE TABLE cancellations (
    id uuid PRIMARY KEY,
    booking_id uuid NOT NULL REFERENCES bookings,
    state text NOT NULL CHECK (state IN ('QUOTED', 'CONFIRMED', 'SETTLED')),
    refund_minor bigint NOT NULL CHECK (refund_minor >= 0),
    penalty_minor bigint NOT NULL CHECK (penalty_minor >= 0),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    confirmed_at timestamptz,
    settled_at timestamptz,
    -- What payments calls the refund; none when there was nothing to give back.
    refund_id uuid UNIQUE,
    CHECK ((state = 'QUOTED') = (confirmed_at IS NULL)),
    CHECK ((state = 'SETTLED') = (settled_at IS NOT NULL))
);

CREATE INDEX cancellations_booking_id_id_idx ON cancellations (booking_id, id);
CREATE UNIQUE INDEX cancellations_confirmed_key ON cancellations (booking_id) WHERE state <> 'QUOTED';

-- Work that spans services, step by step. A step's key is stored before its call is sent.
CREATE TABLE sagas (
    -- The booking of a purchase, the cancellation of a refund.
    id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('PURCHASE', 'REFUND')),
    booking_id uuid NOT NULL REFERENCES bookings,
    step text NOT NULL,
    state text NOT NULL CHECK (state IN ('RUNNING', 'WAITING', 'COMPENSATING', 'DONE', 'FAILED', 'STUCK')),
    -- How often the step was sent under a new key, from 1.
    round integer NOT NULL DEFAULT 1 CHECK (round >= 1),
    -- {"CONFIRM/1": uuid, …}: the request ids of the calls.
    step_keys jsonb NOT NULL,
    -- Of this step, in a row.
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    lease_owner uuid,
    lease_until timestamptz,
    next_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    -- Why the booking is going to fail: {"reason", "decline_code", "message"}.
    failure jsonb,
    -- Why a person must look.
    note text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK ((kind = 'PURCHASE') = (id = booking_id)),
    CHECK (state <> 'STUCK' OR note IS NOT NULL),
    CHECK (
        step IN ('CREATE_INTENT', 'CONFIRM', 'AWAIT_AUTHORIZATION', 'CAPTURE', 'AWAIT_CAPTURE', 'TICKET', 'CANCEL_INTENT',
        'AWAIT_CANCELLATION', 'RELEASE') AND kind = 'PURCHASE'
        OR step IN ('REFUND', 'AWAIT_REFUND', 'SETTLE') AND kind = 'REFUND'
    )
);

CREATE INDEX sagas_next_at_idx ON sagas (next_at) WHERE state IN ('RUNNING', 'WAITING', 'COMPENSATING');
CREATE INDEX sagas_booking_id_idx ON sagas (booking_id);
