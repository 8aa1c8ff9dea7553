//! `google.api.HttpBody`: a body that goes through as it is.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::error::Problem;
use crate::table::{Tables, Type};
use crate::wire::{self, Malformed, Reader, put_bytes};

const DEFAULT_TYPE: &str = "application/octet-stream";

/// Whether the message of this table index is a `google.api.HttpBody`.
pub(crate) fn is(tables: &Tables, index: usize) -> bool {
    &*tables.messages[index].name == "google.api.HttpBody"
}

/// Whether an answer is a `google.api.HttpBody`, which goes out as it is: the reply is one, or its field that the rule asks
/// for.
pub(crate) fn is_answer(tables: &Tables, output: usize, response: Option<usize>) -> bool {
    let Some(field) = response else { return is(tables, output) };
    let field = &tables.messages[output].fields[field];
    matches!(field.ty, Type::Message(index) if field.label.singular() && is(tables, index))
}

/// The message of [`is_answer`] in a reply: its field, whose occurrences merge, or all of it.
///
/// # Errors
///
/// 502 when the reply is malformed.
pub(crate) fn of_answer(
    tables: &Tables,
    output: usize,
    response: Option<usize>,
    reply: &Bytes,
) -> Result<Bytes, Box<Problem>> {
    let Some(field) = response else { return Ok(reply.clone()) };
    let wanted = tables.messages[output].fields[field].number;
    let malformed = |fault: Malformed| Problem::bad_gateway(format!("malformed reply: {}", fault.0));
    let mut found: Option<Bytes> = None;
    let mut reader = Reader::new(reply);
    while !reader.is_empty() {
        let (number, wire_type) = reader.tag().map_err(malformed)?;
        if number != wanted || wire_type != wire::LEN {
            reader.skip(number, wire_type, 0).map_err(malformed)?;
            continue;
        }
        let length = reader.bytes().map_err(malformed)?.len();
        let occurrence = reply.slice(reader.position() - length..reader.position());
        found = Some(match found {
            None => occurrence,
            Some(known) => [known, occurrence].concat().into(),
        });
    }
    Ok(found.unwrap_or_default())
}

/// The content type of a request whose body goes through as it is.
///
/// # Errors
///
/// The rule that it breaks.
pub(crate) fn content_type(headers: &HeaderMap) -> Result<&str, &'static str> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(DEFAULT_TYPE) };
    let text = value.to_str().ok().filter(|text| is_media_type(text) && values.next().is_none());
    text.ok_or("must be one media type, as `type/subtype; parameters`")
}

/// Of the messages of a stream, only the first has a content type.
pub(crate) fn encode(content_type: Option<&str>, data: &[u8], out: &mut Vec<u8>) {
    if let Some(content_type) = content_type {
        put_bytes(out, 1, content_type.as_bytes());
    }
    put_bytes(out, 2, data);
}

/// Content type and data of a reply.
pub(crate) fn decode(message: &Bytes) -> Result<(HeaderValue, Bytes), Box<Problem>> {
    parse(message).map_err(|malformed| Problem::bad_gateway(format!("malformed HttpBody: {}", malformed.0)))
}

/// Content type and data. The type must be one that a header may hold.
fn parse(message: &Bytes) -> Result<(HeaderValue, Bytes), Malformed> {
    let mut content_type: &[u8] = DEFAULT_TYPE.as_bytes();
    let mut data = Bytes::new();
    let mut reader = Reader::new(message);
    while !reader.is_empty() {
        match reader.tag()? {
            (1, wire::LEN) => {
                content_type =
                    Some(reader.bytes()?).filter(|value| !value.is_empty()).unwrap_or(content_type);
            }
            (2, wire::LEN) => {
                let length = reader.bytes()?.len();
                data = message.slice(reader.position() - length..reader.position());
            }
            (number, wire_type) => reader.skip(number, wire_type, 0)?,
        }
    }
    let text = str::from_utf8(content_type).ok().filter(|text| is_media_type(text));
    let header = text.and_then(|text| HeaderValue::from_str(text).ok());
    Ok((header.ok_or(Malformed("content type is not a media type"))?, data))
}

/// `type/subtype` of tokens, then parameters of visible characters.
///
/// Source: RFC 9110, section 8.3.1.
fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let (media, parameters) = text.split_once(';').unwrap_or((text, ""));
    media.trim_end().split_once('/').is_some_and(|(main, sub)| token(main) && token(sub))
        && parameters.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}
