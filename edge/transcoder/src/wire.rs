//! The protobuf wire format: varints, tags and skipping, over plain byte slices.

/// The bytes are not a protobuf message, or not one of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const LEN: u8 = 2;
pub(crate) const START_GROUP: u8 = 3;
pub(crate) const END_GROUP: u8 = 4;
pub(crate) const FIXED32: u8 = 5;

/// Nesting beyond which a message from the upstream is refused.
pub(crate) const WIRE_DEPTH_MAX: usize = 120;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A length or a count as the 64 bits of the wire.
pub(crate) fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("usize has at most 64 bits")
}

pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, (u64::from(number) << 3) | u64::from(wire_type));
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, LEN);
    put_varint(out, wide(bytes.len()));
    out.extend_from_slice(bytes);
}

/// Leaves room for a length of one byte; [`close_len`] widens it when the content turns out longer.
pub(crate) fn open_len(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Writes the length of everything since `open` and returns where that content now begins.
pub(crate) fn close_len(out: &mut Vec<u8>, open: usize) -> usize {
    let length = wide(out.len() - open);
    if length < 0x80 {
        out[open - 1] = length.to_le_bytes()[0];
        return open;
    }
    let mut size = 1;
    let mut rest = length >> 7;
    while rest > 0 {
        size += 1;
        rest >>= 7;
    }
    let end = out.len();
    out.resize(end + size - 1, 0);
    out.copy_within(open..end, open + size - 1);
    let mut value = length;
    for slot in &mut out[open - 1..open - 1 + size] {
        *slot = value.to_le_bytes()[0] | 0x80;
        value >>= 7;
    }
    out[open + size - 2] &= 0x7f;
    open + size - 1
}

/// The low 32 bits, as the wire format asks for when a 32-bit field carries a wider varint.
pub(crate) fn low_u32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Reads a message from left to right.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// How many bytes have been read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        // Most are of one byte.
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        let mut shift = 0;
        loop {
            let Some(&byte) = self.bytes.get(self.at) else {
                return Err(Malformed("truncated varint"));
            };
            self.at += 1;
            if shift == 63 && byte > 1 {
                return Err(Malformed("varint longer than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// Field number and wire type.
    pub(crate) fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let raw = self.varint()?;
        let number = u32::try_from(raw >> 3).map_err(|_| Malformed("field number out of range"))?;
        if number == 0 || number > 0x1fff_ffff {
            return Err(Malformed("field number out of range"));
        }
        Ok((number, raw.to_le_bytes()[0] & 7))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed("length out of range"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("truncated field"))?;
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn fixed32(&mut self) -> Result<[u8; 4], Malformed> {
        let taken = self.take(4)?;
        Ok([taken[0], taken[1], taken[2], taken[3]])
    }

    pub(crate) fn fixed64(&mut self) -> Result<[u8; 8], Malformed> {
        let mut eight = [0; 8];
        eight.copy_from_slice(self.take(8)?);
        Ok(eight)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.varint()?).map_err(|_| Malformed("length out of range"))?;
        self.take(length)
    }

    /// The content of a group whose start tag has been read.
    pub(crate) fn group(&mut self, number: u32, depth: usize) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        loop {
            let before = self.at;
            let (inner, wire_type) = self.tag()?;
            if wire_type == END_GROUP {
                return if inner == number {
                    Ok(&self.bytes[start..before])
                } else {
                    Err(Malformed("group ended by another field"))
                };
            }
            self.skip(inner, wire_type, depth + 1)?;
        }
    }

    pub(crate) fn skip(&mut self, number: u32, wire_type: u8, depth: usize) -> Result<(), Malformed> {
        if depth > WIRE_DEPTH_MAX {
            return Err(Malformed("nested too deep"));
        }
        match wire_type {
            VARINT => self.varint().map(drop),
            FIXED64 => self.fixed64().map(drop),
            LEN => self.bytes().map(drop),
            START_GROUP => self.group(number, depth).map(drop),
            FIXED32 => self.fixed32().map(drop),
            _ => Err(Malformed("unknown wire type")),
        }
    }
}
