//! Registers a URL, and makes the secret that its deliveries are signed with.

use diesel_async::AsyncPgConnection;
use mesh::auth::Caller;
use proto::payments::v1 as pb;

use super::{
    super::{
        Handlers, free_text,
        keyed::{self, Answer},
        messages,
    },
    event_types,
};
use crate::{
    domain::webhook::{ENDPOINTS_MAX, Health, State, WebhookEndpoint, WebhookEndpointId},
    error::Error,
    store,
};

const METHOD: &str = "/jetway.payments.v1.WebhookEndpointService/CreateWebhookEndpoint";

impl Handlers {
    pub(super) async fn create_webhook_endpoint(
        &self,
        caller: &Caller,
        message: pb::CreateWebhookEndpointRequest,
    ) -> Result<Answer<pb::WebhookEndpoint>, Error> {
        let once = keyed::request(caller, METHOD, &message.request_id, || pb::CreateWebhookEndpointRequest {
            request_id: String::new(),
            ..message.clone()
        });
        let asked = message.webhook_endpoint.ok_or(Error::InvalidField("webhook_endpoint"))?;
        if asked.url.is_empty() {
            return Err(Error::InvalidField("webhook_endpoint.url"));
        }
        let now = self.acquiring.clock.now();
        let endpoint = WebhookEndpoint {
            id: WebhookEndpointId::generate(),
            version: 1,
            merchant: asked.merchant.strip_prefix("merchants/").map(str::to_owned),
            url: self.webhook_url(&asked.url)?,
            description: free_text(&asked.description, "webhook_endpoint.description")?,
            event_types: event_types(&asked.event_types, "webhook_endpoint.event_types")?,
            state: State::Enabled,
            secret_version: 1,
            health: Health::default(),
            created_at: now,
            updated_at: now,
        };
        let (secret, sealed) = self.new_secret(endpoint.merchant.as_deref()).await?;
        let answer = self
            .acquiring
            .db
            .transaction("create_webhook_endpoint", async |conn: &mut AsyncPgConnection| {
                if let Some(response) = keyed::claim(conn, once.as_ref(), now).await? {
                    return Ok(Answer::Replayed(response));
                }
                if let Some(merchant) = &endpoint.merchant {
                    store::merchants::ensure(conn, merchant, now).await?;
                }
                if store::webhooks::count(conn, endpoint.merchant.as_deref()).await? >= ENDPOINTS_MAX {
                    return Err(Error::WebhookEndpointLimit);
                }
                store::webhooks::insert(conn, &endpoint, &sealed).await?;
                let response = messages::webhook_endpoint(&endpoint);
                keyed::complete(conn, once.as_ref(), &response, now).await?;
                Ok(Answer::New(response))
            })
            .await?;
        self.reveal(answer, &secret).await
    }
}
