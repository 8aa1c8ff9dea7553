//! Both codecs over random message types and random messages of them, in both directions.

use arbitrary::{Result, Unstructured};
use prost::Message as _;
use prost_reflect::DynamicMessage;

use super::subject::{Subject, reflected};
use super::{json_in, message, round_trip, schema, wire_in};

/// How many messages are made of each type.
const MESSAGES: usize = 4;

/// Data: what [`schema::random`] and [`message::random`] take; the rest is wire bytes that follow the message's own.
pub fn check(data: &[u8]) {
    // Bytes that end too early make no message, which is no find.
    let _ = checked(&mut Unstructured::new(data));
}

fn checked(bytes: &mut Unstructured<'_>) -> Result<()> {
    let Some(pool) = schema::random(bytes)? else { return Ok(()) };
    let Some(subject) = Subject::new(&pool, schema::ROOT) else { return Ok(()) };
    // Several messages, because compiling the type costs more than all of them.
    for _ in 0..MESSAGES {
        check_message(&subject, &message::random(&subject.descriptor, bytes, 0)?);
    }
    let rest = bytes.peek_bytes(bytes.len()).unwrap_or_default();
    wire_in::check_wire(&subject, rest);
    round_trip::check_wire(&subject, rest);
    Ok(())
}

fn check_message(subject: &Subject, message: &DynamicMessage) {
    let wire = message.encode_to_vec();
    wire_in::check_wire(subject, &wire);
    round_trip::check_wire(subject, &wire);
    if let Ok(json) = reflected(message) {
        json_in::check_text(subject, &json.to_string());
    }
    if let Ok(text) = subject.json_of(&wire) {
        json_in::check_text(subject, &text);
    }
}
