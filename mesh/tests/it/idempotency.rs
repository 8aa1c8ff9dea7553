//! Calls that happen once.

use std::sync::Arc;

use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use mesh::idempotency::{
    CREATED, Claim, Error, Fingerprint, LEASE, RETENTION, Request, Stored, advance, claim, complete, refuse,
    release, sweep,
};
use prost::Message as _;
use proto::bookings::v1::{CreateHoldRequest, GetHoldRequest};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::database::Database;

const METHOD: &str = "/jetway.bookings.v1.HoldService/CreateHold";
const SUBJECT: Uuid = Uuid::from_u128(7);

fn now() -> Timestamp {
    "2026-11-21T08:00:00Z".parse().expect("a time")
}

fn request(key: &str) -> Request {
    Request {
        caller: "users/1".to_owned(),
        method: METHOD,
        key: key.to_owned(),
        fingerprint: Fingerprint::of_message(&CreateHoldRequest { ttl_seconds: 600, ..Default::default() }),
    }
}

fn response() -> GetHoldRequest {
    GetHoldRequest { name: "holds/1".to_owned() }
}

/// The name of the outcome, for counting.
fn name(outcome: &Result<Claim, Error>) -> &'static str {
    match outcome {
        Ok(Claim::New) => "new",
        Ok(Claim::Resume { .. }) => "resume",
        Ok(Claim::Replay(_)) => "replay",
        Err(Error::InProgress) => "in progress",
        Err(Error::KeyReused) => "key reused",
        Err(Error::ClaimLost) => "claim lost",
        Err(Error::Database(_)) => "database",
    }
}

async fn claimed(conn: &mut AsyncPgConnection, request: &Request, now: Timestamp) -> &'static str {
    name(&claim(conn, request, now).await)
}

/// The outcomes of 50 claims of one key at once, each in a transaction of its own, in which it is also answered if `answer`.
async fn race(database: &Database, now: Timestamp, answer: bool) -> Vec<&'static str> {
    let connections = join_all((0..50).map(|_| database.connect())).await;
    let start = Arc::new(Barrier::new(connections.len()));
    let mut calls = JoinSet::new();
    for mut conn in connections {
        let start = Arc::clone(&start);
        calls.spawn(async move {
            start.wait().await;
            let request = request("one");
            conn.batch_execute("BEGIN").await.expect("begun");
            let outcome = claim(&mut conn, &request, now).await;
            if answer && matches!(outcome, Ok(Claim::New)) {
                complete(&mut conn, &request, &response(), now).await.expect("completed");
            }
            conn.batch_execute("COMMIT").await.expect("committed");
            name(&outcome)
        });
    }
    calls.join_all().await
}

