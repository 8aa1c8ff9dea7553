//! Webhook endpoints. One file for each call that changes one.
//!
//! Secrets are made, sealed and opened outside of transactions. No stored answer holds one: when an answer is given again, its secret is read from the
//! vault, as long as it is there.

mod create;
mod ping;
mod rotate_secret;
mod switch;
mod update;

use diesel_async::AsyncPgConnection;
use mesh::{
    pagination::{PageToken, page_size},
    server::open,
};
use proto::payments::v1::{self as pb, webhook_endpoint_service_server::WebhookEndpointService};
use tonic::{Request, Response, Status};

use super::{
    Handlers,
    keyed::{self, Answer},
    messages,
    reads::page,
};
use crate::{
    domain::webhook::{WebhookEndpoint, WebhookEndpointId, WebhookSecretId, is_event_type},
    error::Error,
    events, store,
    vault::{self, SealedSecret},
    webhooks::{self, sign::Secret},
};

/// The page tokens of the list of endpoints.
const LIST: &[u8] = b"webhookEndpoints";

#[tonic::async_trait]
impl WebhookEndpointService for Handlers {
    async fn create_webhook_endpoint(
        &self,
        request: Request<pb::CreateWebhookEndpointRequest>,
    ) -> Result<Response<pb::WebhookEndpoint>, Status> {
        let (caller, message) = open(request)?;
        self.create_webhook_endpoint(&caller, message).await?.response()
    }

    async fn get_webhook_endpoint(
        &self,
        request: Request<pb::GetWebhookEndpointRequest>,
    ) -> Result<Response<pb::WebhookEndpoint>, Status> {
        let (_, message) = open(request)?;
        let id = endpoint_id(&message.name)?;
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        Ok(Response::new(messages::webhook_endpoint(&store::webhooks::get(&mut conn, id).await?)))
    }

    async fn list_webhook_endpoints(
        &self,
        request: Request<pb::ListWebhookEndpointsRequest>,
    ) -> Result<Response<pb::ListWebhookEndpointsResponse>, Status> {
        let (_, message) = open(request)?;
        let after =
            PageToken::decode(&message.page_token, LIST).map_err(|_| Error::InvalidField("page_token"))?;
        let size = page_size(message.page_size);
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        let found = store::webhooks::list(&mut conn, after, size + 1).await?;
        let (found, next_page_token) = page(found, size, |endpoint| PageToken::encode(&endpoint.id, LIST));
        let webhook_endpoints = found.iter().map(messages::webhook_endpoint).collect();
        Ok(Response::new(pb::ListWebhookEndpointsResponse { webhook_endpoints, next_page_token }))
    }

    async fn update_webhook_endpoint(
        &self,
        request: Request<pb::UpdateWebhookEndpointRequest>,
    ) -> Result<Response<pb::WebhookEndpoint>, Status> {
        let (caller, message) = open(request)?;
        self.update_webhook_endpoint(&caller, message).await?.response()
    }

    async fn delete_webhook_endpoint(
        &self,
        request: Request<pb::DeleteWebhookEndpointRequest>,
    ) -> Result<Response<pb::DeleteWebhookEndpointResponse>, Status> {
        const METHOD: &str = "/jetway.payments.v1.WebhookEndpointService/DeleteWebhookEndpoint";
        let (caller, message) = open(request)?;
        let id = endpoint_id(&message.name)?;
        let once = keyed::request(&caller, METHOD, &message.request_id, || {
            pb::DeleteWebhookEndpointRequest { request_id: String::new(), ..message.clone() }
        });
        let now = self.acquiring.clock.now();
        let db = &self.acquiring.db;
        db.transaction("delete_webhook_endpoint", async |conn: &mut AsyncPgConnection| {
            if let Some(response) = keyed::claim(conn, once.as_ref(), now).await? {
                return Ok(Answer::Replayed(response));
            }
            if !store::webhooks::delete(conn, id).await? {
                return Err(Error::WebhookEndpointNotFound(id));
            }
            let response = pb::DeleteWebhookEndpointResponse {};
            keyed::complete(conn, once.as_ref(), &response, now).await?;
            Ok(Answer::New(response))
        })
        .await?
        .response()
    }

