//! Scalars, written.

use super::encode::{Encoder, NOT_UTF8, WRONG_WIRE_TYPE};
use super::escape::{put_base64, put_utf8};
use crate::table::Scalar;
use crate::wire::{self, Malformed, Reader};

impl Encoder<'_, '_> {
    /// A scalar; true when it is the default.
    pub(super) fn scalar(
        &mut self,
        scalar: Scalar,
        wire_type: u8,
        reader: &mut Reader<'_>,
    ) -> Result<bool, Malformed> {
        if wire_type != scalar.wire_type() {
            return Err(WRONG_WIRE_TYPE);
        }
        match scalar {
            Scalar::Double => {
                let value = f64::from_le_bytes(reader.fixed64()?);
                self.double(value);
                Ok(value.to_bits() == 0)
            }
            Scalar::Float => {
                let value = f32::from_le_bytes(reader.fixed32()?);
                if value.is_finite() {
                    self.put_float(value);
                } else {
                    self.double(f64::from(value));
                }
                Ok(value.to_bits() == 0)
            }
            Scalar::Int32 => {
                let value = wire::low_u32(reader.varint()?).cast_signed();
                self.put(value);
                Ok(value == 0)
            }
            Scalar::Uint32 => {
                let value = wire::low_u32(reader.varint()?);
                self.put(value);
                Ok(value == 0)
            }
            Scalar::Sint32 => {
                let low = u64::from(wire::low_u32(reader.varint()?));
                let value = wire::unzigzag(low);
                self.put(value);
                Ok(value == 0)
            }
            Scalar::Fixed32 => {
                let value = u32::from_le_bytes(reader.fixed32()?);
                self.put(value);
                Ok(value == 0)
            }
            Scalar::Sfixed32 => {
                let value = i32::from_le_bytes(reader.fixed32()?);
                self.put(value);
                Ok(value == 0)
            }
            Scalar::Int64 => {
                let value = reader.varint()?.cast_signed();
                self.put_quoted(value);
                Ok(value == 0)
            }
            Scalar::Uint64 => {
                let value = reader.varint()?;
                self.put_quoted(value);
                Ok(value == 0)
            }
            Scalar::Sint64 => {
                let value = wire::unzigzag(reader.varint()?);
                self.put_quoted(value);
                Ok(value == 0)
            }
            Scalar::Fixed64 => {
                let value = u64::from_le_bytes(reader.fixed64()?);
                self.put_quoted(value);
                Ok(value == 0)
            }
            Scalar::Sfixed64 => {
                let value = i64::from_le_bytes(reader.fixed64()?);
                self.put_quoted(value);
                Ok(value == 0)
            }
            Scalar::Bool => {
                let value = reader.varint()? != 0;
                self.out.extend_from_slice(if value { b"true" } else { b"false" });
                Ok(!value)
            }
            Scalar::String => {
                let bytes = reader.bytes()?;
                if put_utf8(self.out, bytes) { Ok(bytes.is_empty()) } else { Err(NOT_UTF8) }
            }
            Scalar::Bytes => {
                let bytes = reader.bytes()?;
                put_base64(self.out, bytes);
                Ok(bytes.is_empty())
            }
            Scalar::Enum(index) => {
                let number = wire::low_u32(reader.varint()?).cast_signed();
                self.put_enum(index, number);
                Ok(number == self.tables.enums[index].default)
            }
        }
    }

    pub(super) fn double(&mut self, value: f64) {
        if value.is_finite() {
            self.put_float(value);
        } else if value.is_nan() {
            self.out.extend_from_slice(b"\"NaN\"");
        } else if value > 0.0 {
            self.out.extend_from_slice(b"\"Infinity\"");
        } else {
            self.out.extend_from_slice(b"\"-Infinity\"");
        }
    }

    fn put_enum(&mut self, index: usize, number: i32) {
        let table = &self.tables.enums[index];
        if table.null {
            self.out.extend_from_slice(b"null");
            return;
        }
        match table.name(number) {
            Some(name) if !self.options.enums_as_ints => {
                self.out.push(b'"');
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'"');
            }
            _ => self.put(number),
        }
    }

    fn put(&mut self, number: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// A finite number, by the shortest text that reads back the same.
    fn put_float(&mut self, number: impl zmij::Float) {
        self.out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    }

    /// 64-bit integers are strings in `ProtoJSON`, because JavaScript's numbers cannot hold them.
    fn put_quoted(&mut self, number: impl itoa::Integer) {
        self.out.push(b'"');
        self.put(number);
        self.out.push(b'"');
    }

    pub(super) fn put_default(&mut self, scalar: Scalar) {
        match scalar {
            Scalar::Double | Scalar::Float => self.out.extend_from_slice(b"0.0"),
            Scalar::Int32 | Scalar::Uint32 | Scalar::Sint32 | Scalar::Fixed32 | Scalar::Sfixed32 => {
                self.out.push(b'0');
            }
            Scalar::Int64 | Scalar::Uint64 | Scalar::Sint64 | Scalar::Fixed64 | Scalar::Sfixed64 => {
                self.out.extend_from_slice(b"\"0\"");
            }
            Scalar::Bool => self.out.extend_from_slice(b"false"),
            Scalar::String | Scalar::Bytes => self.out.extend_from_slice(b"\"\""),
            Scalar::Enum(index) => self.put_enum(index, self.tables.enums[index].default),
        }
    }
}