fn count(outcomes: &[&str], wanted: &str) -> usize {
    outcomes.iter().filter(|outcome| **outcome == wanted).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_first_calls_at_once_one_executes() {
    let database = Database::new().await;
    let outcomes = race(&database, now(), false).await;
    assert_eq!(count(&outcomes, "new"), 1, "{outcomes:?}");
    assert_eq!(count(&outcomes, "in progress"), 49, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_calls_answered_in_their_own_transaction_one_executes_and_the_others_replay_it() {
    let database = Database::new().await;
    let outcomes = race(&database, now(), true).await;
    assert_eq!(count(&outcomes, "new"), 1, "{outcomes:?}");
    assert_eq!(count(&outcomes, "replay"), 49, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_calls_after_the_lease_one_takes_over() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    assert_eq!(claimed(conn, &request("one"), now()).await, "new");
    let outcomes = race(&database, now() + LEASE, false).await;
    assert_eq!(count(&outcomes, "resume"), 1, "{outcomes:?}");
    assert_eq!(count(&outcomes, "in progress"), 49, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_rolled_back_was_never_made() {
    let database = Database::new().await;
    let (first, second) = (&mut database.connect().await, &mut database.connect().await);
    let request = request("one");
    first.batch_execute("BEGIN").await.expect("begun");
    assert_eq!(claimed(first, &request, now()).await, "new");
    let (outcome, ()) = tokio::join!(claim(second, &request, now()), async {
        database.await_waiter().await;
        first.batch_execute("ROLLBACK").await.expect("rolled back");
    });
    assert_eq!(name(&outcome), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_replayed_byte_for_byte_until_its_retention_is_over() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let request = request("one");
    assert_eq!(claimed(conn, &request, now()).await, "new");
    assert_eq!(claimed(conn, &request, now()).await, "in progress");
    complete(conn, &request, &response(), now()).await.expect("completed");

    let last = now() + RETENTION - SignedDuration::from_micros(1);
    let replay = Claim::Replay(Stored { response: Ok(response().encode_to_vec()) });
    assert_eq!(claim(conn, &request, last).await.expect("claimed"), replay);
    assert_eq!(claimed(conn, &request, now() + RETENTION).await, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_replayed_too() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let request = request("one");
    assert_eq!(claimed(conn, &request, now()).await, "new");
    refuse(conn, &request, b"encoded status".to_vec(), now()).await.expect("refused");
    let replay = Claim::Replay(Stored { response: Err(b"encoded status".to_vec()) });
    assert_eq!(claim(conn, &request, now()).await.expect("claimed"), replay);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_response_is_an_answer() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let request = request("one");
    assert_eq!(claimed(conn, &request, now()).await, "new");
    complete(conn, &request, &GetHoldRequest::default(), now()).await.expect("completed");
    let replay = Claim::Replay(Stored { response: Ok(Vec::new()) });
    assert_eq!(claim(conn, &request, now()).await.expect("claimed"), replay);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_request_is_refused_before_and_after_the_answer() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let first = request("one");
    let other =
        Fingerprint::of_message(&CreateHoldRequest { ttl_seconds: 601, ..CreateHoldRequest::default() });
    let other = Request { fingerprint: other, ..first.clone() };
    assert_eq!(claimed(conn, &first, now()).await, "new");
    assert_eq!(claimed(conn, &other, now()).await, "key reused");
    complete(conn, &first, &response(), now()).await.expect("completed");
    assert_eq!(claimed(conn, &other, now()).await, "key reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_belongs_to_one_caller_and_one_method() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let first = request("one");
    let of_another = Request { caller: "users/2".to_owned(), ..first.clone() };
    let elsewhere = Request { method: "/jetway.bookings.v1.BookingService/CreateBooking", ..first.clone() };
    for request in [&first, &of_another, &elsewhere, &request("two")] {
        assert_eq!(claimed(conn, request, now()).await, "new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_lease_is_over_is_resumed_where_it_stopped() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let request = request("one");
    assert_eq!(claimed(conn, &request, now()).await, "new");

    let first = now() + LEASE;
    assert_eq!(claimed(conn, &request, first - SignedDuration::from_micros(1)).await, "in progress");
    let from_start = Claim::Resume { recovery_point: CREATED.to_owned(), subject: None };
    assert_eq!(claim(conn, &request, first).await.expect("claimed"), from_start);

    advance(conn, &request, "sent", Some(SUBJECT)).await.expect("advanced");
    advance(conn, &request, "applied", None).await.expect("advanced");
    assert_eq!(claimed(conn, &request, first).await, "in progress");
    let further = Claim::Resume { recovery_point: "applied".to_owned(), subject: Some(SUBJECT) };
    assert_eq!(claim(conn, &request, first + LEASE).await.expect("claimed"), further);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_key_is_new_again() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let request = request("one");
    assert_eq!(claimed(conn, &request, now()).await, "new");
    release(conn, &request).await.expect("released");
    assert_eq!(claimed(conn, &request, now()).await, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_call_is_neither_answered_again_nor_released() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let request = request("one");
    assert_eq!(claimed(conn, &request, now()).await, "new");
    complete(conn, &request, &response(), now()).await.expect("completed");
    let late = [
        complete(conn, &request, &GetHoldRequest::default(), now()).await,
        refuse(conn, &request, b"status".to_vec(), now()).await,
        advance(conn, &request, "sent", None).await,
        release(conn, &request).await,
    ];
    assert!(late.iter().all(|outcome| matches!(outcome, Err(Error::ClaimLost))), "{late:?}");
    let replay = Claim::Replay(Stored { response: Ok(response().encode_to_vec()) });
    assert_eq!(claim(conn, &request, now()).await.expect("claimed"), replay);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_deletes_what_is_over_the_oldest_first_and_no_more_than_its_limit() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    let later = now() + SignedDuration::from_secs(1);
    for (key, time) in [("a", now()), ("b", now()), ("c", now()), ("d", later)] {
        assert_eq!(claimed(conn, &request(key), time).await, "new");
    }
    let over = now() + RETENTION;
    assert_eq!(sweep(conn, over - SignedDuration::from_micros(1), 10).await, Ok(0));
    assert_eq!(sweep(conn, over, 2).await, Ok(2));
    assert_eq!(sweep(conn, over, 2).await, Ok(1));
    assert_eq!(sweep(conn, over, 2).await, Ok(0));
    assert_eq!(claimed(conn, &request("d"), later).await, "in progress");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_refuses_a_retention_under_a_day() {
    let database = Database::new().await;
    let conn = &mut database.connect().await;
    assert_eq!(claimed(conn, &request("one"), now()).await, "new");
    let shorter =
        diesel::sql_query("UPDATE idempotency_keys SET expires_at = created_at + interval '23 hours'");
    let error = shorter.execute(conn).await.expect_err("refused");
    assert!(error.to_string().contains("idempotency_keys_retention_check"), "{error}");
}
