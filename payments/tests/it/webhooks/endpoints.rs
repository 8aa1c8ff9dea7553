//! Endpoints and their secrets.

use std::sync::Arc;

use mesh::auth::PrincipalId;
use proto::payments::v1::{self as pb, webhook_endpoint_service_client::WebhookEndpointServiceClient};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

use super::endpoint;
use crate::{
    harness::{TestPayments, key, reason},
    secrets::holding,
};

const URL: &str = "https://hooks.example/jetway";

async fn update(
    t: &TestPayments,
    endpoint: pb::WebhookEndpoint,
    paths: &[&str],
) -> Result<pb::WebhookEndpoint, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = pb::UpdateWebhookEndpointRequest {
        webhook_endpoint: Some(endpoint),
        update_mask: Some(prost_types::FieldMask { paths }),
        request_id: String::new(),
    };
    t.endpoints().update_webhook_endpoint(request).await.map(Response::into_inner)
}

async fn list(t: &TestPayments) -> Vec<pb::WebhookEndpoint> {
    let request = pb::ListWebhookEndpointsRequest { page_size: 1000, page_token: String::new() };
    t.endpoints().list_webhook_endpoints(request).await.unwrap().into_inner().webhook_endpoints
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_registered_read_listed_and_deleted() {
    let t = TestPayments::start().await;
    let asked = pb::WebhookEndpoint {
        merchant: "merchants/6E".to_owned(),
        description: "the books".to_owned(),
        event_types: vec!["refund.*".to_owned(), "payment_intent.succeeded".to_owned()],
        ..endpoint(URL)
    };

    let created = t.register(asked.clone()).await.unwrap();

    assert_eq!((created.state(), created.secret_version), (pb::webhook_endpoint::State::Enabled, 1));
    assert_eq!((&created.url, &created.merchant), (&asked.url, &asked.merchant));
    assert_eq!((&created.description, &created.event_types), (&asked.description, &asked.event_types));
    assert_eq!(created.name, format!("webhookEndpoints/{}", created.uid));
    let without_secret = pb::WebhookEndpoint { secret: String::new(), ..created.clone() };
    assert_eq!(t.read(&created.name).await, without_secret);
    assert_eq!(list(&t).await, [without_secret]);

    let delete =
        || pb::DeleteWebhookEndpointRequest { name: created.name.clone(), request_id: String::new() };
    t.endpoints().delete_webhook_endpoint(delete()).await.unwrap();
    let gone = t.endpoints().delete_webhook_endpoint(delete()).await.unwrap_err();
    assert_eq!((gone.code(), reason(&gone).as_str()), (Code::NotFound, "WEBHOOK_ENDPOINT_NOT_FOUND"));
    assert!(list(&t).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_endpoints_follow_each_other_newest_first() {
    let t = TestPayments::start().await;
    let mut names = Vec::new();
    for _ in 0..5 {
        names.insert(0, t.endpoint(URL).await.name);
    }
    let mut read = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListWebhookEndpointsRequest { page_size: 2, page_token };
        let page = t.endpoints().list_webhook_endpoints(request).await.unwrap().into_inner();
        read.extend(page.webhook_endpoints.into_iter().map(|endpoint| endpoint.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(read, names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_shown_once_and_stored_as_ciphertext_only() {
    let t = TestPayments::start().await;
    let request_id = key();
    let request = pb::CreateWebhookEndpointRequest {
        webhook_endpoint: Some(endpoint(URL)),
        request_id: request_id.clone(),
    };
    let created = t.endpoints().create_webhook_endpoint(request).await.unwrap().into_inner();

    let encoded = created.secret.strip_prefix("whsec_").expect("the secret has its prefix");
    let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, encoded).unwrap();
    assert_eq!(bytes.len(), 32);
    assert_eq!(t.read(&created.name).await.secret, "");
    let mut conn = t.conn().await;
    for secret in [hex::encode(&bytes), hex::encode(&created.secret), hex::encode(encoded)] {
        assert_eq!(holding(&mut conn, &secret).await, Vec::<String>::new());
    }
    assert!(!format!("{created:?}").contains(encoded), "it does not show in logs");
    assert_ne!(t.endpoint(URL).await.secret, created.secret, "each endpoint has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_is_answered_the_same_secret_included_until_that_is_rotated_away() {
    let t = TestPayments::start().await;
    let admin = t.user(PrincipalId::generate(), &["admin"]);
    let mut endpoints = WebhookEndpointServiceClient::new(admin);
    let request =
        pb::CreateWebhookEndpointRequest { webhook_endpoint: Some(endpoint(URL)), request_id: key() };
    let created = endpoints.create_webhook_endpoint(request.clone()).await.unwrap().into_inner();

    let again = endpoints.create_webhook_endpoint(request.clone()).await.unwrap();
    assert_eq!(again.metadata().get("idempotent-replayed").unwrap(), "true");
    assert_eq!(again.into_inner(), created);
    assert_eq!(list(&t).await.len(), 1);

    let other = pb::CreateWebhookEndpointRequest {
        webhook_endpoint: Some(endpoint("https://other.example/")),
        ..request.clone()
    };
    let reused = endpoints.create_webhook_endpoint(other).await.unwrap_err();
    assert_eq!(reason(&reused), "IDEMPOTENCY_KEY_REUSED");

    let rotate = pb::RotateWebhookEndpointSecretRequest { name: created.name.clone(), request_id: key() };
    let rotated = endpoints.rotate_webhook_endpoint_secret(rotate.clone()).await.unwrap().into_inner();
    assert_eq!(rotated.secret_version, 2);
    assert_ne!(rotated.secret, created.secret);
    let again = endpoints.rotate_webhook_endpoint_secret(rotate).await.unwrap().into_inner();
    assert_eq!(again, rotated, "a repeated rotation rotates once");
    let still = endpoints.create_webhook_endpoint(request.clone()).await.unwrap().into_inner();
    assert_eq!(still, created, "for a day the old secret signs, and is there");

    t.advance(24 * 60 * 60);
    let gone = endpoints.create_webhook_endpoint(request).await.unwrap().into_inner();
    assert_eq!(gone, pb::WebhookEndpoint { secret: String::new(), ..created });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_needs_the_newest_etag() {
    let t = TestPayments::start().await;
    let created = t.endpoint(URL).await;
    let renamed = |etag: &str| pb::WebhookEndpoint {
        name: created.name.clone(),
        etag: etag.to_owned(),
        description: "renamed".to_owned(),
        ..pb::WebhookEndpoint::default()
    };

    let missing = update(&t, renamed(""), &["description"]).await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    let mismatch = update(&t, renamed("v9"), &["description"]).await.unwrap_err();
    assert_eq!((mismatch.code(), reason(&mismatch).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(t.read(&created.name).await.description, "", "a refused call changes nothing");

    let updated = update(&t, renamed(&created.etag), &["description"]).await.unwrap();
    assert_eq!((updated.description.as_str(), updated.url.as_str()), ("renamed", URL));
    assert_ne!(updated.etag, created.etag);
    let late = update(&t, renamed(&created.etag), &["description"]).await.unwrap_err();
    assert_eq!(reason(&late), "ETAG_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_changes_what_its_mask_names() {
    let t = TestPayments::start().await;
    let created = t
        .register(pb::WebhookEndpoint {
            description: "before".to_owned(),
            event_types: vec!["refund.*".to_owned()],
            ..endpoint(URL)
        })
        .await
        .unwrap();
    let asked = |etag: &str| pb::WebhookEndpoint {
        name: created.name.clone(),
        etag: etag.to_owned(),
        url: "https://other.example/".to_owned(),
        ..pb::WebhookEndpoint::default()
    };

    // Nothing named: what is not empty. What cannot be set is passed over.
    let updated = update(&t, asked(&created.etag), &[]).await.unwrap();
    assert_eq!((updated.url.as_str(), updated.description.as_str()), ("https://other.example/", "before"));
    let same = update(&t, asked(&updated.etag), &["state", "etag", "uid"]).await.unwrap();
    assert_eq!((same.description.as_str(), same.event_types.len()), ("before", 1));
    // What is named and empty is cleared.
    let cleared = update(&t, asked(&same.etag), &["description"]).await.unwrap();
    assert_eq!((cleared.description.as_str(), cleared.event_types.len()), ("", 1));
    let all = update(&t, asked(&cleared.etag), &["*"]).await.unwrap();
    assert_eq!(all.event_types.len(), 0);

    let unknown = update(&t, asked(&all.etag), &["colour"]).await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::InvalidArgument, "FIELD_INVALID"));
    let moved = pb::WebhookEndpoint { merchant: "merchants/AI".to_owned(), ..asked(&all.etag) };
    let moved = update(&t, moved, &["merchant"]).await.unwrap_err();
    assert_eq!(moved.code(), Code::InvalidArgument);
    assert_eq!(t.read(&created.name).await, all, "a refused call changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_updates_with_one_etag_one_wins() {
    let t = Arc::new(TestPayments::start().await);
    let created = t.endpoint(URL).await;
    let mut calls = JoinSet::new();
    for number in 0..10 {
        let (t, created) = (Arc::clone(&t), created.clone());
        calls.spawn(async move {
            let description = number.to_string();
            update(&t, pb::WebhookEndpoint { description, ..created }, &["description"]).await
        });
    }
    let outcomes = calls.join_all().await;

    let won: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(won.len(), 1, "{outcomes:?}");
    let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(lost.map(reason).all(|reason| reason == "ETAG_MISMATCH"));
    assert_eq!(t.read(&created.name).await, *won[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_has_sixteen_endpoints_at_most_however_many_calls_race() {
    let t = Arc::new(TestPayments::start().await);
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let t = Arc::clone(&t);
        let asked = pb::WebhookEndpoint { merchant: "merchants/6E".to_owned(), ..endpoint(URL) };
        calls.spawn(async move { t.register(asked).await });
    }
    let outcomes = calls.join_all().await;

    let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!((list(&t).await.len(), refused.len()), (16, 4));
    for status in refused {
        assert_eq!(
            (status.code(), reason(status).as_str()),
            (Code::FailedPrecondition, "WEBHOOK_ENDPOINT_LIMIT")
        );
    }
    t.endpoint(URL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_that_may_not_be_called_are_refused_and_nothing_is_made() {
    let t = TestPayments::start().await;
    let created = t.endpoint(URL).await;
    for url in [
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/",
        "https://0xa9fea9fe/",
        "https://user:password@hooks.example/",
        "https://hooks.example/#fragment",
    ] {
        let refused = t.register(endpoint(url)).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "WEBHOOK_URL_FORBIDDEN"),
            "{url}"
        );
        let asked = pb::WebhookEndpoint { url: url.to_owned(), ..created.clone() };
        assert_eq!(reason(&update(&t, asked, &["url"]).await.unwrap_err()), "WEBHOOK_URL_FORBIDDEN");
    }
    for url in ["", "ftp://hooks.example/", "hooks.example"] {
        let refused = t.register(endpoint(url)).await.unwrap_err();
        assert_eq!(reason(&refused), "FIELD_INVALID", "{url}");
    }
    assert_eq!(list(&t).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_simulator_a_url_is_https_and_its_host_is_not_this_machine() {
    let mut t = TestPayments::start().await;
    t.config.simulator = false;
    t.config.webhooks.allowed_networks.clear();
    let strict = t.another().await;
    strict.ready().await;
    let channel = mesh::testing::channel("edge", "payments", strict.address());
    let admin = mesh::testing::as_user(channel, &t.token(PrincipalId::generate(), &["admin"]));
    for url in ["http://hooks.example/", "https://127.0.0.1/", "https://[::1]/"] {
        let request = pb::CreateWebhookEndpointRequest {
            webhook_endpoint: Some(endpoint(url)),
            request_id: String::new(),
        };
        let mut endpoints = WebhookEndpointServiceClient::new(admin.clone());
        let refused = endpoints.create_webhook_endpoint(request).await.unwrap_err();
        assert_eq!(reason(&refused), "WEBHOOK_URL_FORBIDDEN", "{url}");
    }
    strict.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_endpoint_says_of_itself_is_checked() {
    let t = TestPayments::start().await;
    let pan = "4242424242424242";
    for (asked, wanted) in [
        (pb::WebhookEndpoint { description: pan.to_owned(), ..endpoint(URL) }, "PAN_IN_FREE_TEXT"),
        (endpoint(&format!("{URL}?card={pan}")), "PAN_IN_FREE_TEXT"),
        (
            pb::WebhookEndpoint { event_types: vec!["flight.left".to_owned()], ..endpoint(URL) },
            "FIELD_INVALID",
        ),
        (pb::WebhookEndpoint { merchant: "airlines/6E".to_owned(), ..endpoint(URL) }, "FIELD_INVALID"),
    ] {
        let refused = t.register(asked).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, wanted));
    }
    assert!(list(&t).await.is_empty());
    t.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_for_admins() {
    let t = TestPayments::start().await;
    let created = t.endpoint(URL).await;
    let customer = t.user(PrincipalId::generate(), &["customer"]);
    let mut endpoints = WebhookEndpointServiceClient::new(customer.clone());
    let name = created.name.clone();
    let create =
        pb::CreateWebhookEndpointRequest { webhook_endpoint: Some(endpoint(URL)), request_id: key() };
    let rotate = pb::RotateWebhookEndpointSecretRequest { name: name.clone(), request_id: key() };
    let delete = pb::DeleteWebhookEndpointRequest { name: name.clone(), request_id: key() };
    let deliveries =
        pb::ListDeliveriesRequest { parent: name.clone(), ..pb::ListDeliveriesRequest::default() };
    for refused in [
        endpoints.create_webhook_endpoint(create).await.map(drop),
        endpoints.get_webhook_endpoint(pb::GetWebhookEndpointRequest { name }).await.map(drop),
        endpoints.rotate_webhook_endpoint_secret(rotate).await.map(drop),
        endpoints.delete_webhook_endpoint(delete).await.map(drop),
        pb::delivery_service_client::DeliveryServiceClient::new(customer)
            .list_deliveries(deliveries)
            .await
            .map(drop),
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    assert_eq!(t.read(&created.name).await.secret_version, 1);
}
