//! The request message: body, path, host and query, in one buffer of wire bytes.

use http::request::Parts;

use crate::bind::Binder;
use crate::error::Problem;
use crate::grpc::{self, PREFIX_LEN};
use crate::http_body;
use crate::json::parse::{self, ParseOptions};
use crate::mask;
use crate::percent::{self, Keep};
use crate::query;
use crate::route::rule::{BodyRule, resolve};
use crate::service::{Place, Shared};
use crate::table::{Message, Type};
use crate::violation::Violation;
use crate::wire::{LEN, close_len, open_len, put_tag};

/// What a message is made of besides what is bound from elsewhere.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'b> {
    /// The body of the request; empty for none.
    Body(&'b [u8]),
    /// One message of a body that is a stream.
    Item { data: &'b [u8], first: bool },
}

/// A whole gRPC frame with the request message.
pub(crate) fn build(
    shared: &Shared,
    place: &Place<'_>,
    parts: &Parts,
    body: &[u8],
    presets: &[(String, String)],
) -> Result<Vec<u8>, Box<Problem>> {
    let mut out = Vec::with_capacity(body.len() + 64);
    append(shared, place, parts, Payload::Body(body), presets, &mut out)
        .map_err(|fault| Problem::violation(&fault))?;
    Ok(out)
}

/// Appends a whole gRPC frame; nothing when it fails.
pub(crate) fn append(
    shared: &Shared,
    place: &Place<'_>,
    parts: &Parts,
    payload: Payload<'_>,
    presets: &[(String, String)],
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let frame = out.len();
    out.resize(frame + PREFIX_LEN, 0);
    let filled = fill(shared, place, parts, payload, presets, out, frame + PREFIX_LEN);
    match filled {
        Ok(()) => grpc::finish_frame(&mut out[frame..]),
        Err(_) => out.truncate(frame),
    }
    filled
}

/// The message that the body is, or is a field's value of.
fn body_type(shared: &Shared, place: &Place<'_>) -> Option<usize> {
    match place.route.body {
        BodyRule::None => None,
        BodyRule::Whole => Some(place.entry.input),
        BodyRule::Field(field) => {
            let field = &shared.tables.messages[place.entry.input].fields[field];
            match field.ty {
                Type::Message(index) if field.label.singular() => Some(index),
                Type::Message(_) | Type::Group(_) | Type::Scalar(_) => None,
            }
        }
    }
}

/// Whether the body is a `google.api.HttpBody` and thus of any media type.
pub(crate) fn takes_raw(shared: &Shared, place: &Place<'_>) -> bool {
    body_type(shared, place).is_some_and(|index| http_body::is(&shared.tables, index))
}

fn fill(
    shared: &Shared,
    place: &Place<'_>,
    parts: &Parts,
    payload: Payload<'_>,
    presets: &[(String, String)],
    out: &mut Vec<u8>,
    start: usize,
) -> Result<(), Violation> {
    let (Payload::Body(body) | Payload::Item { data: body, .. }) = payload;
    let tables = &shared.tables;
    let input: &Message = &tables.messages[place.entry.input];
    let query_text = parts.uri.query().unwrap_or("");
    let options = ParseOptions {
        ignore_unknown: shared.settings.ignore_unknown_fields,
        // A default in the body must be seen when it contradicts what is bound from elsewhere.
        keep_defaults: !place.route.captures.is_empty() || !presets.is_empty() || !query_text.is_empty(),
        depth_max: shared.settings.depth_max,
    };
    let text = if takes_raw(shared, place) {
        put_raw(shared, place, parts, payload, out)?;
        None
    } else if body.is_empty() {
        None
    } else {
        let text = str::from_utf8(body).map_err(|_| Violation::new("the body is not UTF-8"))?;
        match place.route.body {
            BodyRule::None => {}
            BodyRule::Whole => parse::message(tables, place.entry.input, text, out, options)?,
            BodyRule::Field(field) => parse::field(tables, &input.fields[field], text, out, options)?,
        }
        Some(text)
    };

    let mut binder = Binder::new(tables, place.entry.input, out, start, options);
    let path = parts.uri.path();
    for capture in &place.route.captures {
        let raw = captured(place, path, capture.from, capture.to);
        let keep = if capture.multi { Keep::Reserved } else { Keep::Slash };
        let value = percent::decode(raw, keep, false).map_err(|rule| Violation::at(&capture.name, rule))?;
        binder.set(&capture.field, &capture.name, &value)?;
    }
    for (name, value) in presets {
        if let Some(field) = resolve(tables, place.entry.input, name) {
            binder.set(&field, name, value)?;
        }
    }
    if !query_text.is_empty() {
        if place.route.body == BodyRule::Whole && !shared.settings.ignore_unknown_query_parameters {
            return Err(Violation::new("the method takes no query parameters: all fields are in the body"));
        }
        if place.route.body != BodyRule::Whole {
            let ignore = shared.settings.ignore_unknown_query_parameters;
            query::bind(&mut binder, query_text, place.route.body_field(), ignore)?;
        }
    }
    if let (Some(text), Some(field), "PATCH") = (text, place.entry.update_mask, parts.method.as_str()) {
        add_mask(shared, place, text, field, out, start)?;
    }
    Ok(())
}

/// The raw text of a variable.
fn captured<'p>(place: &Place<'_>, path: &'p str, from: usize, to: Option<usize>) -> &'p str {
    let to = to.unwrap_or(place.segments.len());
    let Some(last) = to.checked_sub(1).filter(|last| *last >= from) else { return "" };
    let (start, end) = (place.segments[from].0, place.segments[last].1);
    let text = &path[start..end];
    if place.verb && last + 1 == place.segments.len() {
        text.rsplit_once(':').map_or(text, |(head, _)| head)
    } else {
        text
    }
}

/// Body of any media type, as a `google.api.HttpBody`.
fn put_raw(
    shared: &Shared,
    place: &Place<'_>,
    parts: &Parts,
    payload: Payload<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let (data, first) = match payload {
        Payload::Body([]) => return Ok(()),
        Payload::Body(body) => (body, true),
        Payload::Item { data, first } => (data, first),
    };
    let content_type = || {
        http_body::content_type(&parts.headers)
            .map_err(|rule| Violation::new(format!("the header `Content-Type` {rule}")))
    };
    let content_type = if first { Some(content_type()?) } else { None };
    match place.route.body {
        BodyRule::None => {}
        BodyRule::Whole => http_body::encode(content_type, data, out),
        BodyRule::Field(field) => {
            put_tag(out, shared.tables.messages[place.entry.input].fields[field].number, LEN);
            let open = open_len(out);
            http_body::encode(content_type, data, out);
            close_len(out, open);
        }
    }
    Ok(())
}

/// Adds the mask of the fields that the body of a PATCH has, unless the request brings a mask.
fn add_mask(
    shared: &Shared,
    place: &Place<'_>,
    text: &str,
    mask_field: usize,
    out: &mut Vec<u8>,
    start: usize,
) -> Result<(), Violation> {
    let tables = &shared.tables;
    let input = &tables.messages[place.entry.input];
    let number = input.fields[mask_field].number;
    let mut reader = crate::wire::Reader::new(&out[start..]);
    while !reader.is_empty() {
        let Ok((found, wire_type)) = reader.tag() else { return Ok(()) };
        if found == number || reader.skip(found, wire_type, 0).is_err() {
            return Ok(());
        }
    }
    let Some(index) = body_type(shared, place) else { return Ok(()) };
    // What the path binds says which resource is changed, and is no change itself.
    let mask = mask::of_body(tables, index, text, |field| {
        let bound: &[usize] = match place.route.body {
            BodyRule::Field(body) => &[body, field],
            BodyRule::Whole | BodyRule::None => &[field],
        };
        (place.route.body == BodyRule::Whole && field == mask_field)
            || place.route.captures.iter().any(|capture| capture.field == bound)
    })?;
    put_tag(out, number, LEN);
    let open = open_len(out);
    out.extend_from_slice(&mask);
    close_len(out, open);
    Ok(())
}
