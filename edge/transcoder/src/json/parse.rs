//! JSON text to wire bytes, in one pass.

use super::lex::{Lexer, Token, too_deep};
use super::scratch::{Scratch, has_duplicates};
use super::text::{UNKNOWN_ENUM, put_text};
use crate::table::{Field, Form, Label, Message, Scalar, Seen, Tables, Type};
use crate::violation::Violation;
use crate::wire::{self, close_len, open_len, put_tag, put_varint};

/// How strictly a body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParseOptions {
    /// Discard unknown fields instead of refusing them.
    pub(crate) ignore_unknown: bool,
    /// Write fields without presence even when they hold their default, so that a later look can tell them from absent ones.
    pub(crate) keep_defaults: bool,
    /// How many objects and arrays may be open at once.
    pub(crate) depth_max: usize,
}

/// Appends the wire form of the JSON `text` of one message of table `index`.
pub(crate) fn message(
    tables: &Tables,
    index: usize,
    text: &str,
    out: &mut Vec<u8>,
    options: ParseOptions,
) -> Result<(), Violation> {
    let mut parser = Parser::new(tables, text, out, options);
    parser.message(index)?;
    parser.finish()
}

/// Appends the wire form of `field` with the JSON `text` as its whole value: an array when it is repeated.
pub(crate) fn field(
    tables: &Tables,
    field: &Field,
    text: &str,
    out: &mut Vec<u8>,
    options: ParseOptions,
) -> Result<(), Violation> {
    let mut parser = Parser::new(tables, text, out, options);
    parser.field(field).map_err(|fault| fault.under(&field.name))?;
    parser.finish()
}

pub(super) struct Parser<'t, 'a, 'o> {
    pub(super) tables: &'t Tables,
    pub(super) lex: Lexer<'a>,
    pub(super) out: &'o mut Vec<u8>,
    pub(super) scratch: Scratch,
    pub(super) options: ParseOptions,
    pub(super) depth_left: usize,
}

impl<'t, 'a, 'o> Parser<'t, 'a, 'o> {
    fn new(tables: &'t Tables, text: &'a str, out: &'o mut Vec<u8>, options: ParseOptions) -> Self {
        Self {
            tables,
            lex: Lexer::new(text),
            out,
            scratch: Scratch::take(),
            options,
            depth_left: options.depth_max,
        }
    }

    fn finish(mut self) -> Result<(), Violation> {
        self.lex.expect_end()?;
        self.scratch.keep();
        Ok(())
    }

    pub(super) fn enter(&mut self) -> Result<(), Violation> {
        self.depth_left = self.depth_left.checked_sub(1).ok_or_else(too_deep)?;
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth_left += 1;
    }

    /// Writes the content of one message, without tag and length.
    pub(super) fn message(&mut self, index: usize) -> Result<(), Violation> {
        let message = &self.tables.messages[index];
        match message.form {
            Form::Plain => self.plain(message, false),
            Form::Any => self.any(),
            Form::Timestamp | Form::Duration | Form::FieldMask => {
                let text = self.lex.string(&mut self.scratch.text)?;
                let text = match text {
                    Token::Borrowed(text) => text,
                    Token::Unescaped => &self.scratch.text,
                };
                super::wkt_in::put_text(message.form, text, self.out)
            }
            Form::Struct => self.structure(),
            Form::Value => self.value(),
            Form::ListValue => self.list_value(),
            Form::Wrapper => {
                let Some(field) = message.fields.first() else {
                    return Err(Violation::new("unsupported type"));
                };
                self.singular(field, false)
            }
        }
    }

