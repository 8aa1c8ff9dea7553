//! Makes a new secret. The old one signs beside it for a day.

use diesel_async::AsyncPgConnection;
use mesh::auth::Caller;
use proto::payments::v1 as pb;

use super::{
    super::{
        Handlers,
        keyed::{self, Answer},
        messages,
    },
    endpoint_id, save,
};
use crate::{domain::webhook::OLD_SECRET_LIFE, error::Error, store};

const METHOD: &str = "/jetway.payments.v1.WebhookEndpointService/RotateWebhookEndpointSecret";

impl Handlers {
    pub(super) async fn rotate_webhook_endpoint_secret(
        &self,
        caller: &Caller,
        message: &pb::RotateWebhookEndpointSecretRequest,
    ) -> Result<Answer<pb::WebhookEndpoint>, Error> {
        let id = endpoint_id(&message.name)?;
        let once = keyed::request(caller, METHOD, &message.request_id, || {
            pb::RotateWebhookEndpointSecretRequest { request_id: String::new(), ..message.clone() }
        });
        let now = self.acquiring.clock.now();
        let db = &self.acquiring.db;
        // Its merchant never changes.
        let merchant = store::webhooks::get(&mut *db.connection().await?, id).await?.merchant;
        let (secret, sealed) = self.new_secret(merchant.as_deref()).await?;
        let answer = db
            .transaction("rotate_webhook_endpoint_secret", async |conn: &mut AsyncPgConnection| {
                if let Some(response) = keyed::claim(conn, once.as_ref(), now).await? {
                    return Ok(Answer::Replayed(response));
                }
                let mut endpoint = store::webhooks::lock(conn, id).await?;
                store::webhooks::retire_secret(conn, id, now + OLD_SECRET_LIFE).await?;
                endpoint.secret_version += 1;
                save(conn, &mut endpoint, now).await?;
                store::webhooks::insert_secret(conn, &endpoint, &sealed, now).await?;
                let response = messages::webhook_endpoint(&endpoint);
                keyed::complete(conn, once.as_ref(), &response, now).await?;
                Ok::<_, Error>(Answer::New(response))
            })
            .await?;
        self.reveal(answer, &secret).await
    }
}
