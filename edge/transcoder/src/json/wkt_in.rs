//! Well-known types whose JSON is not an object of their fields, read.

use std::borrow::Cow;

use super::lex::Token;
use super::number;
use super::parse::Parser;
use crate::table::Form;
use crate::violation::Violation;
use crate::wire::{self, close_len, open_len, put_bytes, put_tag, put_varint};
use crate::wkt;

/// Appends the content of a `Timestamp`, `Duration` or `FieldMask` from its JSON string.
pub(super) fn put_text(form: Form, text: &str, out: &mut Vec<u8>) -> Result<(), Violation> {
    let (seconds, nanos) = match form {
        Form::Timestamp => wkt::parse_timestamp(text)
            .ok_or_else(|| Violation::new("must be an RFC 3339 time, as 2026-11-21T15:00:00Z"))?,
        Form::Duration => wkt::parse_duration(text)
            .ok_or_else(|| Violation::new("must be a duration in seconds, as 1.5s"))?,
        Form::FieldMask => {
            let rule = "must be a list of lowerCamelCase paths, as name,address.city";
            return if put_mask(text, out) { Ok(()) } else { Err(Violation::new(rule)) };
        }
        Form::Plain | Form::Any | Form::Struct | Form::Value | Form::ListValue | Form::Wrapper => {
            return Err(Violation::new("unsupported type"));
        }
    };
    if seconds != 0 {
        put_tag(out, 1, wire::VARINT);
        put_varint(out, seconds.cast_unsigned());
    }
    if nanos != 0 {
        put_tag(out, 2, wire::VARINT);
        put_varint(out, i64::from(nanos).cast_unsigned());
    }
    Ok(())
}

/// Appends the content of a `FieldMask` from its paths; false when one of them is none.
fn put_mask(text: &str, out: &mut Vec<u8>) -> bool {
    text.is_empty()
        || text.split(',').all(|path| {
            put_tag(out, 1, wire::LEN);
            let open = open_len(out);
            let good = wkt::put_snake(out, path);
            close_len(out, open);
            good
        })
}