    /// An object with one member per field. In an `Any`, `@type` has been read already.
    pub(super) fn plain(&mut self, message: &'t Message, inside_any: bool) -> Result<(), Violation> {
        self.lex.expect(b'{', "an object")?;
        self.enter()?;
        let mut seen = Seen::new(message);
        let mut guess = 0;
        if !self.lex.eat(b'}') {
            loop {
                if let Some(index) = self.member(message, guess, inside_any)? {
                    guess = index + 1;
                    let field = &message.fields[index];
                    if !seen.mark(index) {
                        return Err(Violation::at(&field.name, "is given twice"));
                    }
                    let present = self.field(field).map_err(|fault| fault.under(&field.name))?;
                    if let (true, Some(oneof)) = (present, field.oneof)
                        && !seen.mark(message.fields.len() + oneof)
                    {
                        return Err(second_of_oneof(message, field, oneof));
                    }
                }
                if !self.lex.more(b'}')? {
                    break;
                }
            }
        }
        self.leave();
        Ok(())
    }

    /// Reads the name of a member and the colon, and says which field it is; `None` when the whole member was read and
    /// discarded. Clients mostly write members in the order of the fields, so that of `guess` is tried first, as it is written
    /// without white space and escapes.
    fn member(
        &mut self,
        message: &Message,
        guess: usize,
        inside_any: bool,
    ) -> Result<Option<usize>, Violation> {
        if message.fields.get(guess).is_some_and(|field| self.lex.eat_text(&field.member)) {
            return Ok(Some(guess));
        }
        let token = self.lex.string(&mut self.scratch.text)?;
        let key = match &token {
            Token::Borrowed(key) => *key,
            Token::Unescaped => &self.scratch.text,
        };
        let found = message.by_key(key);
        if found.is_none() && !(inside_any && key == "@type") && !self.options.ignore_unknown {
            return Err(Violation::at(key, "is not a field of the request"));
        }
        self.lex.expect(b':', "`:`")?;
        if found.is_none() {
            self.lex.skip(&mut self.scratch.text, self.depth_left)?;
        }
        Ok(found)
    }

    /// The value of a member; false when it was null and therefore left out.
    fn field(&mut self, field: &'t Field) -> Result<bool, Violation> {
        if self.lex.peek() == Some(b'n') && !(field.nullable && field.label.singular()) {
            self.lex.word("null")?;
            return Ok(false);
        }
        let keep_default = match field.label {
            Label::Implicit => self.options.keep_defaults,
            Label::Explicit => true,
            Label::Repeated => return self.repeated(field).map(|()| true),
            Label::Packed => return self.packed(field).map(|()| true),
            Label::Map => return self.map(field).map(|()| true),
        };
        let start = self.out.len();
        match self.singular(field, keep_default) {
            Ok(()) => Ok(true),
            Err(fault) => self.discard(fault, start).map(|()| false),
        }
    }

    /// Takes back what was written since `start` when all that is wrong is the name of an enum value, and names that are not
    /// known are to be discarded: as the conformance tests of protobuf ask, of unknown fields and of these alike.
    #[cold]
    fn discard(&mut self, fault: Violation, start: usize) -> Result<(), Violation> {
        if self.options.ignore_unknown && fault.is_of_the_value_itself(UNKNOWN_ENUM) {
            self.out.truncate(start);
            return Ok(());
        }
        Err(fault)
    }

    /// Tag and value of a field that is not repeated, or of one element.
    fn singular(&mut self, field: &'t Field, keep_default: bool) -> Result<(), Violation> {
        match field.ty {
            Type::Scalar(scalar) => {
                let start = self.out.len();
                put_tag(self.out, field.number, scalar.wire_type());
                let default = self.scalar(scalar)?;
                if default && !keep_default {
                    self.out.truncate(start);
                }
                Ok(())
            }
            Type::Message(index) => {
                put_tag(self.out, field.number, wire::LEN);
                let open = open_len(self.out);
                self.message(index)?;
                close_len(self.out, open);
                Ok(())
            }
            Type::Group(index) => {
                put_tag(self.out, field.number, wire::START_GROUP);
                self.message(index)?;
                put_tag(self.out, field.number, wire::END_GROUP);
                Ok(())
            }
        }
    }

