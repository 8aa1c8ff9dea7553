//! Changes URL, description or event types, for whoever has seen the newest state.

use diesel_async::AsyncPgConnection;
use mesh::auth::Caller;
use proto::payments::v1 as pb;

use super::{
    super::{
        Handlers, free_text,
        keyed::{self, Answer},
        messages,
    },
    event_types, save,
};
use crate::{
    domain::webhook::{Health, WebhookEndpointId},
    error::Error,
    store,
};

const METHOD: &str = "/jetway.payments.v1.WebhookEndpointService/UpdateWebhookEndpoint";

/// Fields that a client may send back as it got them: they are passed over (AIP-203).
const PASSED_OVER: [&str; 10] = [
    "name",
    "uid",
    "create_time",
    "update_time",
    "etag",
    "state",
    "disabled_reason",
    "merchant",
    "secret",
    "secret_version",
];

/// What is to be changed; `None` for what stays.
#[derive(Default)]
struct Change {
    url: Option<String>,
    description: Option<String>,
    event_types: Option<Vec<String>>,
}

impl Handlers {
    pub(super) async fn update_webhook_endpoint(
        &self,
        caller: &Caller,
        message: pb::UpdateWebhookEndpointRequest,
    ) -> Result<Answer<pb::WebhookEndpoint>, Error> {
        let once = keyed::request(caller, METHOD, &message.request_id, || pb::UpdateWebhookEndpointRequest {
            request_id: String::new(),
            ..message.clone()
        });
        let asked = message.webhook_endpoint.ok_or(Error::InvalidField("webhook_endpoint"))?;
        let id =
            WebhookEndpointId::from_name(&asked.name).ok_or(Error::InvalidField("webhook_endpoint.name"))?;
        if asked.etag.is_empty() {
            return Err(Error::InvalidField("webhook_endpoint.etag"));
        }
        let change = self.change(&asked, message.update_mask.map(|mask| mask.paths))?;
        let now = self.acquiring.clock.now();
        let db = &self.acquiring.db;
        db.transaction("update_webhook_endpoint", async |conn: &mut AsyncPgConnection| {
            if let Some(response) = keyed::claim(conn, once.as_ref(), now).await? {
                return Ok(Answer::Replayed(response));
            }
            let mut endpoint = store::webhooks::lock(conn, id).await?;
            if endpoint.etag() != asked.etag {
                return Err(Error::EtagMismatch(id.name()));
            }
            let merchant = endpoint.merchant.as_ref().map(|merchant| format!("merchants/{merchant}"));
            if !asked.merchant.is_empty() && merchant.as_deref() != Some(asked.merchant.as_str()) {
                return Err(Error::InvalidField("webhook_endpoint.merchant"));
            }
            if let Some(url) = change.url.as_ref().filter(|url| **url != endpoint.url) {
                endpoint.url.clone_from(url);
                // The new one has not failed yet.
                endpoint.health = Health::default();
            }
            if let Some(description) = &change.description {
                endpoint.description.clone_from(description);
            }
            if let Some(event_types) = &change.event_types {
                endpoint.event_types.clone_from(event_types);
            }
            save(conn, &mut endpoint, now).await?;
            let response = messages::webhook_endpoint(&endpoint);
            keyed::complete(conn, once.as_ref(), &response, now).await?;
            Ok(Answer::New(response))
        })
        .await
    }

    /// Reads the mask. Without one, what is not empty changes.
    fn change(&self, asked: &pb::WebhookEndpoint, paths: Option<Vec<String>>) -> Result<Change, Error> {
        let mut change = Change::default();
        let implied = || {
            let set = [
                ("url", !asked.url.is_empty()),
                ("description", !asked.description.is_empty()),
                ("event_types", !asked.event_types.is_empty()),
            ];
            set.into_iter().filter(|(_, set)| *set).map(|(path, _)| path.to_owned()).collect()
        };
        let paths = paths.filter(|paths| !paths.is_empty()).unwrap_or_else(implied);
        for path in &paths {
            let all = path == "*";
            let wanted = |field: &str| all || path == field;
            if wanted("url") {
                change.url = Some(self.webhook_url(&asked.url)?);
            }
            if wanted("description") {
                change.description = Some(free_text(&asked.description, "webhook_endpoint.description")?);
            }
            if wanted("event_types") {
                change.event_types = Some(event_types(&asked.event_types, "webhook_endpoint.event_types")?);
            }
            let known = ["*", "url", "description", "event_types"].contains(&path.as_str())
                || PASSED_OVER.contains(&path.as_str());
            if !known {
                return Err(Error::InvalidField("update_mask"));
            }
        }
        Ok(change)
    }
}
