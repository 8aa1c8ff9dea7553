//! A request message in the client's form, turned into one of the upstream's.

use bytes::Bytes;

use super::gzip::Compression;
use crate::bind::{Binder, Source};
use crate::error::Problem;
use crate::grpc::{PREFIX_LEN, finish_frame};
use crate::json::parse::{self, ParseOptions};
use crate::route::rule::resolve;
use crate::service::{Entry, Shared};
use crate::violation::Violation;

/// How messages are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    Proto,
}

impl Codec {
    /// By the last part of a media type.
    pub(super) fn named(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("json") {
            Some(Self::Json)
        } else if name.eq_ignore_ascii_case("proto") {
            Some(Self::Proto)
        } else {
            None
        }
    }
}

/// The form of a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) codec: Codec,
    /// Of the messages that are flagged as compressed.
    pub(super) compression: Compression,
}

/// A gRPC frame with one message, to which the host's fields are added.
pub(super) fn frame(
    shared: &Shared,
    entry: &Entry,
    form: Form,
    compressed: bool,
    message: Bytes,
    limit: usize,
    fields: &[(String, String)],
) -> Result<Vec<u8>, Box<Problem>> {
    let message =
        if compressed { Bytes::from(form.compression.decompress(message, limit)?) } else { message };
    let mut out = Vec::with_capacity(PREFIX_LEN + message.len() + 16);
    out.resize(PREFIX_LEN, 0);
    fill(shared, entry, form.codec, &message, fields, &mut out)
        .map_err(|fault| Problem::violation(&fault))?;
    finish_frame(&mut out);
    Ok(out)
}

fn fill(
    shared: &Shared,
    entry: &Entry,
    codec: Codec,
    message: &[u8],
    fields: &[(String, String)],
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let tables = &shared.tables;
    let options = ParseOptions {
        ignore_unknown: shared.settings.ignore_unknown_fields,
        // A default in the message must be seen when it contradicts what the host sets.
        keep_defaults: !fields.is_empty(),
        depth_max: shared.settings.depth_max,
    };
    match codec {
        Codec::Proto => out.extend_from_slice(message),
        Codec::Json => {
            let text = str::from_utf8(message).map_err(|_| Violation::new("the message is not UTF-8"))?;
            parse::message(tables, entry.input, text, out, options)?;
        }
    }
    if fields.is_empty() {
        return Ok(());
    }
    let mut binder = Binder::new(tables, entry.input, 0, options);
    for (name, value) in fields {
        if let Some(field) = resolve(tables, entry.input, name) {
            binder.set(&field, name, value, Source::Given)?;
        }
    }
    binder.finish().join(tables, out, PREFIX_LEN)
}