impl Parser<'_, '_, '_> {
    /// `google.protobuf.Struct`: entries of field 1.
    pub(super) fn structure(&mut self) -> Result<(), Violation> {
        self.entries(
            1,
            |writer, key| {
                if key.is_empty() {
                    return Ok(writer.out.len());
                }
                put_tag(writer.out, 1, wire::LEN);
                put_varint(writer.out, wire::wide(key.len()));
                let start = writer.out.len();
                writer.out.extend_from_slice(key.as_bytes());
                Ok(start)
            },
            |parser| parser.nested_value(2),
        )
    }

    /// `google.protobuf.ListValue`: repeated values, field 1.
    pub(super) fn list_value(&mut self) -> Result<(), Violation> {
        self.elements(|parser, index| parser.nested_value(1).map_err(|fault| fault.under_index(index)))
    }

    fn nested_value(&mut self, number: u32) -> Result<(), Violation> {
        put_tag(self.out, number, wire::LEN);
        let open = open_len(self.out);
        self.value()?;
        close_len(self.out, open);
        Ok(())
    }

    /// `google.protobuf.Value`: any JSON.
    pub(super) fn value(&mut self) -> Result<(), Violation> {
        match self.lex.peek() {
            Some(b'n') => {
                self.lex.word("null")?;
                put_tag(self.out, 1, wire::VARINT);
                self.out.push(0);
            }
            Some(byte @ (b't' | b'f')) => {
                let value = byte == b't';
                self.lex.word(if value { "true" } else { "false" })?;
                put_tag(self.out, 4, wire::VARINT);
                self.out.push(u8::from(value));
            }
            Some(b'"') => {
                let token = self.lex.string(&mut self.scratch.text)?;
                let text = match &token {
                    Token::Borrowed(text) => *text,
                    Token::Unescaped => &self.scratch.text,
                };
                put_bytes(self.out, 3, text.as_bytes());
            }
            Some(b'{') => {
                put_tag(self.out, 5, wire::LEN);
                let open = open_len(self.out);
                self.structure()?;
                close_len(self.out, open);
            }
            Some(b'[') => {
                put_tag(self.out, 6, wire::LEN);
                let open = open_len(self.out);
                self.list_value()?;
                close_len(self.out, open);
            }
            _ => {
                let text = self.lex.number()?;
                let value = number::double(text)
                    .ok_or_else(|| Violation::new("must be a number in the range of a double"))?;
                put_tag(self.out, 2, wire::FIXED64);
                self.out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Ok(())
    }

    /// `google.protobuf.Any`: an object whose `@type`, anywhere in it, says how to read the rest.
    pub(super) fn any(&mut self) -> Result<(), Violation> {
        let start = self.lex.position();
        self.lex.expect(b'{', "an object")?;
        self.enter()?;
        let mut type_url: Option<Cow<'_, str>> = None;
        let mut members = 0;
        if !self.lex.eat(b'}') {
            loop {
                let token = self.lex.string(&mut self.scratch.text)?;
                let is_type = match &token {
                    Token::Borrowed(key) => *key == "@type",
                    Token::Unescaped => self.scratch.text == "@type",
                };
                self.lex.expect(b':', "`:`")?;
                members += 1;
                if is_type {
                    if type_url.is_some() {
                        return Err(Violation::at("@type", "is given twice"));
                    }
                    type_url = Some(match self.lex.string(&mut self.scratch.text)? {
                        Token::Borrowed(url) => Cow::Borrowed(url),
                        Token::Unescaped => Cow::Owned(self.scratch.text.clone()),
                    });
                } else {
                    self.lex.skip(&mut self.scratch.text, self.depth_left)?;
                }
                if !self.lex.more(b'}')? {
                    break;
                }
            }
        }
        self.leave();
        if members == 0 {
            return Ok(());
        }
        let Some(type_url) = type_url else { return Err(Violation::at("@type", "is required")) };
        let known = type_url.rsplit_once('/').and_then(|(_, name)| self.tables.find(name));
        let Some(index) = known else { return Err(Violation::at("@type", "is not a type known here")) };
        put_bytes(self.out, 1, type_url.as_bytes());
        let before = self.out.len();
        put_tag(self.out, 2, wire::LEN);
        let open = open_len(self.out);
        self.lex.rewind(start);
        let message = &self.tables.messages[index];
        // C++ and Java write `Empty` as any message, Go writes it as a well-known type.
        let empty_value = members > 1 && &*message.name == "google.protobuf.Empty";
        if message.form == Form::Plain && !empty_value {
            self.plain(message, true)?;
        } else {
            self.any_value(index)?;
        }
        if self.out.len() == open {
            self.out.truncate(before);
        } else {
            close_len(self.out, open);
        }
        Ok(())
    }

    /// `{"@type": …, "value": …}`, the form of an `Any` around another well-known type.
    fn any_value(&mut self, index: usize) -> Result<(), Violation> {
        self.lex.expect(b'{', "an object")?;
        self.enter()?;
        let mut found = false;
        loop {
            let token = self.lex.string(&mut self.scratch.text)?;
            let key = match &token {
                Token::Borrowed(key) => *key,
                Token::Unescaped => &self.scratch.text,
            };
            match key {
                "@type" => {
                    self.lex.expect(b':', "`:`")?;
                    self.lex.skip(&mut self.scratch.text, 1)?;
                }
                "value" if !found => {
                    found = true;
                    self.lex.expect(b':', "`:`")?;
                    self.message(index).map_err(|fault| fault.under("value"))?;
                }
                "value" => return Err(Violation::at("value", "is given twice")),
                _ if self.options.ignore_unknown => {
                    self.lex.expect(b':', "`:`")?;
                    self.lex.skip(&mut self.scratch.text, self.depth_left)?;
                }
                _ => return Err(Violation::at(key, "is not a field of the request")),
            }
            if !self.lex.more(b'}')? {
                break;
            }
        }
        self.leave();
        if found { Ok(()) } else { Err(Violation::at("value", "is required")) }
    }
}
