//! What is delivered, to whom, how it is signed, and by how many workers.

use std::collections::BTreeSet;

use diesel_async::SimpleAsyncConnection as _;
use http::HeaderMap;
use jiff::SignedDuration;
use mesh::{auth::PrincipalId, clock::Clock, run};
use proto::payments::v1 as pb;
use serde_json::json;

use super::{
    endpoint,
    receiver::{Received, Receiver, Reply},
};
use crate::harness::{NEVER, TestPayments, VISA, create, key};

async fn rotate(t: &TestPayments, name: &str) -> String {
    let request = pb::RotateWebhookEndpointSecretRequest { name: name.to_owned(), request_id: String::new() };
    t.endpoints().rotate_webhook_endpoint_secret(request).await.unwrap().into_inner().secret
}

/// Whether the library of Standard Webhooks takes a delivery for a good one.
fn is_standard(secret: &str, headers: &HeaderMap, body: &str) -> bool {
    standardwebhooks::Webhook::new(secret).unwrap().verify(body.as_bytes(), headers).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_its_endpoint_signed_in_both_ways() {
    let t = TestPayments::start_with_webhooks().await;
    // The library asks the system what time it is.
    t.clock.advance(Clock::system_now().duration_since(t.now()));
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;

    let intent = t.event().await;

    let received = &receiver.received(1).await[0];
    let now = t.now().as_second();
    assert!(received.is_signed(&endpoint.secret, now));
    assert!(!received.is_signed(&endpoint.secret, now + 301), "a signature is good for five minutes");
    assert!(!received.is_signed("whsec_AAAA", now));
    assert!(is_standard(&endpoint.secret, &received.headers, &received.body));
    assert!(!is_standard(&endpoint.secret, &received.headers, &received.body.replace("INR", "EUR")));
    assert_eq!(received.path, "/hook?who=me");
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("webhook-timestamp"), now.to_string());

    let event = received.json();
    assert_eq!(event["id"], received.id());
    assert_eq!(event["type"], "payment_intent.created");
    assert_eq!((&event["api_version"], &event["sequence"]), (&json!("v1"), &json!(1)));
    assert_eq!(event["resource"], intent.name);
    assert_eq!(event["created"], t.now().to_string());
    assert_eq!(event["data"]["object"]["amount_minor"], "12500");
    assert_eq!(event["data"]["previous_attributes"], json!({}));
    let delivery = &t.delivered(&endpoint.name, 1).await[0];
    assert_eq!(delivery.event, format!("events/{}", received.id()));
    assert_eq!((delivery.attempt_count, delivery.last_http_status), (1, 204));
    assert_eq!(delivery.trigger(), pb::delivery::Trigger::Event);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_thing_are_numbered_without_gaps_and_tell_what_has_changed() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    t.endpoint(&receiver.url).await;
    let user = PrincipalId::generate();
    let method = t.attach(user, VISA).await;
    let request = create(user, &method.name);
    let intent = t.intents().create_payment_intent(request.clone()).await.unwrap().into_inner();
    t.confirm(&intent.name, &key()).await.unwrap();
    let capture_key = key();
    t.capture(&intent.name, None, &capture_key).await.unwrap();
    let refund = t.refund(&intent.name, Some(500), &key()).await.unwrap();

    let received = receiver.received(7).await;
    let mut of_intent: Vec<_> =
        received.iter().map(Received::json).filter(|event| event["resource"] == intent.name).collect();
    of_intent.sort_by_key(|event| event["sequence"].as_i64());
    let said: Vec<_> = of_intent
        .iter()
        .map(|event| format!("{} {}", event["sequence"], event["type"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            "1 payment_intent.created",
            "2 payment_intent.processing",
            "3 payment_intent.amount_capturable_updated",
            "4 payment_intent.processing",
            "5 payment_intent.succeeded",
        ]
    );
    assert_eq!(of_intent[0]["request"]["idempotency_key"], request.request_id);
    assert_eq!(of_intent[4]["request"]["idempotency_key"], capture_key);
    assert!(!of_intent[4]["request"]["id"].as_str().unwrap().is_empty());
    assert_eq!(of_intent[4]["data"]["previous_attributes"], json!({ "amount_captured_minor": "0" }));
    let of_refund: BTreeSet<_> = received
        .iter()
        .map(Received::json)
        .filter(|event| event["resource"] == refund.name)
        .map(|event| format!("{} {}", event["sequence"], event["type"].as_str().unwrap()))
        .collect();
    assert_eq!(of_refund, ["1 refund.created", "2 refund.succeeded"].map(str::to_owned).into());
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_delivery_holds_anything_of_a_card() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    t.endpoint(&receiver.url).await;
    let intent = t.captured().await;
    t.refund(&intent.name, None, &key()).await.unwrap();
    // Clients make up ids and keys of calls, and may make them of anything.
    let mut request = create(PrincipalId::generate(), "");
    request.request_id = VISA.to_owned();
    let mut request = tonic::Request::new(request);
    request.metadata_mut().insert("x-request-id", VISA.parse().unwrap());
    let named = t.intents().create_payment_intent(request).await.unwrap().into_inner();

    let hex = hex::encode(VISA);
    let base64 = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, VISA);
    let received = receiver.received(8).await;
    let last = received.iter().map(Received::json).find(|event| event["resource"] == named.name);
    assert_eq!(last.unwrap()["request"]["idempotency_key"], json!(null));
    for received in received {
        let text = format!("{:?} {}", received.headers, received.body);
        for secret in [VISA, "4242 4242 4242 4242", &hex, &base64, "A Traveller", "\"123\"", "cvc", "last4"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert!(!mesh::free_text::holds_card_number(&received.body), "{}", received.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_gets_the_events_of_its_merchant_and_types_alone() {
    let t = TestPayments::start_with_webhooks().await;
    let receivers =
        [Receiver::start().await, Receiver::start().await, Receiver::start().await, Receiver::start().await];
    let wanted = |at: usize, merchant: &str, types: &[&str]| pb::WebhookEndpoint {
        merchant: merchant.to_owned(),
        event_types: types.iter().map(|text| (*text).to_owned()).collect(),
        ..endpoint(&receivers[at].url)
    };
    let everything = t.register(wanted(0, "", &[])).await.unwrap();
    let own = t.register(wanted(1, "merchants/6E", &["refund.*"])).await.unwrap();
    let other = t.register(wanted(2, "merchants/AI", &[])).await.unwrap();
    let one_type = t.register(wanted(3, "", &["payment_intent.succeeded"])).await.unwrap();
    let intent = t.captured().await;
    t.refund(&intent.name, None, &key()).await.unwrap();

    t.delivered(&everything.name, 7).await;
    let types = |deliveries: Vec<pb::Delivery>| {
        deliveries.into_iter().map(|delivery| delivery.event_type).collect::<BTreeSet<_>>()
    };
    let refunds = ["refund.created", "refund.succeeded"].map(str::to_owned);
    assert_eq!(types(t.delivered(&own.name, 2).await), refunds.into());
    assert_eq!(types(t.deliveries(&one_type.name).await), ["payment_intent.succeeded".to_owned()].into());
    assert_eq!(t.deliveries(&other.name).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_day_after_a_rotation_both_secrets_sign_and_then_the_new_one_alone() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    let created = t.endpoint(&receiver.url).await;
    let new = rotate(&t, &created.name).await;
    let signed = async |count: usize, secret: &str| {
        let received = receiver.received(count).await;
        received[count - 1].is_signed(secret, t.now().as_second())
    };

    t.event().await;
    assert!(signed(1, &created.secret).await && signed(1, &new).await);
    let standard = receiver.so_far()[0].header("webhook-signature").to_owned();
    assert_eq!(standard.split(' ').filter(|part| part.starts_with("v1,")).count(), 2);

    t.advance(24 * 60 * 60 - 1);
    t.event().await;
    assert!(signed(2, &created.secret).await && signed(2, &new).await);
    t.advance(1);
    t.event().await;
    assert!(!signed(3, &created.secret).await && signed(3, &new).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_rotation_forgets_the_secret_before_the_last() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    let created = t.endpoint(&receiver.url).await;
    let second = rotate(&t, &created.name).await;
    let third = rotate(&t, &created.name).await;

    t.event().await;

    let received = &receiver.received(1).await[0];
    let now = t.now().as_second();
    let signed = [&created.secret, &second, &third].map(|secret| received.is_signed(secret, now));
    assert_eq!(signed, [false, true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_deliver_each_event_once() {
    let t = TestPayments::start_with_webhooks().await;
    let (second, third) = (t.another().await, t.another().await);
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;
    for _ in 0..30 {
        t.event().await;
    }

    let deliveries = t.delivered(&endpoint.name, 30).await;

    assert_eq!(deliveries.len(), 30);
    assert!(deliveries.iter().all(|delivery| delivery.attempt_count == 1));
    let received = receiver.so_far();
    let ids: BTreeSet<_> = received.iter().map(|it| it.id().to_owned()).collect();
    assert_eq!((received.len(), ids.len()), (30, 30));
    assert!(receiver.open_max() <= 4, "all of them together keep to four at a time");
    second.stop().await;
    third.stop().await;
}

/// Payments with webhooks, in a runtime of its own that can be killed: nothing that it does goes on, and nothing is given back.
fn start_to_be_killed(t: &TestPayments, interval_ms: u64) -> tokio::runtime::Runtime {
    let mut config = t.config.clone();
    config.server = mesh::testing::free_ports();
    config.webhooks.interval_ms = interval_ms;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let clock = t.clock.clone();
    let (started, wait) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let running = run::start::<payments::Payments>(config, clock).await.unwrap();
        started.send(()).unwrap();
        std::future::pending::<()>().await;
        drop(running);
    });
    wait.recv().unwrap();
    runtime
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_had_begun_is_delivered_again_after_its_lease() {
    let mut t = TestPayments::start().await;
    let receiver = Receiver::start().await;
    receiver.reply(Reply::Hang);
    let endpoint = t.endpoint(&receiver.url).await;
    let worker = tokio::task::block_in_place(|| start_to_be_killed(&t, 10));
    t.event().await;
    receiver.received(1).await;

    worker.shutdown_background();
    t.config.webhooks.interval_ms = 10;
    let next = t.another().await;
    // It works, and leaves alone what the other had taken.
    let bystander = t.endpoint(&receiver.url).await;
    t.event().await;
    t.delivered(&bystander.name, 1).await;
    let left = &t.deliveries(&endpoint.name).await[0];
    assert_eq!((left.state(), left.attempt_count), (pb::delivery::State::Pending, 0));

    t.clock
        .advance(SignedDuration::from_millis(i64::try_from(NEVER).unwrap()) + SignedDuration::from_secs(20));
    let deliveries = t.delivered(&endpoint.name, 2).await;

    assert!(deliveries.iter().all(|delivery| delivery.attempt_count == 1));
    let first = deliveries[0].event.strip_prefix("events/").unwrap();
    let received = receiver.so_far();
    let repeated: Vec<_> = received.iter().filter(|it| it.id() == first).collect();
    assert_eq!(repeated.len(), 2, "at least once: the event came again");
    assert_eq!(repeated[0].body, repeated[1].body);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_gives_back_what_it_had_begun() {
    let mut t = TestPayments::start().await;
    t.config.webhooks.interval_ms = 10;
    let receiver = Receiver::start().await;
    receiver.reply(Reply::Hang);
    let endpoint = t.endpoint(&receiver.url).await;
    let worker = t.another().await;
    t.event().await;
    receiver.received(1).await;

    worker.stop().await;
    let next = t.another().await;
    let deliveries = t.delivered(&endpoint.name, 1).await;

    assert_eq!(deliveries[0].attempt_count, 1, "what was broken off counts for nothing");
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_queued_with_its_cause_and_lost_with_it() {
    let mut t = TestPayments::start().await;
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;
    // Nobody delivers yet, and a call is refused after it began.
    assert_eq!(t.config.webhooks.interval_ms, NEVER);
    let intent = t.event().await;
    t.capture(&intent.name, None, &key()).await.unwrap_err();

    t.config.webhooks.interval_ms = 10;
    let worker = t.another().await;
    let deliveries = t.delivered(&endpoint.name, 1).await;

    assert_eq!(deliveries.len(), 1);
    assert_eq!(deliveries[0].event_type, "payment_intent.created");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_without_a_good_signature_and_the_endpoint_is_not_to_blame() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    let (endpoint, other) = (t.endpoint(&receiver.url).await, t.endpoint(&receiver.url).await);
    // The other's secret in the place of its own: authentic, and not of this row.
    let swap = format!(
        "UPDATE vault.webhook_secrets AS s SET ciphertext = o.ciphertext FROM vault.webhook_secrets AS o \
         WHERE s.endpoint_id = '{}' AND o.endpoint_id = '{}'",
        endpoint.uid, other.uid
    );
    t.conn().await.batch_execute(&swap).await.unwrap();
    t.event().await;

    let delivery = t.attempted(&endpoint.name, 1).await;

    assert_eq!(delivery.state(), pb::delivery::State::Pending);
    assert_eq!(delivery.last_failure(), pb::delivery::Failure::SecretUnreadable);
    t.delivered(&other.name, 1).await;
    let received = receiver.so_far();
    assert_eq!(received.len(), 1);
    assert!(received[0].is_signed(&other.secret, t.now().as_second()));
    // A new secret sets it right, though the old one would still have its day.
    let secret = rotate(&t, &endpoint.name).await;
    t.advance(6);
    t.attempted(&endpoint.name, 2).await;
    let received = receiver.received(2).await;
    assert!(received[1].is_signed(&secret, t.now().as_second()));
    t.conn().await.batch_execute("DELETE FROM vault.webhook_secrets").await.unwrap();
    t.event().await;
    let unsigned =
        |delivery: &pb::Delivery| delivery.last_failure() == pb::delivery::Failure::SecretUnreadable;
    t.until(&endpoint.name, "refused", |deliveries| deliveries.iter().any(unsigned)).await;
    assert_eq!(receiver.so_far().len(), 2, "nothing is sent unsigned");
}
