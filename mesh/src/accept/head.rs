//! A second look at the bytes of an HTTP/1.1 connection, ahead of hyper.
//!
//! hyper reads some requests that another reader in front of or behind us might read differently, which is how one request is smuggled in another
//! (RFC 9112, section 11.2): it takes a lone LF for the end of a line, prefers `Transfer-Encoding` to a `Content-Length` beside it, and has no opinion
//! on `Host`. [`Scanner`] follows the bytes from request to request and refuses those, and also what hyper would refuse in a way of its own, with an
//! answer that has nothing of ours. It decides nothing else: what it lets through, hyper parses.

use http::Uri;

use super::violation::Violation;

/// Most lines of a header, the request line included: hyper takes a hundred headers.
const LINES_MAX: usize = 101;

/// What became of the bytes that [`Scanner::scan`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// All of them may pass.
    All,
    /// That many may pass. With the rest a header begins whose end is not there: they are to be given again, with what follows.
    Upto(usize),
    /// That many may pass. With the rest a request begins that is refused.
    Refused(usize, Violation),
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    head_bytes_max: usize,
    /// Requests whose header was whole.
    requests: u64,
    /// Bytes of an unfinished header that need not be looked at again.
    seen: usize,
    head: Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// In a body with that many bytes to come.
    Body(u64),
    Chunk(Chunk),
    /// A body that hyper will refuse: whatever follows is no request.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// In the digits of a size.
    Size(u64),
    /// After the digits, before the LF.
    Extension(u64),
    /// In the data, with its CRLF.
    Data(u64),
    /// In the trailers, with the bytes of the line so far.
    Trailer(u64),
}

/// What the lines of a header have said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    lines: usize,
    http_1_0: bool,
    hosts: usize,
    length: Option<u64>,
    lengths: usize,
    chunked: bool,
}

impl Scanner {
    /// A scanner at the start of a connection.
    pub(super) fn new(head_bytes_max: usize) -> Self {
        Self { state: State::Head, head_bytes_max, requests: 0, seen: 0, head: Head::default() }
    }

    /// Whether a request may begin with the next byte, or has begun.
    pub(super) fn in_head(&self) -> bool {
        self.state == State::Head
    }

    /// How many requests have been let through.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// Looks at the next bytes.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Head => match self.head(rest) {
                    Ok(Some(length)) => at += length,
                    Ok(None) => return Scanned::Upto(at),
                    Err(violation) => return Scanned::Refused(at, violation),
                },
                State::Body(left) => {
                    let taken = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(left);
                    self.state = if taken == left { State::Head } else { State::Body(left - taken) };
                    at += usize::try_from(taken).unwrap_or(rest.len());
                }
                State::Chunk(chunk) => at += self.chunk(chunk, rest),
                State::Broken => return Scanned::All,
            }
        }
        Scanned::All
    }

    /// Reads a header from its first byte: its length when its end is there.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        while let Some(length) = memchr::memchr(b'\n', bytes.get(self.seen..).unwrap_or_default()) {
            let start = self.seen;
            self.seen += length + 1;
            if self.seen > self.head_bytes_max {
                return Err(self.too_large());
            }
            let line = bytes.get(start..start + length).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r").filter(|line| memchr::memchr(b'\r', line).is_none())
            else {
                return Err(Violation::Malformed("every line of the header must end with CRLF"));
            };
            if !line.is_empty() {
                self.head.line(line)?;
            } else if self.head.lines > 0 {
                // An empty line before the request line is skipped (RFC 9112, section 2.2).
                self.state = self.head.end()?;
                self.head = Head::default();
                self.requests += 1;
                return Ok(Some(std::mem::take(&mut self.seen)));
            }
        }
        if bytes.len() > self.head_bytes_max { Err(self.too_large()) } else { Ok(None) }
    }

    fn too_large(&self) -> Violation {
        if self.head.lines == 0 { Violation::TargetTooLong } else { Violation::HeaderTooLarge }
    }

    /// Follows a chunked body through the next bytes; how many of them it took.
    fn chunk(&mut self, chunk: Chunk, bytes: &[u8]) -> usize {
        let Some(first) = bytes.first() else { return 0 };
        let after_line = |size| if size == 0 { Chunk::Trailer(0) } else { Chunk::Data(size) };
        let (next, taken) = match chunk {
            Chunk::Size(size) => match char::from(*first).to_digit(16) {
                Some(digit) => match size.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)))
                {
                    Some(size) => (Chunk::Size(size), 1),
                    None => return self.broken(bytes),
                },
                None => (Chunk::Extension(size), 0),
            },
            Chunk::Extension(size) => match memchr::memchr(b'\n', bytes) {
                // The CRLF after the data counts as data.
                Some(end) => match size.checked_add(if size == 0 { 0 } else { 2 }) {
                    Some(size) => (after_line(size), end + 1),
                    None => return self.broken(bytes),
                },
                None => (Chunk::Extension(size), bytes.len()),
            },
            Chunk::Data(left) => {
                let taken = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(left);
                let next = if taken == left { Chunk::Size(0) } else { Chunk::Data(left - taken) };
                (next, usize::try_from(taken).unwrap_or(bytes.len()))
            }
            Chunk::Trailer(length) => match first {
                b'\n' if length == 0 => {
                    self.state = State::Head;
                    return 1;
                }
                b'\n' => (Chunk::Trailer(0), 1),
                b'\r' => (Chunk::Trailer(length), 1),
                _ => (Chunk::Trailer(length + 1), 1),
            },
        };
        self.state = State::Chunk(next);
        taken
    }

    fn broken(&mut self, bytes: &[u8]) -> usize {
        self.state = State::Broken;
        bytes.len()
    }
}

