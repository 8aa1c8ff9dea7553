//! The `update_mask` of a PATCH that brings none: the fields that its body has.

use crate::json::lex::{Lexer, Token};
use crate::table::{Form, Message, Tables};
use crate::violation::Violation;
use crate::wire::put_bytes;

/// The content of a `google.protobuf.FieldMask` with the path of every member of the JSON object `text`, which has been read
/// as a message of table `index` before. A null names a field to be cleared. `skip` are fields that the body only repeats.
pub(crate) fn of_body(
    tables: &Tables,
    index: usize,
    text: &str,
    skip: impl Fn(usize) -> bool,
) -> Result<Vec<u8>, Violation> {
    let mut walk = Walk { tables, lex: Lexer::new(text), scratch: String::new(), mask: Vec::new() };
    if walk.lex.peek() == Some(b'{') {
        walk.object(&tables.messages[index], "", &skip)?;
    }
    Ok(walk.mask)
}

struct Walk<'t, 'a> {
    tables: &'t Tables,
    lex: Lexer<'a>,
    scratch: String,
    mask: Vec<u8>,
}

/// The longest mask, in bytes. Of a type that holds itself, a body could name many fields by long paths.
const MASK_BYTES_MAX: usize = 64 << 10;

/// Deeper than any body that was accepted.
const SKIP_DEPTH: usize = 1000;

impl Walk<'_, '_> {
    fn add(&mut self, path: &str) -> Result<(), Violation> {
        put_bytes(&mut self.mask, 1, path.as_bytes());
        if self.mask.len() > MASK_BYTES_MAX {
            return Err(Violation::new("changes more fields than a mask is made of: send an `updateMask`"));
        }
        Ok(())
    }

    fn object(
        &mut self,
        message: &Message,
        prefix: &str,
        skip: &dyn Fn(usize) -> bool,
    ) -> Result<(), Violation> {
        self.lex.expect(b'{', "an object")?;
        if self.lex.eat(b'}') {
            if !prefix.is_empty() {
                self.add(prefix)?;
            }
            return Ok(());
        }
        loop {
            let token = self.lex.string(&mut self.scratch)?;
            let key = match &token {
                Token::Borrowed(key) => *key,
                Token::Unescaped => &self.scratch,
            };
            let found = message.by_key(key);
            self.lex.expect(b':', "`:`")?;
            match found.filter(|&index| !(prefix.is_empty() && skip(index))) {
                None => self.lex.skip(&mut self.scratch, SKIP_DEPTH)?,
                Some(index) => {
                    let field = &message.fields[index];
                    let path = if prefix.is_empty() {
                        field.name.to_string()
                    } else {
                        format!("{prefix}.{}", field.name)
                    };
                    let tables = self.tables;
                    let inner = field.ty.message().map(|inner| &tables.messages[inner]);
                    match inner.filter(|inner| field.label.singular() && inner.form == Form::Plain) {
                        Some(inner) if self.lex.peek() == Some(b'{') => self.object(inner, &path, skip)?,
                        Some(_) | None => {
                            self.add(&path)?;
                            self.lex.skip(&mut self.scratch, SKIP_DEPTH)?;
                        }
                    }
                }
            }
            if !self.lex.more(b'}')? {
                return Ok(());
            }
        }
    }
}
