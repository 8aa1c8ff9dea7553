//! The messages of a streamed request body, told apart as its bytes come.

use bytes::Bytes;
use memchr::{memchr, memchr2};

/// How the messages of a body are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// NDJSON: one JSON text a line. Blank lines are skipped; the last line may lack its end.
    Lines,
    /// One JSON array; its elements are the messages.
    Array,
    /// Bytes of any kind; a message is what comes at once.
    Raw,
}

/// Why there is no next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The message is longer than the limit.
    TooLarge,
    /// The array is not one, in the words of a violation.
    Syntax(&'static str),
}

/// The largest message that is made of raw bytes, so that it fits the 4 MiB that gRPC servers take by default.
const RAW_BYTES_MAX: usize = 1 << 20;

/// Splits one body. It holds the part of one message at most besides what was pushed last.
#[derive(Debug)]
pub(crate) struct Splitter {
    form: Form,
    /// The largest message, in bytes of the body.
    limit: usize,
    /// What was pushed last, as far as it is not looked at.
    chunk: Bytes,
    /// A message of which only a part has come.
    partial: Vec<u8>,
    array: Array,
    /// Whether there was any message.
    some: bool,
}

/// Where in an array the splitter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Array {
    /// Before `[`.
    Start,
    /// Behind `[`.
    Open,
    /// Behind a comma.
    Comma,
    /// In an element, this many levels deep.
    Element(usize),
    /// In a string of an element.
    String(usize),
    /// Behind a backslash in a string.
    Escape(usize),
    /// Behind `]`.
    End,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

impl Splitter {
    pub(crate) fn new(form: Form, limit: usize) -> Self {
        Self { form, limit, chunk: Bytes::new(), partial: Vec::new(), array: Array::Start, some: false }
    }

    /// Gives more of the body, once [`Self::next`] found no more in what was given before.
    pub(crate) fn push(&mut self, data: Bytes) {
        self.chunk = data;
    }

    /// Whether the body stands within a message.
    pub(crate) fn inside(&self) -> bool {
        !self.partial.is_empty() || self.form == Form::Raw
    }

    /// The next message that has come whole.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let found = match self.form {
            Form::Lines => self.line(),
            Form::Array => self.element(),
            Form::Raw => {
                let length = self.chunk.len().min(self.limit.clamp(1, RAW_BYTES_MAX));
                Ok((length > 0).then(|| self.chunk.split_to(length)))
            }
        };
        self.some |= matches!(found, Ok(Some(_)));
        found
    }

    /// The message that the end of the body completes. Of raw bytes there is one message at least.
    pub(crate) fn finish(&mut self) -> Result<Option<Bytes>, Fault> {
        match self.form {
            Form::Lines if self.partial.iter().copied().all(is_space) => Ok(None),
            Form::Lines => Ok(Some(Bytes::from(std::mem::take(&mut self.partial)))),
            // No body at all is no message at all.
            Form::Array if matches!(self.array, Array::Start | Array::End) => Ok(None),
            Form::Array => Err(Fault::Syntax("JSON ends too early, expected the end of the array")),
            Form::Raw => Ok((!self.some).then(Bytes::new)),
        }
    }

    fn line(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let Some(end) = memchr(b'\n', &self.chunk) else {
                self.keep(self.chunk.len())?;
                return Ok(None);
            };
            let line = self.take(end)?;
            bytes::Buf::advance(&mut self.chunk, 1);
            if !line.iter().copied().all(is_space) {
                return Ok(Some(line));
            }
        }
    }

    fn element(&mut self) -> Result<Option<Bytes>, Fault> {
        let mut at = 0;
        while let Some(&byte) = self.chunk.get(at) {
            match (self.array, byte) {
                (Array::Start | Array::Open | Array::Comma | Array::End, space) if is_space(space) => {}
                (Array::Start, b'[') => self.array = Array::Open,
                (Array::Start, _) => return Err(Fault::Syntax("must be an element of a JSON array")),
                (Array::Open, b']') => self.array = Array::End,
                (Array::Open | Array::Comma, b',' | b']') => {
                    return Err(Fault::Syntax("invalid JSON: expected a value"));
                }
                (Array::Open | Array::Comma, _) => {
                    // The element begins here, and this byte is part of it.
                    bytes::Buf::advance(&mut self.chunk, at);
                    at = 0;
                    self.array = Array::Element(0);
                    continue;
                }
                (Array::Element(0), b',') => {
                    self.array = Array::Comma;
                    return self.take_element(at);
                }
                (Array::Element(0), b']') => {
                    self.array = Array::End;
                    return self.take_element(at);
                }
                (Array::Element(depth), b'"') | (Array::Escape(depth), _) => {
                    self.array = Array::String(depth);
                }
                (Array::Element(depth), b'{' | b'[') => self.array = Array::Element(depth + 1),
                (Array::Element(depth), b'}' | b']') => self.array = Array::Element(depth.saturating_sub(1)),
                (Array::Element(_), _) => {}
                (Array::String(depth), _) => {
                    let Some(next) = memchr2(b'"', b'\\', &self.chunk[at..]) else { break };
                    at += next;
                    self.array =
                        if self.chunk[at] == b'"' { Array::Element(depth) } else { Array::Escape(depth) };
                }
                (Array::End, _) => {
                    return Err(Fault::Syntax("invalid JSON: expected nothing after the array"));
                }
            }
            at += 1;
        }
        match self.array {
            Array::Element(_) | Array::String(_) | Array::Escape(_) => self.keep(self.chunk.len())?,
            Array::Start | Array::Open | Array::Comma | Array::End => self.chunk.clear(),
        }
        Ok(None)
    }

    /// The element that ends at `end` of the chunk, and the mark behind it gone.
    fn take_element(&mut self, end: usize) -> Result<Option<Bytes>, Fault> {
        let element = self.take(end)?;
        bytes::Buf::advance(&mut self.chunk, 1);
        Ok(Some(element))
    }

    /// The message that ends at `end` of the chunk: a slice of it when it began there.
    fn take(&mut self, end: usize) -> Result<Bytes, Fault> {
        if self.partial.is_empty() {
            if end > self.limit {
                return Err(Fault::TooLarge);
            }
            return Ok(self.chunk.split_to(end));
        }
        self.keep(end)?;
        Ok(Bytes::from(std::mem::take(&mut self.partial)))
    }

    /// Moves the first bytes of the chunk to the part of a message.
    fn keep(&mut self, length: usize) -> Result<(), Fault> {
        if self.partial.len() + length > self.limit {
            return Err(Fault::TooLarge);
        }
        self.partial.extend_from_slice(&self.chunk.split_to(length));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