impl Head {
    fn line(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.lines += 1;
        if self.lines == 1 {
            return self.request_line(line);
        }
        if self.lines > LINES_MAX {
            return Err(Violation::HeaderTooLarge);
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(Violation::Malformed("a header line must not be folded"));
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            return Err(Violation::Malformed("a header line must have a colon"));
        };
        let (name, value) = line.split_at(colon);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Violation::Malformed(
                "the name of a header must be a token, with the colon right behind it",
            ));
        }
        // All of them rather than up to the first: that takes many at a time.
        if value.iter().fold(false, |found, byte| found | (*byte != b'\t' && byte.is_ascii_control())) {
            return Err(Violation::Malformed("the value of a header must not have control characters"));
        }
        // By length first: most names are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 {
                    return Err(Violation::Malformed("`Host` must be sent once"));
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                if self.lengths > 1 {
                    return Err(Violation::Malformed("`Content-Length` must be sent once"));
                }
                self.length = Some(
                    decimal(content(value))
                        .ok_or(Violation::Malformed("`Content-Length` must be a number of bytes"))?,
                );
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !content(value).eq_ignore_ascii_case(b"chunked") {
                    return Err(Violation::TransferEncodingUnknown);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads `GET /path HTTP/1.1`.
    fn request_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Violation::Malformed("the request line must be a method, a target and a version"));
        };
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return Err(Violation::Malformed("the method must be a token"));
        }
        let is_plain = target.starts_with(b"/")
            && target.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~:?&=%,+".contains(byte));
        if !is_plain && Uri::try_from(target).is_err() {
            return Err(Violation::Malformed("the target of the request must be a URI"));
        }
        self.http_1_0 = version == b"HTTP/1.0";
        if !self.http_1_0 && version != b"HTTP/1.1" {
            return Err(Violation::Malformed("the version must be `HTTP/1.1` or `HTTP/1.0`"));
        }
        Ok(())
    }

    /// What follows the header.
    fn end(&self) -> Result<State, Violation> {
        if self.chunked && self.lengths > 0 {
            return Err(Violation::Malformed(
                "`Content-Length` and `Transfer-Encoding` must not be sent together",
            ));
        }
        if self.chunked && self.http_1_0 {
            return Err(Violation::Malformed("HTTP/1.0 has no `Transfer-Encoding`"));
        }
        if self.hosts == 0 && !self.http_1_0 {
            return Err(Violation::Malformed("`Host` is missing"));
        }
        Ok(match self.length {
            _ if self.chunked => State::Chunk(Chunk::Size(0)),
            Some(0) | None => State::Head,
            Some(length) => State::Body(length),
        })
    }
}

/// Whether names of headers and methods may have this byte (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(&byte)
}

/// The value in what follows a name: without the colon and the blanks around.
fn content(value: &[u8]) -> &[u8] {
    value.strip_prefix(b":").unwrap_or(value).trim_ascii()
}

/// Digits only: `parse` alone would take a sign.
fn decimal(text: &[u8]) -> Option<u64> {
    let digits = Some(text).filter(|text| text.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