    fn repeated(&mut self, field: &'t Field) -> Result<(), Violation> {
        self.elements(|parser, index| {
            if parser.lex.peek() == Some(b'n') && !field.nullable {
                return Err(Violation::new("must not be null in a list").under_index(index));
            }
            let start = parser.out.len();
            parser
                .singular(field, true)
                .or_else(|fault| parser.discard(fault, start))
                .map_err(|fault| fault.under_index(index))
        })
    }

    fn packed(&mut self, field: &'t Field) -> Result<(), Violation> {
        let Type::Scalar(scalar) = field.ty else { return self.repeated(field) };
        let start = self.out.len();
        put_tag(self.out, field.number, wire::LEN);
        let open = open_len(self.out);
        self.elements(|parser, index| {
            if parser.lex.peek() == Some(b'n') && !field.nullable {
                return Err(Violation::new("must not be null in a list").under_index(index));
            }
            let start = parser.out.len();
            parser
                .scalar(scalar)
                .map(drop)
                .or_else(|fault| parser.discard(fault, start))
                .map_err(|fault| fault.under_index(index))
        })?;
        if self.out.len() == open {
            self.out.truncate(start);
        } else {
            close_len(self.out, open);
        }
        Ok(())
    }

    /// An array, each element read by `element`.
    pub(super) fn elements(
        &mut self,
        mut element: impl FnMut(&mut Self, usize) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        self.lex.expect(b'[', "an array")?;
        self.enter()?;
        let mut count = 0;
        if !self.lex.eat(b']') {
            loop {
                element(self, count)?;
                count += 1;
                if !self.lex.more(b']')? {
                    break;
                }
            }
        }
        self.leave();
        Ok(())
    }

    fn map(&mut self, field: &'t Field) -> Result<(), Violation> {
        let Type::Message(entry) = field.ty else { return Err(Violation::new("unsupported type")) };
        let [key, value] = &*self.tables.messages[entry].fields else {
            return Err(Violation::new("unsupported type"));
        };
        let Type::Scalar(key_scalar) = key.ty else { return Err(Violation::new("unsupported type")) };
        self.entries(
            field.number,
            |parser, text| {
                let before = parser.out.len();
                put_tag(parser.out, 1, key_scalar.wire_type());
                let start = parser.out.len();
                if put_text(parser.tables, parser.out, key_scalar, text).map_err(Violation::new)? {
                    parser.out.truncate(before);
                    return Ok(before);
                }
                Ok(start)
            },
            |parser| {
                if parser.lex.peek() == Some(b'n') && !value.nullable {
                    return Err(Violation::new("must not be null in a map"));
                }
                parser.singular(value, false)
            },
        )
    }

