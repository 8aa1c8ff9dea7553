//! Webhooks, to real receivers on sockets of this machine.

mod deliveries;
mod endpoints;
mod isolation;
mod receiver;
mod replay;
mod schedule;

use mesh::auth::PrincipalId;
use proto::payments::v1::{
    self as pb, delivery_service_client::DeliveryServiceClient,
    webhook_endpoint_service_client::WebhookEndpointServiceClient,
};
use tonic::{Response, Status};

use crate::harness::TestPayments;

impl TestPayments {
    fn endpoints(&self) -> WebhookEndpointServiceClient<mesh::testing::UserChannel> {
        WebhookEndpointServiceClient::new(self.user(PrincipalId::generate(), &["admin"]))
    }

    fn delivery_service(&self) -> DeliveryServiceClient<mesh::testing::UserChannel> {
        DeliveryServiceClient::new(self.user(PrincipalId::generate(), &["admin"]))
    }

    /// An endpoint for every event.
    async fn endpoint(&self, url: &str) -> pb::WebhookEndpoint {
        self.register(endpoint(url)).await.expect("the endpoint is registered")
    }

    async fn register(&self, endpoint: pb::WebhookEndpoint) -> Result<pb::WebhookEndpoint, Status> {
        let request =
            pb::CreateWebhookEndpointRequest { webhook_endpoint: Some(endpoint), request_id: String::new() };
        self.endpoints().create_webhook_endpoint(request).await.map(Response::into_inner)
    }

    async fn read(&self, name: &str) -> pb::WebhookEndpoint {
        let request = pb::GetWebhookEndpointRequest { name: name.to_owned() };
        self.endpoints().get_webhook_endpoint(request).await.expect("it is there").into_inner()
    }

    /// An event, the first of a new payment.
    async fn event(&self) -> pb::PaymentIntent {
        self.create(PrincipalId::generate(), "").await
    }

    /// All deliveries to an endpoint, oldest first.
    async fn deliveries(&self, endpoint: &str) -> Vec<pb::Delivery> {
        let request = pb::ListDeliveriesRequest {
            parent: endpoint.to_owned(),
            page_size: 1000,
            ..pb::ListDeliveriesRequest::default()
        };
        let page = self.delivery_service().list_deliveries(request).await.expect("there is a list");
        page.into_inner().deliveries.into_iter().rev().collect()
    }

    /// Reads the deliveries to an endpoint until they are as wanted, for a minute at most.
    async fn until(
        &self,
        endpoint: &str,
        what: &str,
        wanted: impl Fn(&[pb::Delivery]) -> bool,
    ) -> Vec<pb::Delivery> {
        let reached = async {
            loop {
                let deliveries = self.deliveries(endpoint).await;
                if wanted(&deliveries) {
                    return deliveries;
                }
            }
        };
        let limit = std::time::Duration::from_secs(60);
        let Ok(deliveries) = tokio::time::timeout(limit, reached).await else {
            panic!("never {what}: {:#?}", self.deliveries(endpoint).await)
        };
        deliveries
    }

    /// Waits until an endpoint has this many deliveries, and all of them have succeeded.
    async fn delivered(&self, endpoint: &str, count: usize) -> Vec<pb::Delivery> {
        self.until(endpoint, "delivered", |deliveries| {
            deliveries.len() >= count
                && deliveries.iter().all(|delivery| delivery.state() == pb::delivery::State::Succeeded)
        })
        .await
    }

    /// Waits until the only delivery to an endpoint was attempted so often, and the answer is written down.
    async fn attempted(&self, endpoint: &str, attempts: i32) -> pb::Delivery {
        let deliveries = self
            .until(endpoint, "attempted", |deliveries| {
                deliveries.first().is_some_and(|delivery| delivery.attempt_count == attempts)
            })
            .await;
        assert_eq!(deliveries.len(), 1);
        deliveries[0].clone()
    }

    /// Waits until an endpoint is disabled.
    async fn disabled(&self, name: &str) -> pb::WebhookEndpoint {
        let reached = async {
            loop {
                let endpoint = self.read(name).await;
                if endpoint.state() == pb::webhook_endpoint::State::Disabled {
                    return endpoint;
                }
            }
        };
        let limit = std::time::Duration::from_secs(60);
        tokio::time::timeout(limit, reached).await.expect("it is disabled in time")
    }
}

fn endpoint(url: &str) -> pb::WebhookEndpoint {
    pb::WebhookEndpoint { url: url.to_owned(), ..pb::WebhookEndpoint::default() }
}
