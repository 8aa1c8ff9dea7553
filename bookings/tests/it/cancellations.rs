//! Cancelling: a quote, its confirmation, the money back.

use futures::future::join_all;
use jiff::SignedDuration;
use proto::bookings::v1 as pb;
use proto::bookings::v1::booking::State;

use crate::harness::{TestBookings, any_seat, eventually, reason, rupees};
use crate::payments::Mood;

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_booking_is_refunded_as_quoted_and_its_seats_are_free() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let booking = t.booked(&asha, &flight, 2, "FLEX").await;
    t.advance(DAY * 2);

    let quote = asha.quote(&booking).await.expect("a quote");
    assert_eq!(quote.refund, Some(rupees(2 * (540_000 - 54_000 + 75_600))));
    assert_eq!(quote.penalty, Some(rupees(2 * 54_000)));
    assert_eq!(quote.refund_to, format!("paymentMethods/{}", asha.id));
    let confirmed = asha.confirm(&quote).await.expect("confirmed");
    assert_eq!(confirmed.state(), pb::cancellation::State::Confirmed);
    assert_eq!(asha.available(&flight).await, (6, 8), "free at once");
    let booking = t.settled(&asha, &booking.name).await;

    assert_eq!(booking.state(), State::Canceled);
    assert_eq!(booking.refunded, quote.refund);
    assert!(booking.tickets.iter().all(|ticket| ticket.state() == pb::ticket::State::Refunded));
    let refunds = t.payments.script(|script| script.refunds.clone());
    assert_eq!(refunds.iter().map(|refund| refund.amount.clone()).collect::<Vec<_>>(), [quote.refund]);
    t.customer().hold(vec![any_seat(&flight, "LIGHT"); 6]).await.expect("all seats are on sale again");
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_twice_and_at_once_refunds_once() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let booking = t.booked(&asha, &flight, 1, "LIGHT").await;
    let quote = asha.quote(&booking).await.expect("a quote");
    t.payments.script(|script| script.loses_answer_of = ["refund"].into());

    for outcome in join_all((0..5).map(|_| asha.confirm(&quote))).await {
        assert_eq!(outcome.expect("the same for all").refund, quote.refund);
    }
    assert_eq!(t.settled(&asha, &booking.name).await.state(), State::Canceled);
    assert_eq!(asha.confirm(&quote).await.expect("again").state(), pb::cancellation::State::Settled);
    assert_eq!(reason(asha.quote(&booking).await), "BOOKING_STATE");

    assert_eq!(t.payments.script(|script| script.refunds.len()), 1);
    // Within a day of a purchase a month ahead everything comes back, whatever the fare says.
    assert_eq!(quote.refund, booking.total);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_takes_its_time_is_waited_for() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let booking = t.booked(&asha, &flight, 1, "FLEX").await;
    t.payments.script(|script| script.mood = Mood::IsSlow);

    let quote = asha.quote(&booking).await.expect("a quote");
    asha.confirm(&quote).await.expect("confirmed");

    assert_eq!(t.settled(&asha, &booking.name).await.state(), State::Canceled);
    assert_eq!(t.payments.script(|script| script.refunds.len()), 1);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_quote_confirms_and_only_for_ten_minutes() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let booking = t.booked(&asha, &flight, 1, "LIGHT").await;

    let first = asha.quote(&booking).await.expect("a quote");
    let second = asha.quote(&booking).await.expect("another");
    assert_eq!(reason(asha.confirm(&first).await), "QUOTE_EXPIRED");
    t.advance(SignedDuration::from_secs(601));
    assert_eq!(reason(asha.confirm(&second).await), "QUOTE_EXPIRED");

    assert_eq!(asha.booking(&booking.name).await.expect("the booking").state(), State::Confirmed);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_every_time_is_at_last_for_a_person_to_look_at() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let booking = t.booked(&asha, &flight, 1, "FLEX").await;
    t.payments.script(|script| script.mood = Mood::NeverRefunds);
    let quote = asha.quote(&booking).await.expect("a quote");
    asha.confirm(&quote).await.expect("confirmed");

    let stuck = "SELECT count(*) AS n FROM sagas WHERE state = 'STUCK' AND note IS NOT NULL";
    let resting =
        "SELECT count(*) AS n FROM sagas WHERE state NOT IN ('DONE', 'STUCK') AND lease_until IS NULL";
    eventually("the saga is stuck", async || {
        if t.number(resting).await == 1 {
            t.advance(SignedDuration::from_secs(75));
        }
        (t.number(stuck).await == 1).then_some(())
    })
    .await;

    assert_eq!(t.payments.script(|script| script.refunds.len()), 20);
    assert_eq!(asha.booking(&booking.name).await.expect("the booking").state(), State::Canceling);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fare_that_gives_nothing_back_still_gives_its_taxes_back() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let booking = t.booked(&asha, &flight, 1, "LIGHT").await;
    t.advance(DAY * 2);

    let quote = asha.quote(&booking).await.expect("a quote");

    assert_eq!((quote.refund, quote.penalty), (Some(rupees(56_000)), Some(rupees(400_000))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_without_a_refund_calls_nobody() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    t.execute("UPDATE hold_items SET base_minor = base_minor + taxes_minor, taxes_minor = 0")
        .await
        .expect("no taxes");
    let booking = asha.book(&hold).await.expect("a booking");
    let booking = t.settled(&asha, &booking.name).await;
    t.advance(DAY * 2);

    let quote = asha.quote(&booking).await.expect("a quote");
    assert_eq!(quote.refund, Some(rupees(0)));
    asha.confirm(&quote).await.expect("confirmed");
    let booking = t.settled(&asha, &booking.name).await;

    assert_eq!(booking.state(), State::Canceled);
    assert_eq!(t.payments.script(|script| script.refunds.len()), 0);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_left_is_not_cancelled() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let booking = t.booked(&asha, &flight, 1, "FLEX").await;

    t.advance(DAY * 31);

    assert_eq!(reason(asha.quote(&booking).await), "DEPARTED");
    assert_eq!(reason(t.customer().hold(vec![any_seat(&flight, "LIGHT")]).await), "FLIGHT_CLOSED");
}
