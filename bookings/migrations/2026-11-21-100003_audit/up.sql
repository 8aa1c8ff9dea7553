-- What must never be, one view each: a row is an offence. `due_at` says from when on it is one; null: at once.
CREATE VIEW audit_b01 AS
SELECT format('flights/%s seat %s leg %s', flight_id, seat_no, leg) AS offender, NULL::timestamptz AS due_at
FROM coupons
WHERE state = 'OPEN'
GROUP BY flight_id, leg, seat_no
HAVING count(*) > 1;

CREATE VIEW audit_b02 AS
SELECT
    format('flights/%s %s leg %s: held %s of %s, sold %s of %s', i.flight_id, i.cabin, i.leg, i.held, h.n, i.sold, c.n) AS offender,
    NULL::timestamptz AS due_at
FROM inventory AS i
LEFT JOIN (
    SELECT x.flight_id, x.leg, x.cabin, count(*) AS n
    FROM hold_items AS x
    INNER JOIN holds ON holds.id = x.hold_id
    WHERE holds.state IN ('ACTIVE', 'PINNED')
    GROUP BY x.flight_id, x.leg, x.cabin
) AS h USING (flight_id, leg, cabin)
LEFT JOIN (
    SELECT x.flight_id, x.leg, x.cabin, count(*) AS n
    FROM coupons AS x
    WHERE x.state = 'OPEN'
    GROUP BY x.flight_id, x.leg, x.cabin
) AS c USING (flight_id, leg, cabin)
WHERE i.held <> coalesce(h.n, 0) OR i.sold <> coalesce(c.n, 0);

CREATE VIEW audit_b03 AS
SELECT format('flights/%s %s leg %s', flight_id, cabin, leg) AS offender, NULL::timestamptz AS due_at
FROM inventory
WHERE held + sold > capacity + overbook;

CREATE VIEW audit_b04 AS
SELECT format('flights/%s seat %s leg %s', s.flight_id, s.seat_no, s.leg) AS offender, NULL::timestamptz AS due_at
FROM seats AS s
LEFT JOIN holds AS h ON h.id = s.hold_id
LEFT JOIN bookings AS b ON b.id = s.booking_id
WHERE
    s.state = 'HELD' AND h.state IS DISTINCT FROM 'ACTIVE' AND h.state IS DISTINCT FROM 'PINNED'
    OR s.state = 'SOLD' AND b.state IS DISTINCT FROM 'CONFIRMED' AND b.state IS DISTINCT FROM 'COMPLETED'
UNION ALL
SELECT format('holds/%s has not seat %s of flights/%s', h.id, x.seat_no, x.flight_id), NULL
FROM hold_items AS x
INNER JOIN holds AS h ON h.id = x.hold_id
WHERE
    h.state IN ('ACTIVE', 'PINNED')
    AND NOT EXISTS (
        SELECT 1 FROM seats AS s
        WHERE s.flight_id = x.flight_id AND s.leg = x.leg AND s.seat_no = x.seat_no AND s.hold_id = h.id
    )
UNION ALL
SELECT format('bookings/%s has not seat %s of flights/%s', c.booking_id, c.seat_no, c.flight_id), NULL
FROM coupons AS c
WHERE
    c.state = 'OPEN'
    AND NOT EXISTS (
        SELECT 1 FROM seats AS s
        WHERE s.flight_id = c.flight_id AND s.leg = c.leg AND s.seat_no = c.seat_no AND s.booking_id = c.booking_id
    );

CREATE VIEW audit_b05 AS
SELECT
    format('holds/%s', id) AS offender,
    CASE state WHEN 'ACTIVE' THEN expires_at + interval '1 minute' ELSE pinned_until + interval '15 minutes' END AS due_at
FROM holds
WHERE state IN ('ACTIVE', 'PINNED');

CREATE VIEW audit_b08 AS
SELECT format('bookings/%s passenger %s', b.id, p.passenger_index) AS offender, NULL::timestamptz AS due_at
FROM bookings AS b
INNER JOIN passengers AS p ON p.booking_id = b.id
WHERE
    b.state IN ('CONFIRMED', 'COMPLETED')
    AND NOT EXISTS (
        SELECT 1 FROM tickets AS t
        WHERE t.booking_id = b.id AND t.passenger_index = p.passenger_index AND t.state = 'OPEN'
        AND EXISTS (SELECT 1 FROM coupons AS c WHERE c.ticket_number = t.ticket_number AND c.state = 'OPEN')
    );

CREATE VIEW audit_b09 AS
SELECT format('bookings/%s ticket %s', b.id, t.ticket_number) AS offender, NULL::timestamptz AS due_at
FROM bookings AS b
INNER JOIN tickets AS t ON t.booking_id = b.id
WHERE
    b.state NOT IN ('CONFIRMED', 'COMPLETED')
    AND (
        t.state = 'OPEN'
        OR EXISTS (SELECT 1 FROM coupons AS c WHERE c.ticket_number = t.ticket_number AND c.state = 'OPEN')
    );

CREATE VIEW audit_b10 AS
SELECT
    format('bookings/%s saga %s %s at %s', booking_id, id, state, step) AS offender,
    CASE state WHEN 'STUCK' THEN NULL ELSE deadline_at + interval '1 minute' END AS due_at
FROM sagas
WHERE state NOT IN ('DONE', 'FAILED');

CREATE VIEW audit_b11 AS
SELECT format('bookings/%s is %s, its saga %s', b.id, b.state, coalesce(s.state, 'absent')) AS offender, NULL::timestamptz AS due_at
FROM bookings AS b
LEFT JOIN sagas AS s ON s.id = b.id
WHERE s.id IS NULL OR (s.state IN ('DONE', 'FAILED')) = (b.state IN ('PENDING', 'AWAITING_ACTION'));

-- How many rows each of them looks at.
CREATE VIEW audit_examined AS
SELECT 'b01' AS invariant, count(*) AS examined FROM coupons
UNION ALL SELECT 'b02', count(*) FROM inventory
UNION ALL SELECT 'b03', count(*) FROM inventory
UNION ALL SELECT 'b04', (SELECT count(*) FROM seats) + (SELECT count(*) FROM hold_items)
UNION ALL SELECT 'b05', count(*) FROM holds
UNION ALL SELECT 'b08', count(*) FROM passengers
UNION ALL SELECT 'b09', count(*) FROM bookings
UNION ALL SELECT 'b10', count(*) FROM sagas
UNION ALL SELECT 'b11', count(*) FROM bookings;

-- Our half of b06 and b07: what should have been paid and given back, to be held against the books of payments.
CREATE VIEW audit_payments AS
SELECT id AS booking_id, state, payment_intent, currency, total_minor, refunded_minor, updated_at
FROM bookings;
