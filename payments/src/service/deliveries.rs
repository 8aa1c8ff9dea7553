//! Deliveries: what became of them, and once more.

use diesel_async::AsyncPgConnection;
use mesh::{
    clock::from_proto,
    pagination::{PageToken, page_size},
    server::open,
};
use proto::payments::v1::{self as pb, delivery_service_server::DeliveryService};
use tonic::{Request, Response, Status};

use super::{
    Handlers,
    keyed::{self, Answer},
    messages,
    reads::page,
};
use crate::{
    domain::webhook::{Delivery, EventId, State, Trigger, WebhookEndpointId, is_event_type},
    error::Error,
    store::{
        self,
        webhooks::deliveries::{Filter, Range},
    },
};

const REDELIVER: &str = "/jetway.payments.v1.DeliveryService/RedeliverDelivery";
const REPLAY: &str = "/jetway.payments.v1.DeliveryService/ReplayDeliveries";

/// Events that one call delivers once more.
const REPLAY_MAX: usize = 10_000;

#[tonic::async_trait]
impl DeliveryService for Handlers {
    async fn list_deliveries(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> Result<Response<pb::ListDeliveriesResponse>, Status> {
        let (_, message) = open(request)?;
        let mut filter = filter(&message.filter).ok_or(Error::InvalidField("filter"))?;
        if message.parent != "webhookEndpoints/-" {
            filter.endpoint = Some(parent(&message.parent)?);
        }
        let query = format!("{}\n{}", message.parent, message.filter);
        let after = PageToken::decode(&message.page_token, query.as_bytes())
            .map_err(|_| Error::InvalidField("page_token"))?;
        let size = page_size(message.page_size);
        let mut conn = self.acquiring.db.connection().await.map_err(Error::from)?;
        if let Some(endpoint) = filter.endpoint {
            store::webhooks::get(&mut conn, endpoint).await?;
        }
        let found = store::webhooks::deliveries::list(&mut conn, &filter, after, size + 1).await?;
        let (found, next_page_token) =
            page(found, size, |delivery| PageToken::encode(&delivery.id, query.as_bytes()));
        let deliveries = found.iter().map(messages::delivery).collect();
        Ok(Response::new(pb::ListDeliveriesResponse { deliveries, next_page_token }))
    }

    async fn redeliver_delivery(
        &self,
        request: Request<pb::RedeliverDeliveryRequest>,
    ) -> Result<Response<pb::Delivery>, Status> {
        let (caller, message) = open(request)?;
        let (endpoint, id) = Delivery::parse_name(&message.name).ok_or(Error::InvalidField("name"))?;
        let once = keyed::request(&caller, REDELIVER, &message.request_id, || pb::RedeliverDeliveryRequest {
            request_id: String::new(),
            ..message.clone()
        });
        let now = self.acquiring.clock.now();
        let db = &self.acquiring.db;
        db.transaction("redeliver_delivery", async |conn: &mut AsyncPgConnection| {
            if let Some(response) = keyed::claim(conn, once.as_ref(), now).await? {
                return Ok(Answer::Replayed(response));
            }
            enabled(conn, endpoint).await?;
            let old = store::webhooks::deliveries::get(conn, endpoint, id).await?;
            let new = Delivery::new(endpoint, old.event, &old.event_type, Trigger::Redelivery, now);
            store::webhooks::deliveries::insert(conn, &new).await?;
            let response = messages::delivery(&new);
            keyed::complete(conn, once.as_ref(), &response, now).await?;
            Ok::<_, Error>(Answer::New(response))
        })
        .await?
        .response()
    }

    async fn replay_deliveries(
        &self,
        request: Request<pb::ReplayDeliveriesRequest>,
    ) -> Result<Response<pb::ReplayDeliveriesResponse>, Status> {
        let (caller, message) = open(request)?;
        let endpoint = parent(&message.parent)?;
        let once = keyed::request(&caller, REPLAY, &message.request_id, || pb::ReplayDeliveriesRequest {
            request_id: String::new(),
            ..message.clone()
        });
        let now = self.acquiring.clock.now();
        let from = message.start_time.and_then(from_proto).ok_or(Error::InvalidField("start_time"))?;
        let to = match message.end_time {
            Some(time) => from_proto(time).ok_or(Error::InvalidField("end_time"))?,
            None => now,
        };
        if to < from {
            return Err(Error::InvalidField("end_time").into());
        }
        if !message.event_types.iter().all(|text| is_event_type(text)) {
            return Err(Error::InvalidField("event_types").into());
        }
        let range = Range { endpoint, from, to, event_types: &message.event_types };
        let db = &self.acquiring.db;
        db.transaction("replay_deliveries", async |conn: &mut AsyncPgConnection| {
            if let Some(response) = keyed::claim(conn, once.as_ref(), now).await? {
                return Ok(Answer::Replayed(response));
            }
            enabled(conn, endpoint).await?;
            let limit = i64::try_from(REPLAY_MAX).unwrap_or(i64::MAX);
            let replayed = store::webhooks::deliveries::replay(conn, &range, limit + 1, now).await?;
            if replayed > REPLAY_MAX {
                return Err(Error::ReplayTooLarge(endpoint));
            }
            let delivery_count = i32::try_from(replayed).unwrap_or(i32::MAX);
            let response = pb::ReplayDeliveriesResponse { delivery_count };
            keyed::complete(conn, once.as_ref(), &response, now).await?;
            Ok(Answer::New(response))
        })
        .await?
        .response()
    }
}

/// Locks an endpoint, which must not be disabled.
async fn enabled(conn: &mut AsyncPgConnection, id: WebhookEndpointId) -> Result<(), Error> {
    match store::webhooks::lock(conn, id).await?.state {
        State::Enabled => Ok(()),
        State::Disabled(_) => Err(Error::WebhookEndpointDisabled(id)),
    }
}

fn parent(name: &str) -> Result<WebhookEndpointId, Error> {
    WebhookEndpointId::from_name(name).ok_or(Error::InvalidField("parent"))
}

/// Reads a filter: `field = value`, the value with or without quotes, joined by `AND`. `None` for anything else.
fn filter(text: &str) -> Option<Filter> {
    let mut filter = Filter::default();
    if text.trim().is_empty() {
        return Some(filter);
    }
    for term in text.split(" AND ") {
        let (field, value) = term.split_once('=')?;
        let value = value.trim();
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => value,
        };
        let repeated = match field.trim() {
            "state" => {
                let state = ["PENDING", "SUCCEEDED", "DEAD"].into_iter().find(|state| *state == value)?;
                filter.state.replace(state).is_some()
            }
            "event_type" => filter.event_type.replace(word(value)?).is_some(),
            "event" => filter.event.replace(EventId::from_name(value)?).is_some(),
            _ => return None,
        };
        if repeated {
            return None;
        }
    }
    Some(filter)
}

/// The type of an event, as one is written.
fn word(value: &str) -> Option<String> {
    let is_word = value.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'.'));
    (is_word && !value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_terms_joined_by_and() {
        let event = EventId::generate();
        let text = format!(r#"state = DEAD AND event_type="refund.failed" AND event = "{}""#, event.name());
        let read = filter(&text).unwrap();

        assert_eq!(read.state, Some("DEAD"));
        assert_eq!(read.event_type.as_deref(), Some("refund.failed"));
        assert_eq!(read.event, Some(event));
        assert!(filter("  ").unwrap().state.is_none());
    }

    #[test]
    fn what_a_filter_cannot_say_is_refused() {
        for text in [
            "state",
            "state = LOST",
            "state = DEAD OR state = PENDING",
            "state = DEAD AND state = PENDING",
            "NOT state = DEAD",
            "state != DEAD",
            "attempts = 3",
            "event_type = \"refund.failed",
            "event_type = ",
            "event = events/1",
            "AND",
        ] {
            assert!(filter(text).is_none(), "{text}");
        }
    }
}
