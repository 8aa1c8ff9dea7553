//! Each invariant, broken on purpose: its view tells, or a constraint refuses.

use jiff::SignedDuration;

use crate::harness::{TestBookings, any_seat};
use crate::payments::Mood;

/// The invariants that are broken now.
async fn broken(t: &TestBookings) -> Vec<String> {
    let reports = bookings::audit::verify(&mut t.connection().await, t.clock.now()).await.expect("an audit");
    for report in &reports {
        assert!(report.examined > 0, "{report:?} looked at nothing");
        assert_eq!(report.is_clean(), report.offenders.is_empty(), "{report:?}");
    }
    reports.into_iter().filter(|report| !report.is_clean()).map(|report| report.invariant.clone()).collect()
}

/// A platform with a confirmed booking, a failed one and an active hold.
async fn busy() -> TestBookings {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;
    t.booked(&t.customer(), &flight, 2, "FLEX").await;
    t.payments.script(|script| script.mood = Mood::Declines);
    let asha = t.customer();
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    let booking = asha.book(&hold).await.expect("a booking");
    t.settled(&asha, &booking.name).await;
    t.customer().hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    assert_eq!(broken(&t).await, [""; 0]);
    t
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_what_must_not_be_written() {
    let t = busy().await;
    let refused = [
        // b01: a second live coupon for a seat.
        (
            "INSERT INTO coupons SELECT ticket_number, 9::smallint, booking_id, flight_id, leg, cabin, seat_no, state FROM coupons",
            "coupons_live_seat_key",
        ),
        // b03: more than there is.
        ("UPDATE inventory SET held = capacity + 1", "inventory_space_check"),
        ("UPDATE inventory SET held = -1", "inventory_held_check"),
        // b04: a seat without an owner, or with two rows.
        ("UPDATE seats SET state = 'SOLD' WHERE state = 'HELD'", "seats_owner_check"),
        ("INSERT INTO seats SELECT * FROM seats", "seats_pkey"),
        ("UPDATE bookings SET record_locator = NULL WHERE state = 'CONFIRMED'", "bookings_sold_check"),
        ("UPDATE bookings SET state = 'PENDING' WHERE state = 'FAILED'", "bookings_failure_check"),
        ("UPDATE bookings SET refunded_minor = 1 WHERE state = 'CONFIRMED'", "bookings_refunded_check"),
    ];
    for (sql, constraint) in refused {
        let error = t.execute(sql).await.expect_err("refused").to_string();
        assert!(error.contains(constraint), "{sql}: {error}");
    }
    assert_eq!(broken(&t).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b01_and_b03_are_seen_without_their_constraints() {
    let t = busy().await;
    t.execute("DROP INDEX coupons_live_seat_key").await.expect("no wall");
    t.execute(
        "INSERT INTO coupons SELECT ticket_number, 9::smallint, booking_id, flight_id, leg, cabin, seat_no, state FROM coupons",
    )
    .await
    .expect("sold twice");
    assert_eq!(broken(&t).await, ["b01", "b02"]);

    t.execute("ALTER TABLE inventory DROP CONSTRAINT inventory_space_check").await.expect("no wall");
    t.execute("UPDATE inventory SET held = capacity + 1").await.expect("oversold");
    assert_eq!(broken(&t).await, ["b01", "b02", "b03"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b02_sees_a_counter_that_is_off_by_one() {
    let t = busy().await;
    t.execute("UPDATE inventory SET sold = sold - 1 WHERE sold > 0").await.expect("changed");
    assert_eq!(broken(&t).await, ["b02"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b04_sees_a_seat_without_a_live_owner_and_an_owner_without_a_seat() {
    let t = busy().await;
    t.execute("DELETE FROM seats WHERE state = 'HELD'").await.expect("a hold without its seat");
    assert_eq!(broken(&t).await, ["b04"]);

    let t = busy().await;
    t.execute(
        "UPDATE seats SET hold_id = (SELECT id FROM holds WHERE state = 'CONSUMED') WHERE state = 'HELD'",
    )
    .await
    .expect("a seat of a dead hold");
    assert_eq!(broken(&t).await, ["b04"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b05_sees_a_hold_that_nobody_ends() {
    let t = busy().await;
    t.advance(SignedDuration::from_secs(601));
    assert_eq!(broken(&t).await, [""; 0], "the janitor has a minute");
    t.advance(SignedDuration::from_secs(60));
    assert_eq!(broken(&t).await, ["b05"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b08_and_b09_see_tickets_that_do_not_go_with_their_booking() {
    let t = busy().await;
    t.execute("UPDATE tickets SET state = 'REFUNDED' WHERE passenger_index = 0").await.expect("changed");
    assert_eq!(broken(&t).await, ["b08"]);

    let t = busy().await;
    t.execute(
        "INSERT INTO tickets SELECT '0980000099999', id, 0, 'OPEN', created_at FROM bookings WHERE state = 'FAILED'",
    )
    .await
    .expect("a ticket for nothing");
    assert_eq!(broken(&t).await, ["b09"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn b10_and_b11_see_sagas_that_do_not_end_and_bookings_without_one() {
    let t = busy().await;
    t.execute("UPDATE sagas SET state = 'STUCK', note = 'a test' WHERE state = 'FAILED'")
        .await
        .expect("stuck");
    assert_eq!(broken(&t).await, ["b10", "b11"]);

    let t = busy().await;
    t.execute("DELETE FROM sagas WHERE state = 'DONE'").await.expect("gone");
    assert_eq!(broken(&t).await, ["b11"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn our_half_of_the_payments_is_every_booking_with_its_money() {
    let t = busy().await;
    let payments = bookings::audit::payments(&mut t.connection().await).await.expect("a list");
    let seen: Vec<_> = payments
        .iter()
        .map(|row| (row.state.as_str(), row.total_minor, row.payment_intent.is_some()))
        .collect();
    assert_eq!(seen, [("CONFIRMED", 2 * 615_600, true), ("FAILED", 456_000, true)]);
}
