//! Seats set aside.

use jiff::SignedDuration;
use proto::bookings::v1 as pb;
use tonic::Code;

use crate::harness::{TestBookings, any_seat, key, reason, rupees, seat};

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_takes_seats_and_space_at_the_price_of_the_moment() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let asha = t.customer();

    let hold =
        asha.hold(vec![seat(&flight, "LIGHT", "3A"), any_seat(&flight, "FLEX")]).await.expect("a hold");

    assert_eq!(hold.state(), pb::hold::State::Active);
    assert_eq!(hold.total, Some(rupees(456_000 + 615_600)));
    assert_eq!(hold.items[0].seat_number, "3A");
    assert_ne!(hold.items[1].seat_number, "3A");
    assert_eq!(asha.available(&flight).await, (10, 8));
    let map = asha
        .seats()
        .get_seat_map(pb::GetSeatMapRequest { flight: flight.name.clone() })
        .await
        .expect("a seat map")
        .into_inner();
    let states: Vec<_> = map.cabins.iter().flat_map(|cabin| &cabin.seats).map(pb::Seat::state).collect();
    assert_eq!(states.len(), 20);
    assert_eq!(states.iter().filter(|&&state| state == pb::seat::State::Held).count(), 2);
    assert_eq!(asha.get_hold(&hold.name).await.expect("the hold"), hold);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_gives_the_same_hold_and_another_is_refused() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let (asha, key) = (t.customer(), key());

    let first = asha.hold_with_key(vec![any_seat(&flight, "LIGHT")], &key).await.expect("a hold");
    let again = asha.hold_with_key(vec![any_seat(&flight, "LIGHT")], &key).await.expect("the same");
    let other = asha.hold_with_key(vec![any_seat(&flight, "FLEX")], &key).await;

    assert_eq!(first, again);
    assert_eq!(reason(other), "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(asha.available(&flight).await.0, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_hold_changes_nothing_and_names_what_is_wrong() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let (asha, bela) = (t.customer(), t.customer());
    asha.hold(vec![seat(&flight, "LIGHT", "3A")]).await.expect("a hold");

    let taken = bela.hold(vec![seat(&flight, "LIGHT", "3B"), seat(&flight, "LIGHT", "3A")]).await;
    let full = bela.hold(vec![any_seat(&flight, "LIGHT"); 6]).await;
    let fields = [
        (seat(&flight, "LIGHT", "9A"), "items[0].seat_number"),
        (seat(&flight, "LIGHT", "1A"), "items[0].seat_number"),
        (any_seat(&flight, "GOLD"), "items[0].fare"),
        (pb::HoldItem { cabin: "FIRST".to_owned(), ..any_seat(&flight, "LIGHT") }, "items[0].fare"),
    ];
    for (item, field) in fields {
        let status = bela.hold(vec![item]).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(&format!("`{field}`")), "{}", status.message());
    }
    let twice = bela.hold(vec![seat(&flight, "LIGHT", "3B"); 2]).await;
    let nowhere = pb::Flight { name: format!("flights/{}", key()), ..flight.clone() };
    let missing = bela.hold(vec![any_seat(&nowhere, "LIGHT")]).await;

    assert_eq!(taken.as_ref().map_err(tonic::Status::code), Err(Code::Aborted));
    assert_eq!(reason(taken), "SEAT_TAKEN");
    assert_eq!(reason(full), "SOLD_OUT");
    assert_eq!(reason(twice), "FIELD_INVALID");
    assert_eq!(missing.expect_err("refused").code(), Code::NotFound);
    assert_eq!(asha.available(&flight).await, (5, 8));
    assert_eq!(t.number("SELECT count(*) AS n FROM holds").await, 1);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_has_at_most_two_active_holds() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let asha = t.customer();
    let first = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
    asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a second");

    let third = asha.hold(vec![any_seat(&flight, "LIGHT")]).await;
    assert_eq!(third.as_ref().map_err(tonic::Status::code), Err(Code::ResourceExhausted));
    assert_eq!(reason(third), "TOO_MANY_HOLDS");

    asha.release(&first.name).await.expect("released");
    asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("room for another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_being_paid_for_counts_as_one_of_two() {
    let mut t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let asha = t.customer();
    t.payments.stop().await;
    for _ in 0..2 {
        let hold = asha.hold(vec![any_seat(&flight, "LIGHT")]).await.expect("a hold");
        asha.book(&hold).await.expect("a booking");
    }

    assert_eq!(reason(asha.hold(vec![any_seat(&flight, "LIGHT")]).await), "TOO_MANY_HOLDS");
    t.advance(SignedDuration::from_secs(601));
    assert_eq!(reason(asha.hold(vec![any_seat(&flight, "LIGHT")]).await), "TOO_MANY_HOLDS");
    assert_eq!(asha.available(&flight).await, (10, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_when_its_first_flight_leaves() {
    let t = TestBookings::start().await;
    let (early, late) = (t.flight_in(SignedDuration::from_mins(5), 1).await, t.flight(1).await);
    let asha = t.customer();

    let hold = asha.hold(vec![any_seat(&late, "LIGHT"), any_seat(&early, "LIGHT")]).await.expect("a hold");

    assert_eq!(hold.expire_time, early.departure_time);
    t.advance(SignedDuration::from_mins(5));
    assert_eq!(asha.get_hold(&hold.name).await.expect("the hold").state(), pb::hold::State::Expired);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_hold_gives_everything_back_once() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let asha = t.customer();
    let hold = asha.hold(vec![seat(&flight, "LIGHT", "3A"); 1]).await.expect("a hold");

    for _ in 0..2 {
        let released = asha.release(&hold.name).await.expect("released");
        assert_eq!(released.state(), pb::hold::State::Released);
    }

    assert_eq!(asha.available(&flight).await, (6, 8));
    assert_eq!(reason(asha.book(&hold).await), "HOLD_CLOSED");
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_hold_is_free_before_anybody_has_swept() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    let (asha, bela) = (t.customer(), t.customer());
    let all = asha.hold(vec![any_seat(&flight, "LIGHT"); 6]).await.expect("a hold of all");
    assert_eq!(reason(bela.hold(vec![seat(&flight, "LIGHT", "3A")]).await), "SOLD_OUT");

    t.advance(SignedDuration::from_secs(601));

    assert_eq!(asha.get_hold(&all.name).await.expect("the hold").state(), pb::hold::State::Expired);
    assert_eq!(bela.available(&flight).await, (6, 8), "expiry is a matter of time");
    bela.hold(vec![seat(&flight, "LIGHT", "3A")]).await.expect("the named seat");
    bela.hold(vec![any_seat(&flight, "LIGHT"); 5]).await.expect("all others");
    assert_eq!(reason(asha.book(&all).await), "HOLD_EXPIRED");
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_seat_of_an_expired_hold_is_taken_while_others_are_free() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let (asha, bela) = (t.customer(), t.customer());
    asha.hold(vec![seat(&flight, "LIGHT", "3A")]).await.expect("a hold");
    t.advance(SignedDuration::from_secs(601));

    let hold = bela.hold(vec![seat(&flight, "LIGHT", "3A")]).await.expect("the seat");

    assert_eq!(hold.items[0].seat_number, "3A");
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sweepers_give_each_seat_back_once() {
    let t = TestBookings::start().await;
    let flight = t.flight(3).await;
    for _ in 0..6 {
        t.customer().hold(vec![any_seat(&flight, "LIGHT"); 3]).await.expect("a hold");
    }
    t.advance(SignedDuration::from_secs(601));
    let now = t.clock.now();

    let (one, two) =
        tokio::join!(bookings::jobs::sweep_once(&t.db, now), bookings::jobs::sweep_once(&t.db, now));

    assert_eq!(one.expect("swept") + two.expect("swept"), 6);
    assert_eq!(t.number("SELECT held::bigint AS n FROM inventory WHERE cabin = 'ECONOMY'").await, 0);
    assert_eq!(t.number("SELECT count(*) AS n FROM seats").await, 0);
    assert_eq!(t.number("SELECT count(*) AS n FROM outbox WHERE event_type = 'hold.expired'").await, 6);
    t.is_clean().await;
}
