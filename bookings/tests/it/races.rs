//! Many at once: a seat is never sold twice.

use futures::future::join_all;
use jiff::SignedDuration;
use proto::bookings::v1 as pb;
use tonic::{Code, Status};

use crate::harness::{TestBookings, TestUser, any_seat, key, reason, seat};

/// Asks as a client does that is told to come back when the service is too busy to look: with the same request id.
async fn patient(user: &TestUser, items: Vec<pb::HoldItem>) -> Result<pb::Hold, Status> {
    let key = key();
    loop {
        match user.hold_with_key(items.clone(), &key).await {
            Err(status) if status.code() == Code::Unavailable => {}
            outcome => return outcome,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixty_users_racing_for_twelve_seats_twelve_get_one() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;

    let outcomes = join_all((0..60).map(|_| {
        let (user, flight) = (t.customer(), flight.clone());
        async move { patient(&user, vec![any_seat(&flight, "LIGHT")]).await }
    }))
    .await;

    let (got, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    for refusal in refused {
        assert_eq!(refusal.as_ref().map_err(Status::code).err(), Some(Code::Aborted), "{refusal:?}");
        assert_eq!(reason(refusal), "SOLD_OUT");
    }
    assert_eq!(got.len(), 12);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_users_racing_for_a_named_seat_one_gets_it() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;

    let outcomes = join_all((0..20).map(|_| {
        let (user, flight) = (t.customer(), flight.clone());
        async move { patient(&user, vec![seat(&flight, "LIGHT", "3C")]).await }
    }))
    .await;

    let (got, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(got.len(), 1);
    assert!(refused.into_iter().all(|refusal| reason(refusal) == "SEAT_TAKEN"));
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_of_the_same_seats_in_opposite_order_do_not_deadlock() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let deadlocks = "SELECT deadlocks AS n FROM pg_stat_database WHERE datname = current_database()";

    for seats in [["3A", "3B"], ["3C", "3D"], ["4A", "4B"]] {
        let outcomes = join_all((0..10).map(|index| {
            let (user, flight) = (t.customer(), flight.clone());
            let mut seats = seats;
            if index % 2 == 0 {
                seats.reverse();
            }
            async move {
                patient(&user, seats.iter().map(|seat_no| seat(&flight, "LIGHT", seat_no)).collect()).await
            }
        }))
        .await;
        let (got, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(got.len(), 1);
        assert!(refused.into_iter().all(|refusal| reason(refusal) == "SEAT_TAKEN"));
    }

    assert_eq!(t.number(deadlocks).await, 0);
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racers_for_the_seats_of_an_expired_hold_share_them_out() {
    let t = TestBookings::start().await;
    let flight = t.flight(1).await;
    t.customer().hold(vec![any_seat(&flight, "LIGHT"); 6]).await.expect("a hold of all");
    t.advance(SignedDuration::from_secs(601));

    let outcomes = join_all((0..20).map(|_| {
        let (user, flight) = (t.customer(), flight.clone());
        async move { patient(&user, vec![any_seat(&flight, "LIGHT")]).await }
    }))
    .await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 6, "{outcomes:?}");
    t.is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_customer_racing_with_themself_gets_two_holds() {
    let t = TestBookings::start().await;
    let flight = t.flight(2).await;
    let asha = t.customer();

    let outcomes = join_all((0..8).map(|_| patient(&asha, vec![any_seat(&flight, "LIGHT")]))).await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2, "{outcomes:?}");
}
