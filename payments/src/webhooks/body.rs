//! What an event looks like to its receivers. Thin: ids, states and amounts; never anything of a card.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{domain::webhook::EventId, store::webhooks::deliveries::Message};

/// The version of everything below.
const API_VERSION: &str = "v1";

#[derive(Serialize)]
struct Envelope<'a> {
    id: String,
    r#type: &'a str,
    api_version: &'a str,
    created: String,
    sequence: i64,
    resource: &'a str,
    data: Data<'a>,
    request: Request<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    object: &'a Value,
    previous_attributes: Map<String, Value>,
}

#[derive(Serialize)]
struct Request<'a> {
    id: &'a str,
    idempotency_key: Option<&'a str>,
}

/// The body of an event: the same in every attempt, because nothing of what it is made of ever changes.
pub(crate) fn of(event: EventId, message: &Message) -> String {
    let envelope = Envelope {
        id: event.to_string(),
        r#type: &message.event_type,
        api_version: API_VERSION,
        created: message.occurred_at().to_string(),
        sequence: message.version,
        // The name of what it happened to stands under its own kind.
        resource: message.payload.get(&message.aggregate_type).and_then(Value::as_str).unwrap_or_default(),
        data: Data {
            object: &message.payload,
            previous_attributes: previous(&message.payload, message.previous.as_ref()),
        },
        request: Request { id: &message.request_id, idempotency_key: message.idempotency_key.as_deref() },
    };
    serde_json::to_string(&envelope).expect("an envelope has string keys")
}

/// What was otherwise before: the former values of attributes that have changed, `null` for one that was not there.
fn previous(payload: &Value, before: Option<&Value>) -> Map<String, Value> {
    let (Some(Value::Object(before)), Value::Object(payload)) = (before, payload) else {
        return Map::new();
    };
    payload
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value))
        .map(|(key, _)| (key.clone(), before.get(key).cloned().unwrap_or(Value::Null)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn previous_attributes_are_the_former_values_of_what_has_changed() {
        let before = json!({ "state": "PENDING", "amount_minor": "5" });
        let after = json!({ "state": "SUCCEEDED", "amount_minor": "5", "reason": "x" });

        assert_eq!(
            Value::Object(previous(&after, Some(&before))),
            json!({ "state": "PENDING", "reason": null })
        );
        assert_eq!(previous(&after, None), Map::new());
    }
}
