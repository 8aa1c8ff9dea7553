//! Once more: single deliveries, the events of a time, and pings.

use std::sync::Arc;

use diesel_async::SimpleAsyncConnection as _;
use jiff::Timestamp;
use mesh::{auth::PrincipalId, clock::to_proto};
use proto::payments::v1::{
    self as pb, delivery::State, delivery::Trigger, delivery_service_client::DeliveryServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

use super::receiver::{Receiver, Reply};
use crate::harness::{TestPayments, key, reason};

async fn redeliver(t: &TestPayments, name: &str) -> Result<pb::Delivery, Status> {
    let request = pb::RedeliverDeliveryRequest { name: name.to_owned(), request_id: String::new() };
    t.delivery_service().redeliver_delivery(request).await.map(Response::into_inner)
}

fn range(endpoint: &str, from: Timestamp, types: &[&str]) -> pb::ReplayDeliveriesRequest {
    pb::ReplayDeliveriesRequest {
        parent: endpoint.to_owned(),
        start_time: Some(to_proto(from)),
        end_time: None,
        event_types: types.iter().map(|text| (*text).to_owned()).collect(),
        request_id: String::new(),
    }
}

async fn replay(t: &TestPayments, request: pb::ReplayDeliveriesRequest) -> Result<i32, Status> {
    let answer = t.delivery_service().replay_deliveries(request).await?;
    Ok(answer.into_inner().delivery_count)
}

async fn disable(t: &TestPayments, name: &str) {
    let request = pb::DisableWebhookEndpointRequest { name: name.to_owned(), request_id: String::new() };
    t.endpoints().disable_webhook_endpoint(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_delivered_once_more_as_a_new_delivery_of_the_same_event() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::that(Reply::Status(500)).await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    for attempts in 1..10 {
        t.attempted(&endpoint.name, attempts).await;
        t.advance(29 * 60 * 60);
        // The five days are not what this is about.
        let mut conn = t.conn().await;
        let well =
            "UPDATE webhook_endpoints SET consecutive_failures = 0, failing_since = NULL, resume_at = NULL";
        diesel_async::RunQueryDsl::execute(diesel::sql_query(well), &mut conn).await.unwrap();
    }
    let dead = t.attempted(&endpoint.name, 10).await;
    assert_eq!(dead.state(), State::Dead);
    receiver.always(Reply::Status(200));

    let new = redeliver(&t, &dead.name).await.unwrap();

    assert_eq!((new.trigger(), new.attempt_count), (Trigger::Redelivery, 0));
    assert_eq!((&new.event, &new.event_type), (&dead.event, &dead.event_type));
    assert_ne!(new.name, dead.name);
    let deliveries = t
        .until(&endpoint.name, "delivered", |deliveries| {
            deliveries.len() == 2 && deliveries[1].state() == State::Succeeded
        })
        .await;
    assert_eq!(deliveries[0], dead, "the dead letter stays what it is");
    let received = receiver.received(11).await;
    assert!(received.iter().all(|it| it.id() == received[0].id() && it.body == received[0].body));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_time_are_delivered_once_more_by_their_types() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    t.advance(10);
    let from = t.now();
    let intent = t.captured().await;
    t.refund(&intent.name, Some(1), &key()).await.unwrap();
    t.advance(10);
    let to = t.now();
    t.event().await;
    t.delivered(&endpoint.name, 9).await;

    let between = |types: &[&str]| pb::ReplayDeliveriesRequest {
        end_time: Some(to_proto(to)),
        ..range(&endpoint.name, from, types)
    };
    assert_eq!(replay(&t, between(&["refund.*"])).await.unwrap(), 2);
    t.delivered(&endpoint.name, 11).await;
    assert_eq!(replay(&t, between(&["payment_intent.succeeded"])).await.unwrap(), 1);
    assert_eq!(replay(&t, between(&[])).await.unwrap(), 7);
    // Until now, but not the event of this very moment.
    t.advance(1);
    assert_eq!(replay(&t, range(&endpoint.name, from, &[])).await.unwrap(), 8);

    let deliveries = t.delivered(&endpoint.name, 27).await;
    let replayed: Vec<_> = deliveries.iter().filter(|it| it.trigger() == Trigger::Replay).collect();
    assert_eq!(replayed.len(), 18);
    let events: Vec<_> = deliveries[..9].iter().map(|it| &it.event).collect();
    assert!(replayed.iter().all(|it| events.contains(&&it.event)), "a replay keeps the event's id");
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_an_endpoint_was_disabled_can_be_replayed() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;
    let others = Receiver::start().await;
    let other = t.endpoint(&others.url).await;
    let from = t.now();
    disable(&t, &endpoint.name).await;
    t.event().await;
    t.delivered(&other.name, 2).await;
    t.advance(1);

    let refused = replay(&t, range(&endpoint.name, from, &[])).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "WEBHOOK_ENDPOINT_DISABLED")
    );
    let enable = pb::EnableWebhookEndpointRequest { name: endpoint.name.clone(), request_id: String::new() };
    t.endpoints().enable_webhook_endpoint(enable).await.unwrap();
    assert_eq!(replay(&t, range(&endpoint.name, from, &["payment_intent.*"])).await.unwrap(), 1);

    assert_eq!(t.delivered(&endpoint.name, 1).await[0].event_type, "payment_intent.created");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_delivers_nothing_twice() {
    let t = Arc::new(TestPayments::start_with_webhooks().await);
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;
    let from = t.now();
    t.event().await;
    t.advance(1);
    let delivery = t.delivered(&endpoint.name, 1).await.remove(0);
    let client = DeliveryServiceClient::new(t.user(PrincipalId::generate(), &["admin"]));
    let redelivery = pb::RedeliverDeliveryRequest { name: delivery.name.clone(), request_id: key() };
    let replay = pb::ReplayDeliveriesRequest { request_id: key(), ..range(&endpoint.name, from, &[]) };

    let mut redeliveries = JoinSet::new();
    let mut replays = JoinSet::new();
    for _ in 0..10 {
        let (mut client, redelivery) = (client.clone(), redelivery.clone());
        redeliveries
            .spawn(async move { client.redeliver_delivery(redelivery).await.map(Response::into_inner) });
    }
    for _ in 0..10 {
        let (mut client, replay) = (client.clone(), replay.clone());
        replays.spawn(async move { client.replay_deliveries(replay).await.map(Response::into_inner) });
    }
    let redelivered: Vec<_> = redeliveries.join_all().await.into_iter().collect::<Result<_, _>>().unwrap();
    let replayed: Vec<_> = replays.join_all().await.into_iter().collect::<Result<_, _>>().unwrap();

    assert!(redelivered.iter().all(|answer| answer == &redelivered[0]));
    assert!(replayed.iter().all(|answer| answer.delivery_count == 1));
    assert_eq!(t.delivered(&endpoint.name, 3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_reaches_its_endpoint_alone_whatever_that_asked_for() {
    let t = TestPayments::start_with_webhooks().await;
    let (receiver, others) = (Receiver::start().await, Receiver::start().await);
    let endpoint = t
        .register(pb::WebhookEndpoint {
            event_types: vec!["refund.failed".to_owned()],
            ..super::endpoint(&receiver.url)
        })
        .await
        .unwrap();
    let other = t.endpoint(&others.url).await;
    let ping =
        |request_id: String| pb::PingWebhookEndpointRequest { name: endpoint.name.clone(), request_id };

    let pinged = t.endpoints().ping_webhook_endpoint(ping(key())).await.unwrap().into_inner();

    assert_eq!((pinged.trigger(), pinged.event_type.as_str()), (Trigger::Ping, "webhook_endpoint.ping"));
    let received = &receiver.received(1).await[0];
    assert_eq!(
        (received.json()["type"].as_str(), received.json()["resource"].as_str()),
        (Some("webhook_endpoint.ping"), Some(endpoint.name.as_str()))
    );
    t.event().await;
    assert_eq!(t.delivered(&other.name, 1).await.len(), 1, "nobody else hears of a ping");

    disable(&t, &endpoint.name).await;
    let refused = t.endpoints().ping_webhook_endpoint(ping(String::new())).await.unwrap_err();
    assert_eq!(reason(&refused), "WEBHOOK_ENDPOINT_DISABLED");
    assert_eq!(t.deliveries(&endpoint.name).await.len(), 1, "a refused call changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_make_no_sense_are_refused_and_deliver_nothing() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    let delivery = t.delivered(&endpoint.name, 1).await.remove(0);
    let now = t.now();
    let missing = format!("webhookEndpoints/{}", mesh::id::generate());

    let backwards = pb::ReplayDeliveriesRequest {
        end_time: Some(to_proto(now - jiff::SignedDuration::from_secs(1))),
        ..range(&endpoint.name, now, &[])
    };
    assert_eq!(replay(&t, backwards).await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = replay(&t, range(&endpoint.name, now, &["flight.left"])).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    let timeless = pb::ReplayDeliveriesRequest { start_time: None, ..range(&endpoint.name, now, &[]) };
    assert_eq!(replay(&t, timeless).await.unwrap_err().code(), Code::InvalidArgument);
    let nowhere = replay(&t, range(&missing, now, &[])).await.unwrap_err();
    assert_eq!(reason(&nowhere), "WEBHOOK_ENDPOINT_NOT_FOUND");
    let elsewhere = format!("{}/deliveries/{}", t.endpoint(&receiver.url).await.name, delivery.uid);
    assert_eq!(reason(&redeliver(&t, &elsewhere).await.unwrap_err()), "DELIVERY_NOT_FOUND");

    assert_eq!(t.deliveries(&endpoint.name).await, [delivery]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_listed_by_pages_and_filters() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;
    let second = t.endpoint(&receiver.url).await;
    for _ in 0..3 {
        t.event().await;
    }
    t.delivered(&endpoint.name, 3).await;
    t.delivered(&second.name, 3).await;
    let list = async |parent: &str, filter: &str, page_size: i32, page_token: &str| {
        let request = pb::ListDeliveriesRequest {
            parent: parent.to_owned(),
            filter: filter.to_owned(),
            page_size,
            page_token: page_token.to_owned(),
        };
        t.delivery_service().list_deliveries(request).await.map(Response::into_inner)
    };
    let count =
        async |parent: &str, filter: &str| list(parent, filter, 0, "").await.unwrap().deliveries.len();

    assert_eq!(count("webhookEndpoints/-", "").await, 6);
    assert_eq!(count(&endpoint.name, "state = SUCCEEDED").await, 3);
    assert_eq!(count(&endpoint.name, "state = DEAD").await, 0);
    let event = t.deliveries(&endpoint.name).await[0].event.clone();
    let of_event = format!("event = \"{event}\" AND event_type = payment_intent.created");
    assert_eq!(count("webhookEndpoints/-", &of_event).await, 2);
    let first = list(&endpoint.name, "", 2, "").await.unwrap();
    let rest = list(&endpoint.name, "", 2, &first.next_page_token).await.unwrap();
    assert_eq!((first.deliveries.len(), rest.deliveries.len()), (2, 1));
    assert_eq!(rest.next_page_token, "");

    let other = list(&endpoint.name, "state = DEAD", 2, &first.next_page_token).await.unwrap_err();
    assert_eq!(reason(&other), "PAGE_TOKEN_INVALID", "a token is of its filter");
    let unsupported = list(&endpoint.name, "state = DEAD OR state = PENDING", 0, "").await.unwrap_err();
    assert_eq!(unsupported.code(), Code::InvalidArgument);
    let missing = format!("webhookEndpoints/{}", mesh::id::generate());
    assert_eq!(reason(&list(&missing, "", 0, "").await.unwrap_err()), "WEBHOOK_ENDPOINT_NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_replays_ten_thousand_events_and_no_more() {
    let t = TestPayments::start().await;
    let endpoint = t.endpoint("https://hooks.example/").await;
    let mut conn = t.conn().await;
    let from = t.now();
    let many = format!(
        "INSERT INTO outbox (id, aggregate_type, aggregate_id, version, event_type, payload, request_id, occurred_at) \
         SELECT gen_random_uuid(), 'refund', gen_random_uuid(), 1, 'refund.created', '{{}}', '', '{from}' \
         FROM generate_series(1, 10001); \
         INSERT INTO webhook_events (event_id, spread_at) SELECT id, '{from}' FROM outbox"
    );
    conn.batch_execute(&many).await.unwrap();
    t.advance(1);
    let count = |state: &str| pb::ListDeliveriesRequest {
        parent: endpoint.name.clone(),
        page_size: 1,
        filter: format!("state = {state}"),
        ..pb::ListDeliveriesRequest::default()
    };

    let refused = replay(&t, range(&endpoint.name, from, &[])).await.unwrap_err();

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "REPLAY_TOO_LARGE"));
    let listed = t.delivery_service().list_deliveries(count("PENDING")).await.unwrap().into_inner();
    assert_eq!(listed.deliveries, [], "a refused call changes nothing");
    conn.batch_execute(
        "DELETE FROM webhook_events WHERE event_id = (SELECT min(event_id::text)::uuid FROM webhook_events)",
    )
    .await
    .unwrap();
    assert_eq!(replay(&t, range(&endpoint.name, from, &[])).await.unwrap(), 10_000);
}
