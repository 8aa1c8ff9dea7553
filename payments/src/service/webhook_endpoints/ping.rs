//! Tries an endpoint, with an event that is for it alone.

use diesel_async::AsyncPgConnection;
use mesh::auth::Caller;
use proto::payments::v1 as pb;

use super::{
    super::{
        Handlers,
        keyed::{self, Answer},
        messages,
    },
    endpoint_id,
};
use crate::{
    domain::webhook::{Delivery, PING, State, Trigger},
    error::Error,
    events, store,
};

const METHOD: &str = "/jetway.payments.v1.WebhookEndpointService/PingWebhookEndpoint";

impl Handlers {
    pub(super) async fn ping_webhook_endpoint(
        &self,
        caller: &Caller,
        message: &pb::PingWebhookEndpointRequest,
    ) -> Result<Answer<pb::Delivery>, Error> {
        let id = endpoint_id(&message.name)?;
        let once = keyed::request(caller, METHOD, &message.request_id, || pb::PingWebhookEndpointRequest {
            request_id: String::new(),
            ..message.clone()
        });
        let now = self.acquiring.clock.now();
        let db = &self.acquiring.db;
        db.transaction("ping_webhook_endpoint", async |conn: &mut AsyncPgConnection| {
            if let Some(response) = keyed::claim(conn, once.as_ref(), now).await? {
                return Ok(Answer::Replayed(response));
            }
            let endpoint = store::webhooks::lock(conn, id).await?;
            if endpoint.state != State::Enabled {
                return Err(Error::WebhookEndpointDisabled(id));
            }
            let event = events::webhook_endpoint_ping(conn, &endpoint, now).await?;
            let delivery = Delivery::new(id, event, PING, Trigger::Ping, now);
            store::webhooks::deliveries::insert(conn, &delivery).await?;
            let response = messages::delivery(&delivery);
            keyed::complete(conn, once.as_ref(), &response, now).await?;
            Ok(Answer::New(response))
        })
        .await
    }
}
