CREATE TABLE cities (
    id text PRIMARY KEY CHECK (id ~ '^[a-z0-9-]{2,63}$'),
    display_name text NOT NULL,
    country_code text NOT NULL CHECK (country_code ~ '^[A-Z]{2}$')
);

CREATE TABLE airports (
    id text PRIMARY KEY CHECK (id ~ '^[A-Z]{3}$'),
    display_name text NOT NULL,
    city_id text NOT NULL REFERENCES cities,
    -- IANA time zone.
    time_zone text NOT NULL
);

CREATE TABLE airlines (
    id text PRIMARY KEY CHECK (id ~ '^[A-Z0-9]{2}$'),
    display_name text NOT NULL,
    -- Starts its ticket numbers.
    ticketing_code text NOT NULL CHECK (ticketing_code ~ '^[0-9]{3}$')
);

-- Users with the role flight_company, and whose flights they manage.
CREATE TABLE airline_managers (
    airline_id text NOT NULL REFERENCES airlines,
    user_id uuid NOT NULL,
    PRIMARY KEY (airline_id, user_id)
);

CREATE TABLE aircraft_types (
    id text PRIMARY KEY CHECK (id ~ '^[A-Z0-9]{3}$'),
    display_name text NOT NULL,
    -- [{"cabin", "first_row", "last_row", "letters"}], front to back.
    cabins jsonb NOT NULL CHECK (jsonb_typeof(cabins) = 'array')
);

CREATE TABLE flights (
    id uuid PRIMARY KEY,
    airline_id text NOT NULL REFERENCES airlines,
    flight_number integer NOT NULL CHECK (flight_number BETWEEN 1 AND 9999),
    origin text NOT NULL REFERENCES airports,
    destination text NOT NULL REFERENCES airports,
    departure_at timestamptz NOT NULL,
    arrival_at timestamptz NOT NULL,
    -- The origin's local day.
    departure_date date NOT NULL,
    aircraft_type_id text NOT NULL REFERENCES aircraft_types,
    state text NOT NULL CHECK (state IN ('SCHEDULED', 'CANCELED')),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (airline_id, flight_number, departure_date, origin),
    CHECK (origin <> destination),
    CHECK (arrival_at > departure_at AND arrival_at <= departure_at + interval '24 hours')
);

CREATE INDEX flights_origin_destination_departure_date_idx ON flights (origin, destination, departure_date);
CREATE INDEX flights_departure_at_id_idx ON flights (departure_at, id);

CREATE TABLE fares (
    flight_id uuid NOT NULL REFERENCES flights,
    cabin text NOT NULL CHECK (cabin IN ('ECONOMY', 'PREMIUM_ECONOMY', 'BUSINESS', 'FIRST')),
    fare text NOT NULL CHECK (fare ~ '^[A-Z][A-Z0-9_]{0,15}$'),
    -- Amounts are per traveller, in minor units of the currency.
    base_minor bigint NOT NULL CHECK (base_minor BETWEEN 1 AND 99999999999),
    taxes_minor bigint NOT NULL CHECK (taxes_minor BETWEEN 0 AND 99999999999),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    refundable boolean NOT NULL,
    -- Kept back from a refundable base.
    penalty_minor bigint NOT NULL CHECK (penalty_minor BETWEEN 0 AND base_minor),
    PRIMARY KEY (flight_id, cabin, fare),
    CHECK (refundable OR penalty_minor = 0)
);

-- Space: what may be sold of a cabin. Updated in place and often, so pages keep room for it.
CREATE TABLE inventory (
    flight_id uuid NOT NULL REFERENCES flights,
    leg smallint NOT NULL DEFAULT 1 CHECK (leg >= 1),
    cabin text NOT NULL CHECK (cabin IN ('ECONOMY', 'PREMIUM_ECONOMY', 'BUSINESS', 'FIRST')),
    capacity integer NOT NULL CHECK (capacity >= 1),
    overbook integer NOT NULL DEFAULT 0 CHECK (overbook >= 0),
    held integer NOT NULL DEFAULT 0 CHECK (held >= 0),
    sold integer NOT NULL DEFAULT 0 CHECK (sold >= 0),
    PRIMARY KEY (flight_id, leg, cabin),
    CONSTRAINT inventory_space_check CHECK (held + sold <= capacity + overbook)
) WITH (fillfactor = 80);
