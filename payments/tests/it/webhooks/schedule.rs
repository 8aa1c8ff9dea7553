//! What fails is tried again, by the platform's clock.

use mesh::clock::from_proto;
use proto::payments::v1::{
    self as pb,
    delivery::{Failure, State},
    webhook_endpoint::DisabledReason,
};

use super::receiver::{Received, Receiver, Reply};
use crate::harness::TestPayments;

/// Seconds to the next attempt of a delivery that waits.
fn wait(t: &TestPayments, delivery: &pb::Delivery) -> i64 {
    let next = delivery.next_attempt_time.and_then(from_proto).expect("there is a next attempt");
    next.duration_since(t.now()).as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_repeated_by_the_schedule_and_then_dead() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::that(Reply::Status(500)).await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;

    let hour = 3_600;
    let schedule = [5, 300, 1_800, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour];
    let began = t.now();
    for (attempts, seconds) in (1..).zip(schedule) {
        let delivery = t.attempted(&endpoint.name, attempts).await;
        assert_eq!(delivery.state(), State::Pending);
        assert_eq!((delivery.last_failure(), delivery.last_http_status), (Failure::HttpStatus, 500));
        let wait = wait(&t, &delivery);
        assert!(wait >= seconds * 4 / 5 - 1 && wait <= seconds * 6 / 5, "{attempts}: {wait}");
        // Not before its time.
        t.advance(wait);
        assert_eq!(t.attempted(&endpoint.name, attempts).await, delivery);
        t.advance(1);
    }
    let dead = t.attempted(&endpoint.name, 10).await;

    assert_eq!((dead.state(), dead.next_attempt_time), (State::Dead, None));
    let hours = t.now().duration_since(began).as_hours();
    assert!((60..=91).contains(&hours), "75.6 hours, a fifth more or less: {hours}");
    let received = receiver.so_far();
    assert_eq!(received.len(), 10);
    assert!(received.iter().all(|it| it.id() == received[0].id() && it.body == received[0].body));
    let first: i64 = received[0].header("webhook-timestamp").parse().unwrap();
    let last: i64 = received[9].header("webhook-timestamp").parse().unwrap();
    assert!(last > first, "each attempt has its own time");
    assert!(received[9].is_signed(&endpoint.secret, last));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_succeeds_late_has_succeeded() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    receiver.reply(Reply::Status(503));
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    t.attempted(&endpoint.name, 1).await;

    t.advance(6);
    let delivery = t.attempted(&endpoint.name, 2).await;

    assert_eq!((delivery.state(), delivery.last_failure()), (State::Succeeded, Failure::Unspecified));
    assert_eq!(receiver.so_far().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_is_honoured_in_seconds_and_never_shortens_the_schedule() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    receiver.reply(Reply::Later(429, "900"));
    receiver.reply(Reply::Later(503, "1"));
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;

    assert_eq!(wait(&t, &t.attempted(&endpoint.name, 1).await), 900);
    // Nothing else goes there meanwhile.
    t.event().await;
    t.until(&endpoint.name, "queued", |deliveries| deliveries.len() == 2).await;
    t.advance(899);
    let waiting = t.deliveries(&endpoint.name).await;
    assert_eq!(waiting.iter().map(|delivery| delivery.attempt_count).sum::<i32>(), 1);

    t.advance(1);
    let deliveries = t
        .until(&endpoint.name, "attempted", |deliveries| {
            deliveries.iter().any(|delivery| delivery.last_http_status == 503)
        })
        .await;
    let failed = deliveries.iter().find(|delivery| delivery.last_http_status == 503).unwrap();
    assert!(wait(&t, failed) >= 4, "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_410_disables_the_endpoint_at_once_and_the_others_hear_of_it() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::that(Reply::Status(500)).await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    t.attempted(&endpoint.name, 1).await;
    let others = Receiver::start().await;
    let other = t.endpoint(&others.url).await;
    receiver.always(Reply::Status(410));
    t.event().await;

    let disabled = t.disabled(&endpoint.name).await;

    assert_eq!(disabled.disabled_reason(), DisabledReason::Gone);
    assert_ne!(disabled.etag, endpoint.etag);
    let deliveries = t.deliveries(&endpoint.name).await;
    assert!(deliveries.iter().all(|delivery| delivery.state() == State::Dead), "{deliveries:?}");
    assert_eq!(deliveries[0].last_failure(), Failure::EndpointDisabled);
    assert_eq!(deliveries[1].last_http_status, 410);
    t.delivered(&other.name, 2).await;
    let told =
        others.so_far().iter().map(Received::json).find(|it| it["type"] == "webhook_endpoint.disabled");
    let told = told.expect("the others hear of it");
    assert_eq!(told["resource"], endpoint.name);
    assert_eq!(told["data"]["object"]["disabled_reason"], "GONE");

    // What happens meanwhile is not delivered; from its enabling on it is.
    let so_far = receiver.so_far().len();
    t.event().await;
    t.delivered(&other.name, 3).await;
    receiver.always(Reply::Status(204));
    let request = pb::EnableWebhookEndpointRequest { name: endpoint.name.clone(), request_id: String::new() };
    let enabled = t.endpoints().enable_webhook_endpoint(request).await.unwrap().into_inner();
    assert_eq!(enabled.state(), pb::webhook_endpoint::State::Enabled);
    t.event().await;
    receiver.received(so_far + 1).await;
    t.delivered(&other.name, 4).await;
    assert_eq!(receiver.so_far().len(), so_far + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_days_of_nothing_but_failures_disable_an_endpoint() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::that(Reply::Status(500)).await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    t.attempted(&endpoint.name, 1).await;
    let day = 24 * 60 * 60;
    // Ever again something fails, and for the last time a second before the five days are over.
    for seconds in [day, day, day, 2 * day - 1] {
        let so_far = receiver.so_far().len();
        t.advance(seconds);
        receiver.received(so_far + 1).await;
        t.until(&endpoint.name, "attempted", |deliveries| {
            let attempts = usize::try_from(deliveries[0].attempt_count).unwrap();
            attempts == so_far + 1
        })
        .await;
    }
    assert_eq!(t.read(&endpoint.name).await.state(), pb::webhook_endpoint::State::Enabled);

    t.advance(1_000);
    t.event().await;
    let disabled = t.disabled(&endpoint.name).await;

    assert_eq!(disabled.disabled_reason(), DisabledReason::Failing);
    assert!(t.deliveries(&endpoint.name).await.iter().all(|delivery| delivery.state() == State::Dead));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_in_between_begins_the_five_days_anew() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::start().await;
    receiver.reply(Reply::Status(500));
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    t.attempted(&endpoint.name, 1).await;
    t.advance(4 * 24 * 60 * 60);
    t.attempted(&endpoint.name, 2).await;
    receiver.reply(Reply::Status(500));
    t.advance(2 * 24 * 60 * 60);
    t.event().await;

    t.until(&endpoint.name, "attempted", |deliveries| {
        deliveries.len() == 2 && deliveries[1].attempt_count == 1
    })
    .await;

    assert_eq!(t.read(&endpoint.name).await.state(), pb::webhook_endpoint::State::Enabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let t = TestPayments::start_with_webhooks().await;
    let elsewhere = Receiver::start().await;
    let receiver = Receiver::that(Reply::Redirect(elsewhere.url.clone())).await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;

    let delivery = t.attempted(&endpoint.name, 1).await;

    assert_eq!((delivery.state(), delivery.last_http_status), (State::Pending, 302));
    assert_eq!(elsewhere.so_far().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_resolves_to_a_private_address_is_not_called() {
    let mut t = TestPayments::start().await;
    let receiver = Receiver::start().await;
    let url = receiver.url.replace("127.0.0.1", "localhost");
    let endpoint = t.endpoint(&url).await;
    t.event().await;
    // Of this machine only another address may be called.
    t.config.webhooks.allowed_networks = vec!["127.9.9.9/32".parse().unwrap()];
    t.config.webhooks.interval_ms = 10;
    let strict = t.another().await;

    let delivery = t.attempted(&endpoint.name, 1).await;

    assert_eq!((delivery.state(), delivery.last_failure()), (State::Pending, Failure::AddressForbidden));
    assert_eq!(receiver.so_far().len(), 0);
    strict.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_be_reached_has_failed() {
    let t = TestPayments::start_with_webhooks().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let endpoint = t.endpoint(&format!("http://{address}/")).await;
    let unknown = t.endpoint("http://no-such-host.invalid/").await;
    t.event().await;

    assert_eq!(t.attempted(&endpoint.name, 1).await.last_failure(), Failure::ConnectionFailed);
    assert_eq!(t.attempted(&unknown.name, 1).await.last_failure(), Failure::NameNotResolved);
}
