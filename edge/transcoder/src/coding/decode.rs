//! Decoding, with bounds on what a coded body makes of memory and of work.
//!
//! Of a whole body the coded bytes are read first, within the limit of the body, and then decoded at once, within the same limit:
//! while a client is waited for, it holds no more than what it has sent. Of a stream a decoder is kept, whose window is bounded
//! by the limit of a message. What decodes to nothing, which needs no end, is bounded in both.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use flate2::write::GzDecoder;
use http_body::Frame;
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation as _};

use super::Coding;
use crate::body::{BoxError, poll_data};

/// How much of a gzip body is decoded at once, in bytes. Deflate grows its input 1,032 times at most, so a step makes at most
/// 264 KB.
const GZIP_STEP: usize = 256;

/// How much of a body is decoded before it is handed on, in bytes.
const STEP_BYTES: usize = 16 << 10;

/// The largest window that a zstd frame may ask a receiver to keep: 8 MiB.
///
/// Source: RFC 9659, section 3.
const WINDOW_LOG_MAX: u32 = 23;

/// The window that a stream may always ask for: 2 MiB, which is what encoders use unless they are told otherwise.
const STREAM_WINDOW_LOG: u32 = 21;

/// How many coded bytes may come without anything that they decode to: headers, skippable frames, empty blocks. A block of zstd,
/// which is decoded when it has come whole, has 128 KiB at most.
const NOTHING_BYTES_MAX: usize = 256 << 10;

/// How many members a gzip body may have at any rate, and how many decoded bytes allow for one more. Beginning a member costs as
/// much as decoding some kilobytes, and it takes 20 bytes.
const MEMBERS_FREE: usize = 256;
const MEMBER_BYTES: usize = 512;

/// A body that is not what its `Content-Encoding` says, or hardly anything but its coding.
#[derive(Debug, thiserror::Error)]
#[error("the body is not what `Content-Encoding` says")]
struct Miscoded;

/// Why a whole body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Miscoded,
    /// It decodes to more than the limit.
    TooLarge,
}

/// What `coded` stands for, which is at most `limit` bytes.
///
/// # Errors
///
/// [`Fault`]. No more is decoded than it takes to see it.
pub(crate) fn whole(coding: Coding, coded: Bytes, limit: usize) -> Result<Vec<u8>, Fault> {
    let mut decoding = Decoding::new(coding, WINDOW_LOG_MAX).map_err(|_| Fault::Miscoded)?;
    decoding.input = coded;
    let mut all = Vec::new();
    while decoding.has_work() {
        let step = decoding.step().map_err(|_| Fault::Miscoded)?;
        if step.len() > limit - all.len() {
            return Err(Fault::TooLarge);
        }
        all.extend_from_slice(&step);
    }
    let last = decoding.finish().map_err(|_| Fault::Miscoded)?;
    if last.len() > limit - all.len() {
        return Err(Fault::TooLarge);
    }
    all.extend_from_slice(&last);
    Ok(all)
}