    async fn disable_webhook_endpoint(
        &self,
        request: Request<pb::DisableWebhookEndpointRequest>,
    ) -> Result<Response<pb::WebhookEndpoint>, Status> {
        let (caller, message) = open(request)?;
        self.disable_webhook_endpoint(&caller, &message).await?.response()
    }

    async fn enable_webhook_endpoint(
        &self,
        request: Request<pb::EnableWebhookEndpointRequest>,
    ) -> Result<Response<pb::WebhookEndpoint>, Status> {
        let (caller, message) = open(request)?;
        self.enable_webhook_endpoint(&caller, &message).await?.response()
    }

    async fn rotate_webhook_endpoint_secret(
        &self,
        request: Request<pb::RotateWebhookEndpointSecretRequest>,
    ) -> Result<Response<pb::WebhookEndpoint>, Status> {
        let (caller, message) = open(request)?;
        self.rotate_webhook_endpoint_secret(&caller, &message).await?.response()
    }

    async fn ping_webhook_endpoint(
        &self,
        request: Request<pb::PingWebhookEndpointRequest>,
    ) -> Result<Response<pb::Delivery>, Status> {
        let (caller, message) = open(request)?;
        events::caused_by(&message.request_id, self.ping_webhook_endpoint(&caller, &message))
            .await?
            .response()
    }
}

impl Handlers {
    /// A new secret for an endpoint of this merchant, and how it is stored.
    async fn new_secret(&self, merchant: Option<&str>) -> Result<(Secret, SealedSecret), Error> {
        let owner = merchant.map_or_else(|| vault::MERCHANT.to_owned(), |id| format!("merchants/{id}"));
        let dek = self.dek(&owner).await?;
        let secret = Secret::generate();
        let id = WebhookSecretId::generate();
        let sealed = self.acquiring.vault.seal_secret(&dek, id, secret.expose()).await?;
        Ok((secret, sealed))
    }

    /// Adds the secret to an answer that had it when it was first given, unless that secret is gone.
    async fn with_secret(&self, mut message: pb::WebhookEndpoint) -> Result<pb::WebhookEndpoint, Error> {
        let id = endpoint_id(&message.name)?;
        let now = self.acquiring.clock.now();
        let secrets = store::webhooks::secrets(&mut *self.acquiring.db.connection().await?, id, now).await?;
        for (version, dek, sealed) in secrets {
            if version == message.secret_version {
                message.secret = webhooks::secret(&self.acquiring.vault, &dek, &sealed).await?.show();
            }
        }
        Ok(message)
    }

    /// The secret of a call that has just made it, or was answered before.
    async fn reveal(
        &self,
        answer: Answer<pb::WebhookEndpoint>,
        secret: &Secret,
    ) -> Result<Answer<pb::WebhookEndpoint>, Error> {
        Ok(match answer {
            Answer::New(message) => Answer::New(pb::WebhookEndpoint { secret: secret.show(), ..message }),
            Answer::Replayed(message) => Answer::Replayed(self.with_secret(message).await?),
        })
    }

    /// The URL, if it may be called.
    fn webhook_url(&self, url: &str) -> Result<String, Error> {
        if mesh::free_text::holds_card_number(url) {
            return Err(Error::PanInFreeText("webhook_endpoint.url"));
        }
        self.webhook_rules.target(url).map_err(Error::WebhookUrl)?;
        Ok(url.to_owned())
    }
}

fn endpoint_id(name: &str) -> Result<WebhookEndpointId, Error> {
    WebhookEndpointId::from_name(name).ok_or(Error::InvalidField("name"))
}

fn event_types(types: &[String], field: &'static str) -> Result<Vec<String>, Error> {
    if types.iter().all(|text| is_event_type(text)) {
        Ok(types.to_vec())
    } else {
        Err(Error::InvalidField(field))
    }
}

/// Writes a change that the owner sees, to an endpoint that the caller has locked.
async fn save(
    conn: &mut AsyncPgConnection,
    endpoint: &mut WebhookEndpoint,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    endpoint.version += 1;
    endpoint.updated_at = now;
    store::webhooks::update(conn, endpoint).await
}