    /// An object as map entries of field `number`: `put_key` writes the key and says where its bytes begin.
    pub(super) fn entries(
        &mut self,
        number: u32,
        put_key: impl Fn(&mut KeyWriter<'_>, &str) -> Result<usize, Violation>,
        put_value: impl Fn(&mut Self) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        self.lex.expect(b'{', "an object")?;
        self.enter()?;
        let base = self.scratch.keys.len();
        if !self.lex.eat(b'}') {
            loop {
                let key_at = self.lex.position();
                let token = self.lex.string(&mut self.scratch.text)?;
                let key = match &token {
                    Token::Borrowed(key) => *key,
                    Token::Unescaped => &self.scratch.text,
                };
                let entry = self.out.len();
                put_tag(self.out, number, wire::LEN);
                let open = open_len(self.out);
                let mut writer = KeyWriter { tables: self.tables, out: self.out };
                let from = put_key(&mut writer, key).map_err(|fault| fault.under_key(key))?;
                let to = self.out.len();
                self.lex.expect(b':', "`:`")?;
                match put_value(self) {
                    Ok(()) => {
                        let start = close_len(self.out, open);
                        self.scratch.keys.push(start + (from - open)..start + (to - open));
                    }
                    Err(fault) => {
                        if let Err(fault) = self.discard(fault, entry) {
                            return Err(fault.under_key(&self.key_at(key_at)));
                        }
                    }
                }
                if !self.lex.more(b'}')? {
                    break;
                }
            }
        }
        self.leave();
        if has_duplicates(&mut self.scratch.keys[base..], self.out) {
            return Err(Violation::new("has the same key twice"));
        }
        self.scratch.keys.truncate(base);
        Ok(())
    }

    /// The key that begins at `position`, read again for an error.
    fn key_at(&mut self, position: usize) -> String {
        self.lex.rewind(position);
        let mut scratch = String::new();
        match self.lex.string(&mut scratch) {
            Ok(Token::Borrowed(key)) => key.to_owned(),
            Ok(Token::Unescaped) => scratch,
            Err(_) => String::new(),
        }
    }

    /// A value without its tag; true when it is the default.
    fn scalar(&mut self, scalar: Scalar) -> Result<bool, Violation> {
        let next = self.lex.peek();
        match scalar {
            Scalar::Bool => {
                let value = next == Some(b't');
                if !value && next != Some(b'f') {
                    return Err(self.mismatch("must be true or false"));
                }
                self.lex.word(if value { "true" } else { "false" })?;
                self.out.push(u8::from(value));
                Ok(!value)
            }
            Scalar::Enum(index) if next != Some(b'"') => {
                if self.tables.enums[index].null && next == Some(b'n') {
                    self.lex.word("null")?;
                    self.out.push(0);
                    return Ok(true);
                }
                if !matches!(next, Some(b'-' | b'0'..=b'9')) {
                    return Err(self.mismatch("must be the name or the number of an enum value"));
                }
                let text = self.lex.number()?;
                put_text(self.tables, self.out, scalar, text).map_err(Violation::new)
            }
            Scalar::Enum(index) => {
                let token = self.lex.string(&mut self.scratch.text)?;
                let name = match &token {
                    Token::Borrowed(name) => *name,
                    Token::Unescaped => &self.scratch.text,
                };
                let number =
                    self.tables.enums[index].number(name).ok_or_else(|| Violation::new(UNKNOWN_ENUM))?;
                put_varint(self.out, i64::from(number).cast_unsigned());
                Ok(number == self.tables.enums[index].default)
            }
            Scalar::String | Scalar::Bytes => {
                if next != Some(b'"') {
                    return Err(self.mismatch("must be a string"));
                }
                self.quoted(scalar)
            }
            Scalar::Double
            | Scalar::Float
            | Scalar::Int32
            | Scalar::Int64
            | Scalar::Uint32
            | Scalar::Uint64
            | Scalar::Sint32
            | Scalar::Sint64
            | Scalar::Fixed32
            | Scalar::Fixed64
            | Scalar::Sfixed32
            | Scalar::Sfixed64 => match next {
                Some(b'"') => self.quoted(scalar),
                Some(b'-' | b'0'..=b'9') => {
                    let text = self.lex.number()?;
                    put_text(self.tables, self.out, scalar, text).map_err(Violation::new)
                }
                _ => Err(self.mismatch("must be a number")),
            },
        }
    }

    fn quoted(&mut self, scalar: Scalar) -> Result<bool, Violation> {
        let token = self.lex.string(&mut self.scratch.text)?;
        let text = match &token {
            Token::Borrowed(text) => *text,
            Token::Unescaped => &self.scratch.text,
        };
        put_text(self.tables, self.out, scalar, text).map_err(Violation::new)
    }

    /// A well-formed value of the wrong kind gets `rule`; anything else is a syntax error.
    pub(super) fn mismatch(&mut self, rule: &str) -> Violation {
        match self.lex.skip(&mut self.scratch.text, self.depth_left) {
            Ok(()) => Violation::new(rule),
            Err(syntax) => syntax,
        }
    }
}

/// What writing a map key needs of the parser while the key's text is borrowed from it.
pub(super) struct KeyWriter<'p> {
    tables: &'p Tables,
    pub(super) out: &'p mut Vec<u8>,
}

pub(crate) fn second_of_oneof(message: &Message, field: &Field, oneof: usize) -> Violation {
    Violation::at(&field.name, format!("is a second member of the oneof `{}`", message.oneofs[oneof]))
}