enum Decoder {
    /// The member that is being read; `None` for an instant between two of them.
    Gzip(Option<Box<GzDecoder<Vec<u8>>>>),
    Zstd(Box<ZstdDecoder<'static>>),
}

struct Decoding {
    decoder: Decoder,
    /// What has come and is not decoded yet.
    input: Bytes,
    /// Whether the decoder is between two whole parts, so that the body may end.
    whole: bool,
    /// Whether the decoder may hold output for which there was no room.
    more: bool,
    /// How many bytes have been decoded.
    decoded: usize,
    /// How many coded bytes have come since something was decoded.
    fruitless: usize,
    /// Of gzip, how many have begun.
    members: usize,
}

impl Decoding {
    fn new(coding: Coding, window_log_max: u32) -> io::Result<Self> {
        let decoder = match coding {
            Coding::Gzip => Decoder::Gzip(Some(Box::new(GzDecoder::new(Vec::new())))),
            Coding::Zstd => {
                let mut decoder = ZstdDecoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(window_log_max))?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        let input = Bytes::new();
        Ok(Self { decoder, input, whole: true, more: false, decoded: 0, fruitless: 0, members: 1 })
    }

    fn has_work(&self) -> bool {
        !self.input.is_empty() || self.more
    }

    /// Decodes what has come, until it is used up or a frame is full.
    fn step(&mut self) -> io::Result<Vec<u8>> {
        let before = self.input.len();
        let Self { decoder, input, whole, more, decoded, members, .. } = self;
        let out = match decoder {
            Decoder::Gzip(decoder) => {
                *whole = false;
                gzip_step(decoder, input, || {
                    *members += 1;
                    *members <= MEMBERS_FREE + *decoded / MEMBER_BYTES
                })?
            }
            Decoder::Zstd(decoder) => {
                let mut out = vec![0; STEP_BYTES];
                let mut written = 0;
                while written < out.len() && (!input.is_empty() || *more) {
                    let status = decoder.run_on_buffers(input, &mut out[written..])?;
                    if status.bytes_read == 0 && status.bytes_written == 0 && !input.is_empty() {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    input.advance(status.bytes_read);
                    written += status.bytes_written;
                    *whole = status.remaining == 0;
                    *more = !*whole && written == out.len();
                }
                out.truncate(written);
                out
            }
        };
        self.decoded = self.decoded.saturating_add(out.len());
        self.fruitless = if out.is_empty() { self.fruitless + before - self.input.len() } else { 0 };
        if self.fruitless > NOTHING_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(out)
    }

    /// Checks that the end may come here; returns what the decoder still held.
    fn finish(&mut self) -> io::Result<Vec<u8>> {
        if self.whole {
            return Ok(Vec::new());
        }
        match &mut self.decoder {
            Decoder::Gzip(decoder) => match decoder.take() {
                Some(decoder) => decoder.finish(),
                None => Ok(Vec::new()),
            },
            Decoder::Zstd(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// As [`Decoding::step`]. `begin` says whether a further member may begin.
fn gzip_step(
    slot: &mut Option<Box<GzDecoder<Vec<u8>>>>,
    input: &mut Bytes,
    mut begin: impl FnMut() -> bool,
) -> io::Result<Vec<u8>> {
    let mut fresh = false;
    loop {
        let Some(decoder) = slot else { return Err(io::ErrorKind::InvalidData.into()) };
        if input.is_empty() || decoder.get_ref().len() >= STEP_BYTES {
            return Ok(std::mem::take(decoder.get_mut()));
        }
        let taken = decoder.write(&input[..input.len().min(GZIP_STEP)])?;
        if taken > 0 {
            input.advance(taken);
            decoder.flush()?;
            fresh = false;
            continue;
        }
        // The member is at its end, and another one follows.
        if fresh || !begin() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let out = slot.take().map_or_else(|| Ok(Vec::new()), |ended| ended.finish())?;
        *slot = Some(Box::new(GzDecoder::new(out)));
        fresh = true;
    }
}

/// The body of a stream, decoded: each frame is at most [`STEP_BYTES`] and what one step makes, whatever the client packed into
/// how few bytes. It reads on only when it is read itself, so a limit on what comes out bounds the memory.
pub(crate) struct Decoded<B> {
    body: Pin<Box<B>>,
    decoding: Decoding,
    ended: bool,
}

impl<B> Decoded<B> {
    /// Of a stream whose messages have at most `message_bytes_max` bytes.
    pub(crate) fn new(coding: Coding, body: B, message_bytes_max: usize) -> io::Result<Self> {
        // The window is held for as long as the client likes, as a message is of which a part has come.
        let log = usize::BITS - message_bytes_max.saturating_sub(1).leading_zeros();
        let decoding = Decoding::new(coding, log.clamp(STREAM_WINDOW_LOG, WINDOW_LOG_MAX))?;
        Ok(Self { body: Box::pin(body), decoding, ended: false })
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
            let decoded = if this.ended {
                return Poll::Ready(None);
            } else if this.decoding.has_work() {
                this.decoding.step()
            } else {
                match ready!(poll_data(this.body.as_mut(), cx)) {
                    Some(Ok(data)) => {
                        this.decoding.input = data;
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
                        this.decoding.finish()
                    }
                }
            };
            match decoded {
                Ok(decoded) if decoded.is_empty() => {}
                Ok(decoded) => return Poll::Ready(Some(Ok(Frame::data(Bytes::from(decoded))))),
                Err(_) => {
                    this.ended = true;
                    return Poll::Ready(Some(Err(Box::new(Miscoded))));
                }
            }
        }
    }
}
