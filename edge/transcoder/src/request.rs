//! The request message: body, path, host and query, in one buffer of wire bytes.

use http::request::Parts;

use crate::bind::{Binder, Bound, Source};
use crate::grpc::{self, PREFIX_LEN};
use crate::http_body;
use crate::json::parse::{self, ParseOptions};
use crate::mask;
use crate::percent::{self, Keep};
use crate::query;
use crate::route::rule::{BodyRule, Route, resolve};
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

/// Why a request with a body is refused where the rule has none.
pub(crate) const NO_BODY: &str = "the method takes no body";

fn options(shared: &Shared, keep_defaults: bool) -> ParseOptions {
    ParseOptions {
        ignore_unknown: shared.settings.ignore_unknown_fields,
        keep_defaults,
        depth_max: shared.settings.depth_max,
    }
}

/// What path, host and query say of every message of the request.
pub(crate) fn bind(
    shared: &Shared,
    place: &Place<'_>,
    parts: &Parts,
    presets: &[(String, String)],
) -> Result<Bound, Violation> {
    let tables = &shared.tables;
    let input = place.entry.input;
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or(""));
    let captures = &place.route.captures;
    let nothing = captures.is_empty() && presets.is_empty() && query.is_empty();
    let length = if nothing { 0 } else { path.len() + query.len() };
    let mut binder = Binder::new(tables, input, length, options(shared, true));
    for capture in captures {
        let raw = captured(place, path, capture.from, capture.to);
        let keep = if capture.multi { Keep::Reserved } else { Keep::Slash };
        let value = percent::decode(raw, keep, false).map_err(|rule| Violation::at(&capture.name, rule))?;
        binder.set(&capture.field, &capture.name, &value, Source::Given)?;
    }
    for (name, value) in presets {
        if let Some(field) = resolve(tables, input, name) {
            binder.set(&field, name, value, Source::Given)?;
        }
    }
    let ignore = shared.settings.ignore_unknown_query_parameters;
    if query.bytes().any(|byte| byte != b'&') {
        if place.route.body != BodyRule::Whole {
            query::bind(&mut binder, query, place.route.body_field(), ignore)?;
        } else if !ignore {
            return Err(Violation::new("the method takes no query parameters: all fields are in the body"));
        }
    }
    Ok(binder.finish())
}

/// A whole gRPC frame with the request message.
pub(crate) fn frame(
    shared: &Shared,
    route: &Route,
    parts: &Parts,
    body: &[u8],
    bound: &Bound,
) -> Result<Vec<u8>, Violation> {
    let mut out = Vec::with_capacity(PREFIX_LEN + body.len() + bound.len() + 16);
    append(shared, route, parts, Payload::Body(body), bound, &mut out)?;
    Ok(out)
}

/// Appends a whole gRPC frame; nothing when it fails.
pub(crate) fn append(
    shared: &Shared,
    route: &Route,
    parts: &Parts,
    payload: Payload<'_>,
    bound: &Bound,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let frame = out.len();
    out.resize(frame + PREFIX_LEN, 0);
    let filled = fill(shared, route, parts, payload, bound, out, frame + PREFIX_LEN);
    match filled {
        Ok(()) => grpc::finish_frame(&mut out[frame..]),
        Err(_) => out.truncate(frame),
    }
    filled
}

/// The message that the body is, or is a field's value of.
fn body_type(shared: &Shared, route: &Route) -> Option<usize> {
    let input = shared.entries[route.method].input;
    match route.body {
        BodyRule::None => None,
        BodyRule::Whole => Some(input),
        BodyRule::Field(field) => {
            let field = &shared.tables.messages[input].fields[field];
            field.ty.message().filter(|_| field.label.singular())
        }
    }
}

/// Whether the body is a `google.api.HttpBody` and thus of any media type.
pub(crate) fn takes_raw(shared: &Shared, route: &Route) -> bool {
    let grouped = |field: usize| {
        let input = shared.entries[route.method].input;
        matches!(shared.tables.messages[input].fields[field].ty, Type::Group(_))
    };
    body_type(shared, route).is_some_and(|index| http_body::is(&shared.tables, index))
        && !route.body_field().is_some_and(grouped)
}

fn fill(
    shared: &Shared,
    route: &Route,
    parts: &Parts,
    payload: Payload<'_>,
    bound: &Bound,
    out: &mut Vec<u8>,
    start: usize,
) -> Result<(), Violation> {
    let (Payload::Body(body) | Payload::Item { data: body, .. }) = payload;
    let tables = &shared.tables;
    let entry = &shared.entries[route.method];
    let input: &Message = &tables.messages[entry.input];
    let text = if takes_raw(shared, route) {
        put_raw(shared, route, parts, payload, out)?;
        None
    } else if body.is_empty() {
        None
    } else {
        let text = str::from_utf8(body).map_err(|_| Violation::new("the body is not UTF-8"))?;
        // A default in the body must be seen when it contradicts what is bound from elsewhere.
        let options = options(shared, !bound.is_empty());
        match route.body {
            BodyRule::None => {}
            BodyRule::Whole => parse::message(tables, entry.input, text, out, options)?,
            BodyRule::Field(field) => parse::field(tables, &input.fields[field], text, out, options)?,
        }
        Some(text)
    };
    bound.join(tables, out, start)?;
    if let (Some(text), Some(field), "PATCH") = (text, entry.update_mask, parts.method.as_str()) {
        add_mask(shared, route, text, field, out, start)?;
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
    route: &Route,
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
    match route.body {
        BodyRule::None => {}
        BodyRule::Whole => http_body::encode(content_type, data, out),
        BodyRule::Field(field) => {
            let input = shared.entries[route.method].input;
            put_tag(out, shared.tables.messages[input].fields[field].number, LEN);
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
    route: &Route,
    text: &str,
    mask_field: usize,
    out: &mut Vec<u8>,
    start: usize,
) -> Result<(), Violation> {
    let tables = &shared.tables;
    let input = &tables.messages[shared.entries[route.method].input];
    let number = input.fields[mask_field].number;
    let mut reader = crate::wire::Reader::new(&out[start..]);
    while !reader.is_empty() {
        let Ok((found, wire_type)) = reader.tag() else { return Ok(()) };
        if found == number || reader.skip(found, wire_type, 0).is_err() {
            return Ok(());
        }
    }
    let Some(index) = body_type(shared, route) else { return Ok(()) };
    // What the path binds says which resource is changed, and is no change itself.
    let mask = mask::of_body(tables, index, text, |field| {
        let bound: &[usize] = match route.body {
            BodyRule::Field(body) => &[body, field],
            BodyRule::Whole | BodyRule::None => &[field],
        };
        (route.body == BodyRule::Whole && field == mask_field)
            || route.captures.iter().any(|capture| capture.field == bound)
    })?;
    put_tag(out, number, LEN);
    let open = open_len(out);
    out.extend_from_slice(&mask);
    close_len(out, open);
    Ok(())
}
