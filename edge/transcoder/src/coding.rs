//! Content codings: gzip and zstd, both ways.
//!
//! Source: RFC 9110, sections 8.4 and 12.5.3; RFC 1952 (gzip); RFC 8878 and RFC 9659 (zstd and its window).

pub(crate) mod decode;

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;

use crate::accept::thousandths;
use crate::body::{Body, BoxError};
use crate::error::Problem;

/// What a body is coded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
}

/// The codings that requests may have, as a 415 names them.
pub(crate) const TAKEN: &str = "gzip, zstd, identity";

/// Answers shorter than this go out as they are, in bytes: a coding would hardly shorten them.
pub(crate) const PLAIN_BYTES_MAX: usize = 1024;

/// For answers made on the fly, speed counts for more than the last per cent.
const GZIP_LEVEL: u32 = 3;
const ZSTD_LEVEL: i32 = 1;

/// The window of a streamed answer in zstd: 128 KiB. An encoder then has 240 KB instead of 630, as the one of gzip has 340, and
/// codes JSON 4 % worse.
const STREAM_WINDOW_LOG: u32 = 17;

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// What the body of a request is coded with.
    ///
    /// # Errors
    ///
    /// 415 for another coding, for several on top of each other, and for any when `decodes` is false.
    pub(crate) fn of_request(headers: &HeaderMap, decodes: bool) -> Result<Option<Self>, Box<Problem>> {
        let mut found = None;
        for value in headers.get_all(CONTENT_ENCODING) {
            let text = value.to_str().map_err(|_| Problem::unsupported_coding(decodes))?;
            for name in text.split(',').map(str::trim) {
                let coding = if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                    continue;
                } else if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                    Self::Gzip
                } else if name.eq_ignore_ascii_case("zstd") {
                    Self::Zstd
                } else {
                    return Err(Problem::unsupported_coding(decodes));
                };
                if !decodes || found.replace(coding).is_some() {
                    return Err(Problem::unsupported_coding(decodes));
                }
            }
        }
        Ok(found)
    }

    /// What the client would like an answer to be coded with; `None` for not at all.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Option<Self> {
        if !headers.contains_key(ACCEPT_ENCODING) {
            return None;
        }
        // Named, else by `*`, in thousandths.
        let (mut gzip, mut zstd, mut identity, mut any) = (None, None, None, None);
        for value in headers.get_all(ACCEPT_ENCODING) {
            let Ok(text) = value.to_str() else { continue };
            for choice in text.split(',') {
                let mut parts = choice.split(';').map(str::trim);
                let name = parts.next().unwrap_or("");
                let quality = parts
                    .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                    .map_or(1000, thousandths);
                let slot = if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                    &mut gzip
                } else if name.eq_ignore_ascii_case("zstd") {
                    &mut zstd
                } else if name.eq_ignore_ascii_case("identity") {
                    &mut identity
                } else if name == "*" {
                    &mut any
                } else {
                    continue;
                };
                *slot = Some(quality);
            }
        }
        let (gzip, zstd) = (gzip.or(any).unwrap_or(0), zstd.or(any).unwrap_or(0));
        let (coding, quality) = if zstd >= gzip { (Self::Zstd, zstd) } else { (Self::Gzip, gzip) };
        (quality > 0 && identity.is_none_or(|identity| quality >= identity)).then_some(coding)
    }
}

/// Whether a body of this media type shrinks: text and what is made of text. Images, archives and the like are
/// compressed already.
fn shrinks(content_type: &HeaderValue) -> bool {
    let Ok(text) = content_type.to_str() else { return false };
    let media = text.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let Some((main, sub)) = media.split_once('/') else { return false };
    match main {
        "text" => true,
        "application" | "image" | "model" | "message" | "multipart" => {
            sub.ends_with("+json")
                || sub.ends_with("+xml")
                || sub.ends_with("+yaml")
                || (main == "application"
                    && matches!(
                        sub,
                        "json"
                            | "x-ndjson"
                            | "xml"
                            | "yaml"
                            | "javascript"
                            | "graphql"
                            | "wasm"
                            | "sql"
                            | "rtf"
                    ))
        }
        _ => false,
    }
}

/// The coding for an answer with these headers, which are told of the choice: `None` leaves it as it is.
fn choose(request: &HeaderMap, answer: &mut HeaderMap) -> Option<Coding> {
    if answer.contains_key(CONTENT_ENCODING) || !answer.get(CONTENT_TYPE).is_some_and(shrinks) {
        return None;
    }
    answer.append(VARY, HeaderValue::from_static("accept-encoding"));
    let coding = Coding::of_answer(request)?;
    answer.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    Some(coding)
}

/// Codes a whole body of at least [`PLAIN_BYTES_MAX`] bytes when the client likes it so, and says so in `answer`.
pub(crate) fn whole(request: &HeaderMap, answer: &mut HeaderMap, body: Bytes) -> Bytes {
    let Some(coding) = choose(request, answer) else { return body };
    let coded = match coding {
        Coding::Gzip => {
            let mut encoder =
                GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::new(GZIP_LEVEL));
            encoder.write_all(&body).and_then(|()| encoder.finish())
        }
        Coding::Zstd => zstd::bulk::compress(&body, ZSTD_LEVEL),
    };
    if let Ok(coded) = coded {
        return Bytes::from(coded);
    }
    // Memory for the coder could not be had: the answer is as good without.
    answer.remove(CONTENT_ENCODING);
    body
}

/// Codes a streamed body, chunk by chunk, when the client likes it so, and says so in `answer`.
pub(crate) fn stream(request: &HeaderMap, answer: &mut HeaderMap, body: Body) -> Body {
    let Some(coding) = choose(request, answer) else { return body };
    let Ok(encoder) = Encoder::new(coding) else {
        answer.remove(CONTENT_ENCODING);
        return body;
    };
    Body::stream(Encoded { body, encoder: Some(encoder), trailers: None })
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(STREAM_WINDOW_LOG)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// The coded form of `data`, flushed, so that the receiver can decode all of it.
    fn code(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => {
                encoder.write_all(data)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Zstd(encoder) => {
                encoder.write_all(data)?;
                encoder.flush()?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// A streamed answer, coded.
struct Encoded {
    body: Body,
    /// `None` once the end was written.
    encoder: Option<Encoder>,
    /// Held back until the end of the coded data is written.
    trailers: Option<Frame<Bytes>>,
}

impl http_body::Body for Encoded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.encoder.is_none() {
                return Poll::Ready(self.trailers.take().map(Ok));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame.into_data(),
                // Broken off: without its end, the coded data cannot be taken for whole either.
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => Err(Frame::trailers(HeaderMap::new())),
            };
            let coded = match frame {
                Ok(data) => match &mut self.encoder {
                    Some(encoder) => encoder.code(&data),
                    None => return Poll::Ready(None),
                },
                Err(trailers) => {
                    self.trailers = Some(trailers)
                        .filter(|frame| frame.trailers_ref().is_some_and(|trailers| !trailers.is_empty()));
                    match self.encoder.take() {
                        Some(encoder) => encoder.finish(),
                        None => return Poll::Ready(None),
                    }
                }
            };
            match coded {
                Ok(coded) if coded.is_empty() => {}
                Ok(coded) => return Poll::Ready(Some(Ok(Frame::data(Bytes::from(coded))))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

#[cfg(test)]
mod tests;
