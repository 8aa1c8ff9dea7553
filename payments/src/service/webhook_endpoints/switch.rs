//! Stops deliveries to an endpoint, and lets them go on.

use diesel_async::AsyncPgConnection;
use mesh::{auth::Caller, idempotency};
use proto::payments::v1 as pb;

use super::{
    super::{
        Handlers,
        keyed::{self, Answer},
        messages,
    },
    endpoint_id, save,
};
use crate::{
    domain::webhook::{DisabledReason, Health, State, WebhookEndpointId},
    error::Error,
    events, store, webhooks,
};

const DISABLE: &str = "/jetway.payments.v1.WebhookEndpointService/DisableWebhookEndpoint";
const ENABLE: &str = "/jetway.payments.v1.WebhookEndpointService/EnableWebhookEndpoint";

impl Handlers {
    pub(super) async fn disable_webhook_endpoint(
        &self,
        caller: &Caller,
        message: &pb::DisableWebhookEndpointRequest,
    ) -> Result<Answer<pb::WebhookEndpoint>, Error> {
        let id = endpoint_id(&message.name)?;
        let once = keyed::request(caller, DISABLE, &message.request_id, || {
            pb::DisableWebhookEndpointRequest { request_id: String::new(), ..message.clone() }
        });
        events::caused_by(&message.request_id, self.switch(id, once.as_ref(), false)).await
    }

    pub(super) async fn enable_webhook_endpoint(
        &self,
        caller: &Caller,
        message: &pb::EnableWebhookEndpointRequest,
    ) -> Result<Answer<pb::WebhookEndpoint>, Error> {
        let id = endpoint_id(&message.name)?;
        let once = keyed::request(caller, ENABLE, &message.request_id, || pb::EnableWebhookEndpointRequest {
            request_id: String::new(),
            ..message.clone()
        });
        self.switch(id, once.as_ref(), true).await
    }

    async fn switch(
        &self,
        id: WebhookEndpointId,
        once: Option<&idempotency::Request>,
        on: bool,
    ) -> Result<Answer<pb::WebhookEndpoint>, Error> {
        let now = self.acquiring.clock.now();
        let db = &self.acquiring.db;
        db.transaction("switch_webhook_endpoint", async |conn: &mut AsyncPgConnection| {
            if let Some(response) = keyed::claim(conn, once, now).await? {
                return Ok(Answer::Replayed(response));
            }
            let mut endpoint = store::webhooks::lock(conn, id).await?;
            match (endpoint.state, on) {
                (State::Enabled, true) | (State::Disabled(_), false) => {}
                (State::Enabled, false) => {
                    webhooks::disable(conn, &mut endpoint, DisabledReason::Manual, now).await?;
                }
                (State::Disabled(_), true) => {
                    endpoint.state = State::Enabled;
                    endpoint.health = Health::default();
                    save(conn, &mut endpoint, now).await?;
                }
            }
            let response = messages::webhook_endpoint(&endpoint);
            keyed::complete(conn, once, &response, now).await?;
            Ok::<_, Error>(Answer::New(response))
        })
        .await
    }
}
