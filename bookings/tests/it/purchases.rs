//! From a hold to a ticket, whatever payments does on the way.

use futures::future::join_all;
use jiff::SignedDuration;
use proto::bookings::v1 as pb;
use proto::bookings::v1::booking::State;
use proto::payments::v1::payment_intent;

use crate::harness::{TestBookings, any_seat, eventually, key, reason, rupees};
use crate::payments::Mood;

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_is_paid_and_ticketed() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let asha = t.customer();
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT"), any_seat(&flight, "FLEX")]).await.expect("a hold");
    let key = key();

    let pending = asha.book_with_key(&hold, &key).await.expect("a booking");
    assert_eq!(pending.state(), State::Pending);
    let booking = t.settled(&asha, &pending.name).await;

    assert_eq!(booking.state(), State::Confirmed);
    let locator = booking.record_locator.as_bytes();
    assert!(locator.len() == 6 && locator.iter().all(|c| b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789".contains(c)));
    assert_eq!(booking.tickets.len(), 2);
    assert!(
        booking.tickets.iter().all(|t| t.ticket_number.len() == 13 && t.ticket_number.starts_with("098"))
    );
    assert_eq!(booking.items.iter().map(|item| item.passenger_index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(booking.total, hold.total);
    let intent = t.payments.script(|script| script.intents.clone()).pop().expect("a payment");
    assert_eq!(booking.payment_intent, intent.name);
    assert_eq!(intent.merchant, "merchants/AI");
    assert_eq!(intent.customer, asha.id.name());
    assert_eq!(intent.reference, booking.name);
    assert_eq!(Some(intent.amount_captured_minor), hold.total.clone().map(|total| total.amount_minor));
    assert_eq!(asha.get_hold(&hold.name).await.expect("the hold").state(), pb::hold::State::Consumed);
    assert_eq!(asha.book_with_key(&hold, &key).await.expect("the same answer"), pending);
    assert_eq!(reason(asha.book(&hold).await), "HOLD_CLOSED");
    let page =
        asha.bookings().list_bookings(pb::ListBookingsRequest::default()).await.expect("a list").into_inner();
    assert_eq!(page.bookings, [booking]);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_fails_the_booking_and_frees_the_seats() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    t.payments.script(|script| script.mood = Mood::Declines);
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");

    let booking = asha.book(&hold).await.expect("a booking");
    let booking = t.settled(&asha, &booking.name).await;

    assert_eq!(booking.state(), State::Failed);
    let failure = booking.failure.expect("a reason");
    assert_eq!(failure.reason, "PAYMENT_DECLINED");
    assert_eq!(failure.decline_code, "insufficient_funds");
    assert_eq!(booking.record_locator, "");
    assert_eq!(asha.available(&flight).await, (6, 8));
    assert_eq!(t.payments.script(|script| script.intents[0].state()), payment_intent::State::Canceled);
    assert_eq!(asha.get_hold(&hold.name).await.expect("the hold").state(), pb::hold::State::Released);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_payments_does_not_know_fails_the_booking() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    t.payments.script(|script| script.mood = Mood::Refuses);
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");

    let booking = asha.book(&hold).await.expect("a booking");
    let booking = t.settled(&asha, &booking.name).await;

    assert_eq!(booking.state(), State::Failed);
    assert_eq!(booking.failure.expect("a reason").reason, "PAYMENT_REFUSED");
    assert_eq!(asha.available(&flight).await, (6, 8));
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_booking_made_while_payments_is_down_is_confirmed_when_it_is_back() {
    let mut t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    t.payments.stop().await;
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");

    let booking = asha.book(&hold).await.expect("a booking");
    let attempts = format!("SELECT attempts::bigint AS n FROM sagas WHERE id = '{}'", booking.uid);
    eventually("a second attempt", async || (t.number(&attempts).await >= 2).then_some(())).await;
    assert_eq!(asha.booking(&booking.name).await.expect("the booking").state(), State::Pending);
    t.payments.start_again().await;

    assert_eq!(t.settled(&asha, &booking.name).await.state(), State::Confirmed);
    assert_eq!(t.payments.script(|script| script.intents.len()), 1);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_cost_nothing_twice() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    t.payments.script(|script| script.loses_answer_of = ["create", "confirm", "capture"].into());

    let booking = t.booked(&asha, &flight, 1, "LIGHT").await;

    assert_eq!(t.payments.script(|script| (script.intents.len(), script.captures)), (1, 1));
    assert_eq!(booking.tickets.len(), 1);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_acquirer_is_asked_until_it_answers() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    t.payments.script(|script| script.mood = Mood::IsSlow);

    t.booked(&t.customer(), &flight, 1, "LIGHT").await;

    assert_eq!(t.payments.script(|script| script.captures), 1);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_an_end_is_given_up_when_the_time_is_over() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    t.payments.script(|script| script.mood = Mood::NeverAuthorizes);
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    let booking = asha.book(&hold).await.expect("a booking");
    let waiting =
        format!("SELECT count(*) AS n FROM sagas WHERE id = '{}' AND state = 'WAITING'", booking.uid);
    eventually("the saga waits", async || (t.number(&waiting).await == 1).then_some(())).await;

    t.advance(SignedDuration::from_mins(16));
    let booking = t.settled(&asha, &booking.name).await;

    assert_eq!(booking.state(), State::Expired);
    assert_eq!(booking.failure.expect("a reason").reason, "EXPIRED");
    assert_eq!(asha.available(&flight).await, (6, 8));
    assert_eq!(t.payments.script(|script| script.intents[0].state()), payment_intent::State::Canceled);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_being_paid_for_does_not_expire() {
    let mut t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let (asha, bela) = (t.customer(), t.customer());
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT"); 6]).await.expect("a hold of all");
    t.payments.stop().await;
    let booking = asha.book(&hold).await.expect("a booking");

    t.advance(SignedDuration::from_mins(11));
    bookings::jobs::sweep_once(&t.db, t.clock.now()).await.expect("swept");

    assert_eq!(reason(bela.hold(vec![any_seat(&flight, "LIGHT")]).await), "SOLD_OUT");
    t.payments.start_again().await;
    assert_eq!(t.settled(&asha, &booking.name).await.state(), State::Confirmed);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_worker_left_is_taken_up_by_another_once() {
    let mut t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let asha = t.customer();
    t.payments.stop().await;
    let mut names = Vec::new();
    for user in [asha.clone(), t.customer(), t.customer()] {
        let hold = user.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
        names.push((user.clone(), user.book(&hold).await.expect("a booking").name));
    }
    // As after a kill: somebody who is gone has the lease, until it runs out.
    let left = t
        .execute(
            "UPDATE sagas SET lease_owner = gen_random_uuid(), lease_until = now() + interval '1 second' \
             WHERE state NOT IN ('DONE', 'FAILED')",
        )
        .await
        .expect("leases of the dead");
    assert_eq!(left, 3);
    t.payments.start_again().await;
    let replica = t.replica().await;

    let ends = join_all(names.iter().map(|(user, name)| t.settled(user, name))).await;

    assert!(ends.iter().all(|booking| booking.state() == State::Confirmed));
    assert_eq!(t.payments.script(|script| (script.intents.len(), script.captures)), (3, 3));
    t.is_clean().await;
    replica.stop().await;
    t.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_change_after_the_hold_does_not_matter() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    t.execute("UPDATE fares SET base_minor = base_minor * 10").await.expect("dearer");

    let booking = asha.book(&hold).await.expect("a booking");
    let booking = t.settled(&asha, &booking.name).await;

    assert_eq!(booking.total, Some(rupees(456_000)));
    assert_eq!(t.payments.script(|script| script.intents[0].amount_captured_minor), 456_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_contradicts_what_is_stored_is_stuck_and_gives_nothing_away() {
    let mut t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    t.payments.stop().await;
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    let booking = asha.book(&hold).await.expect("a booking");
    // A bug, or somebody with a database console.
    t.execute("DELETE FROM seats").await.expect("gone");
    t.payments.start_again().await;

    let stuck = "SELECT count(*) AS n FROM sagas WHERE state = 'STUCK' AND note IS NOT NULL";
    eventually("the saga is stuck", async || (t.number(stuck).await == 1).then_some(())).await;

    assert_eq!(asha.booking(&booking.name).await.expect("the booking").state(), State::Pending);
    let reports = bookings::audit::verify(&mut t.connection().await, t.clock.now()).await.expect("an audit");
    let broken: Vec<_> =
        reports.iter().filter(|report| !report.is_clean()).map(|report| report.invariant.clone()).collect();
    assert_eq!(broken, ["b04", "b10"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_between_hold_and_purchase_is_not_sold() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");

    for (change, back) in [
        (
            "UPDATE flights SET departure_at = departure_at - interval '30 days', arrival_at = arrival_at - interval '30 days'",
            "UPDATE flights SET departure_at = departure_at + interval '30 days', arrival_at = arrival_at + interval '30 days'",
        ),
        ("UPDATE flights SET state = 'CANCELED'", "UPDATE flights SET state = 'SCHEDULED'"),
    ] {
        t.execute(change).await.expect("changed");
        let refused = asha.book(&hold).await;
        assert_eq!(refused.as_ref().map_err(tonic::Status::code), Err(tonic::Code::FailedPrecondition));
        assert_eq!(reason(refused), "FLIGHT_CLOSED");
        t.execute(back).await.expect("changed back");
    }

    assert_eq!(t.number("SELECT count(*) AS n FROM sagas").await, 0);
    let booking = asha.book(&hold).await.expect("a booking");
    assert_eq!(t.settled(&asha, &booking.name).await.state(), State::Confirmed);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_an_end_is_given_up_when_the_flight_leaves() {
    let t = TestBookings::start().await;
    let flight = t.flight_in(SignedDuration::from_mins(8), 1).await;
    let asha = t.customer();
    t.payments.script(|script| script.mood = Mood::NeverAuthorizes);
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    let booking = asha.book(&hold).await.expect("a booking");
    let waiting =
        format!("SELECT count(*) AS n FROM sagas WHERE id = '{}' AND state = 'WAITING'", booking.uid);
    eventually("the saga waits", async || (t.number(&waiting).await == 1).then_some(())).await;

    t.advance(SignedDuration::from_mins(8));

    assert_eq!(t.settled(&asha, &booking.name).await.state(), State::Expired);
    assert_eq!(t.payments.script(|script| script.intents[0].state()), payment_intent::State::Canceled);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_not_the_price_buys_no_ticket() {
    for (mood, wait) in [(Mood::TakesLess, 0), (Mood::HasTakenLess, 16)] {
        let t = TestBookings::start().await;
        let flight = t.flight(1).await;
        let asha = t.customer();
        t.payments.script(|script| script.mood = mood);
        let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
        let booking = asha.book(&hold).await.expect("a booking");
        eventually("the payment is made", async || {
            t.payments.script(|script| {
                let intent = script.intents.as_slice().first()?;
                (intent.state() != payment_intent::State::RequiresConfirmation).then_some(())
            })
        })
        .await;
        t.advance(SignedDuration::from_mins(wait));

        let over = "SELECT count(*) AS n FROM sagas WHERE state IN ('STUCK', 'DONE', 'FAILED')";
        eventually("the saga ends", async || (t.number(over).await == 1).then_some(())).await;

        let stuck = "SELECT count(*) AS n FROM sagas WHERE state = 'STUCK' AND note LIKE '%455999 INR%'";
        assert_eq!(t.number(stuck).await, 1, "{mood:?}");
        assert_eq!(asha.booking(&booking.name).await.expect("the booking").state(), State::Pending);
        assert_eq!(t.number("SELECT count(*) AS n FROM tickets").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_given_before_says_so() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let hold =
        pb::CreateHoldRequest { items: vec![any_seat(&flight, "LIGHT")], ttl_seconds: 0, request_id: key() };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = asha.holds().create_hold(hold.clone()).await.expect("a hold");
        seen.push(answer.metadata().get("idempotent-replayed").map(|value| value.as_bytes().to_vec()));
    }
    assert_eq!(seen, [None, Some(b"true".to_vec())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn passengers_are_as_many_as_the_hold_is_for_and_have_proper_names() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let hold = asha.hold(vec![any_seat(&flight, "LIGHT"); 2]).await.expect("a hold");
    let book = async |names: &[&str]| {
        let passenger =
            |name: &&str| pb::Passenger { given_name: (*name).to_owned(), family_name: "Rao".to_owned() };
        let request = pb::CreateBookingRequest {
            hold: hold.name.clone(),
            passengers: names.iter().map(passenger).collect(),
            payment_method: format!("paymentMethods/{}", asha.id),
            request_id: key(),
        };
        asha.bookings().create_booking(request).await
    };

    for (names, field) in [
        (&["Asha"][..], "`passengers`"),
        (&["Asha", "Bela", "Chand"], "`passengers`"),
        (&["Asha", " Bela"], "`passengers[1].given_name`"),
        (&["Asha\u{7}", "Bela"], "`passengers[0].given_name`"),
    ] {
        let status = book(names).await.expect_err("refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(field), "{}", status.message());
    }
    for (names, field) in [
        (&["4111 1111 1111 1111", "Bela"], "`passengers[0].given_name`"),
        (&["Asha", "5555555555554444"], "`passengers[1].given_name`"),
    ] {
        let status = book(names).await.expect_err("refused");
        assert!(status.message().contains(field), "{}", status.message());
        assert!(!status.message().contains("1111") && !status.message().contains("4444"));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(mesh::status::reason(&status), "PAN_IN_FREE_TEXT");
    }
    let family = pb::CreateBookingRequest {
        hold: hold.name.clone(),
        passengers: ["Rao", "Rao 4111-1111-1111-1111"]
            .map(|name| pb::Passenger { given_name: "Asha".to_owned(), family_name: name.to_owned() })
            .to_vec(),
        payment_method: format!("paymentMethods/{}", asha.id),
        request_id: key(),
    };
    assert_eq!(reason(asha.bookings().create_booking(family).await), "PAN_IN_FREE_TEXT");
    assert_eq!(asha.get_hold(&hold.name).await.expect("the hold").state(), pb::hold::State::Active);
}
