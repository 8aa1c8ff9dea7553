//! Content codings: gzip and zstd, both ways.
//!
//! Source: RFC 9110, sections 8.4 and 12.5.3; RFC 1952 (gzip); RFC 8878 and RFC 9659 (zstd and its window).

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation as _};

use crate::accept::thousandths;
use crate::body::{Body, BoxError, poll_data};
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

/// The largest window that a zstd frame may ask a receiver to keep: 8 MiB.
///
/// Source: RFC 9659, section 3.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

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
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
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

/// How much of a gzip body is decoded at once, in bytes. Deflate grows its input 1,032 times at most, so a step makes at most
/// 264 KB.
const GZIP_STEP: usize = 256;

/// How much of a body is decoded before it is handed on, in bytes.
const STEP_BYTES: usize = 16 << 10;

enum Decoder {
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<ZstdDecoder<'static>>),
}

impl Decoder {
    fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }
}

/// The body of a request, decoded: each frame is at most [`STEP_BYTES`] and what one step makes, whatever the client packed
/// into how few bytes. It reads on only when it is read itself, so a limit on what comes out bounds the memory.
pub(crate) struct Decoded<B> {
    body: Pin<Box<B>>,
    decoder: Decoder,
    /// What has come and is not decoded yet.
    input: Bytes,
    /// Whether the decoder is between two whole parts, so that the body may end.
    whole: bool,
    /// Whether the decoder may hold output for which there was no room.
    more: bool,
    ended: bool,
}

/// A body that is not what its `Content-Encoding` says.
#[derive(Debug, thiserror::Error)]
#[error("the body is not what `Content-Encoding` says")]
struct Miscoded;

impl<B> Decoded<B> {
    pub(crate) fn new(coding: Coding, body: B) -> io::Result<Self> {
        let decoder = Decoder::new(coding)?;
        let input = Bytes::new();
        Ok(Self { body: Box::pin(body), decoder, input, whole: true, more: false, ended: false })
    }

    /// Decodes what has come, until it is used up or a frame is full.
    fn step(&mut self) -> io::Result<Vec<u8>> {
        match &mut self.decoder {
            Decoder::Gzip(decoder) => {
                self.whole = false;
                while !self.input.is_empty() && decoder.get_ref().len() < STEP_BYTES {
                    let slice = &self.input[..self.input.len().min(GZIP_STEP)];
                    let taken = decoder.write(slice)?;
                    if taken == 0 {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    self.input.advance(taken);
                    decoder.flush()?;
                }
                Ok(std::mem::take(decoder.get_mut()))
            }
            Decoder::Zstd(decoder) => {
                let mut out = vec![0; STEP_BYTES];
                let mut written = 0;
                while written < out.len() && (!self.input.is_empty() || self.more) {
                    let status = decoder.run_on_buffers(&self.input, &mut out[written..])?;
                    if status.bytes_read == 0 && status.bytes_written == 0 && !self.input.is_empty() {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    self.input.advance(status.bytes_read);
                    written += status.bytes_written;
                    self.whole = status.remaining == 0;
                    self.more = !self.whole && written == out.len();
                }
                out.truncate(written);
                Ok(out)
            }
        }
    }

    /// Checks that the end may come here; returns what the decoder still held.
    fn finish(&mut self) -> io::Result<Vec<u8>> {
        if self.whole {
            return Ok(Vec::new());
        }
        match &mut self.decoder {
            Decoder::Gzip(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Decoder::Zstd(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl<B> http_body::Body for Decoded<B>
where
    B: http_body::Body,
    B::Data: Buf,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let decoded = if !this.input.is_empty() || this.more {
                this.step()
            } else if this.ended {
                return Poll::Ready(None);
            } else {
                match ready!(poll_data(this.body.as_mut(), cx)) {
                    Some(Ok(data)) => {
                        this.input = data;
                        continue;
                    }
                    Some(Err(_)) => {
                        this.ended = true;
                        return Poll::Ready(Some(
                            Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
                        ));
                    }
                    None => {
                        this.ended = true;
                        this.finish()
                    }
                }
            };
            match decoded {
                Ok(decoded) if decoded.is_empty() => {}
                Ok(decoded) => return Poll::Ready(Some(Ok(Frame::data(Bytes::from(decoded))))),
                Err(_) => {
                    this.input.clear();
                    this.more = false;
                    this.ended = true;
                    return Poll::Ready(Some(Err(Box::new(Miscoded))));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
