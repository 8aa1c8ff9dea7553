//! One endpoint does not suffer from another.

use diesel::{QueryableByName, sql_types::BigInt};
use diesel_async::RunQueryDsl as _;
use proto::payments::v1::{self as pb, delivery::State};

use super::receiver::{Receiver, Reply};
use crate::harness::TestPayments;

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers_delays_no_other_and_holds_four_places() {
    let t = TestPayments::start_with_webhooks().await;
    let dead = Receiver::that(Reply::Hang).await;
    let silent = t.endpoint(&dead.url).await;
    for _ in 0..20 {
        t.event().await;
    }
    dead.received(4).await;
    // Whatever is spread after this is for the other endpoint too.
    t.until(&silent.name, "spread", |deliveries| deliveries.len() == 20).await;
    let receiver = Receiver::start().await;
    let endpoint = t.endpoint(&receiver.url).await;
    for _ in 0..20 {
        t.event().await;
    }

    let deliveries = t.delivered(&endpoint.name, 20).await;

    assert_eq!(deliveries.len(), 20);
    let attempted = t.deliveries(&silent.name).await.iter().filter(|it| it.attempt_count > 0).count();
    // All of the others' are there before the first of these is given up.
    assert_eq!((attempted, dead.so_far().len(), dead.open_max()), (0, 4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_five_failures_an_endpoint_is_left_alone_and_then_tried_with_one_delivery() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::that(Reply::Status(500)).await;
    let endpoint = t.endpoint(&receiver.url).await;
    for _ in 0..30 {
        t.event().await;
    }
    let open = |deliveries: &[pb::Delivery]| {
        deliveries.len() == 30 && deliveries.iter().filter(|it| it.attempt_count > 0).count() >= 5
    };
    t.until(&endpoint.name, "failing", open).await;
    // Those that were on their way at the fifth failure still came.
    let first = receiver.so_far().len();
    assert!((5..=8).contains(&first), "{first}");

    t.advance(300);
    receiver.received(first + 1).await;
    t.until(&endpoint.name, "tried", |deliveries| {
        deliveries.iter().map(|it| usize::try_from(it.attempt_count).unwrap()).sum::<usize>() == first + 1
    })
    .await;
    assert_eq!(receiver.so_far().len(), first + 1, "one alone");

    receiver.always(Reply::Status(200));
    t.advance(300);
    t.until(&endpoint.name, "well again", |deliveries| {
        let succeeded = deliveries.iter().filter(|it| it.state() == State::Succeeded).count();
        succeeded >= 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_deleted_while_it_is_called_is_gone() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::that(Reply::Hang).await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    receiver.received(1).await;

    let request = pb::DeleteWebhookEndpointRequest { name: endpoint.name.clone(), request_id: String::new() };
    t.endpoints().delete_webhook_endpoint(request).await.unwrap();

    let others = Receiver::start().await;
    let other = t.endpoint(&others.url).await;
    t.event().await;
    t.delivered(&other.name, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_disabled_while_it_is_called_stays_so() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::that(Reply::Hang).await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    receiver.received(1).await;

    let request =
        || pb::DisableWebhookEndpointRequest { name: endpoint.name.clone(), request_id: String::new() };
    let disabled = t.endpoints().disable_webhook_endpoint(request()).await.unwrap().into_inner();
    let again = t.endpoints().disable_webhook_endpoint(request()).await.unwrap().into_inner();

    assert_eq!(disabled.disabled_reason(), pb::webhook_endpoint::DisabledReason::Manual);
    assert_eq!(again, disabled, "what is so already stays so");
    let dead = &t.deliveries(&endpoint.name).await[0];
    assert_eq!((dead.state(), dead.last_failure()), (State::Dead, pb::delivery::Failure::EndpointDisabled));
    t.check().await;
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_transaction_is_open_and_no_lock_is_held_while_an_endpoint_is_called() {
    let t = TestPayments::start_with_webhooks().await;
    let receiver = Receiver::that(Reply::Hang).await;
    let endpoint = t.endpoint(&receiver.url).await;
    t.event().await;
    receiver.received(1).await;
    let mut conn = t.conn().await;

    // Rounds have transactions, too, but none that lasts as long as the call.
    let seen = async {
        loop {
            let open: Count = diesel::sql_query(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND xact_start IS NOT NULL",
            )
            .get_result(&mut conn)
            .await
            .unwrap();
            if open.count == 0 {
                return;
            }
        }
    };
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, seen).await.expect("there is a moment without a transaction");
    let rename = pb::UpdateWebhookEndpointRequest {
        webhook_endpoint: Some(pb::WebhookEndpoint { description: "renamed".to_owned(), ..endpoint }),
        ..pb::UpdateWebhookEndpointRequest::default()
    };
    t.endpoints().update_webhook_endpoint(rename).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_url_answers_is_not_held_against_the_new_one() {
    let t = TestPayments::start_with_webhooks().await;
    let old = Receiver::that(Reply::Hang).await;
    let endpoint = t.endpoint(&old.url).await;
    t.event().await;
    old.received(1).await;
    let new = Receiver::start().await;
    let change = pb::UpdateWebhookEndpointRequest {
        webhook_endpoint: Some(pb::WebhookEndpoint { url: new.url.clone(), ..endpoint.clone() }),
        ..pb::UpdateWebhookEndpointRequest::default()
    };
    t.endpoints().update_webhook_endpoint(change).await.unwrap();

    old.release(410);

    let delivery = t.attempted(&endpoint.name, 1).await;
    assert_eq!((delivery.state(), delivery.last_http_status), (State::Succeeded, 204));
    assert_eq!(t.read(&endpoint.name).await.state(), pb::webhook_endpoint::State::Enabled);
    assert_eq!(new.so_far()[0].id(), old.so_far()[0].id());
}
