//! Strict RFC 8259 tokens.

use super::escape::plain_length;
use crate::violation::Violation;

/// Reads JSON text from left to right.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

/// A string token: a slice of the input, or unescaped into the scratch buffer.
pub(crate) enum Token<'a> {
    Borrowed(&'a str),
    Unescaped,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Goes back to a position that [`Self::position`] gave.
    pub(crate) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    fn syntax(&self, expected: &str) -> Violation {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line = before.split(|&byte| byte == b'\n').count();
        let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        if self.at >= self.text.len() {
            return Violation::new(format!("JSON ends too early, expected {expected}"));
        }
        Violation::new(format!("invalid JSON at line {line} column {column}: expected {expected}"))
    }

    /// The next byte that is not white space, unread.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Reads `byte` when it comes next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    /// Reads `text`, which ends with a token, when it comes next to the letter.
    pub(crate) fn eat_text(&mut self, text: &[u8]) -> bool {
        self.peek();
        let found = self.text.as_bytes()[self.at..].starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    pub(crate) fn expect(&mut self, byte: u8, described: &str) -> Result<(), Violation> {
        if self.eat(byte) { Ok(()) } else { Err(self.syntax(described)) }
    }

    pub(crate) fn expect_end(&mut self) -> Result<(), Violation> {
        if self.peek().is_none() { Ok(()) } else { Err(self.syntax("nothing after the value")) }
    }

    /// After an element: true when another follows, false at `close`, which is read.
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, Violation> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.syntax(if close == b'}' { "`,` or `}`" } else { "`,` or `]`" })),
        }
    }

    /// Reads `word` (`true`, `false`, `null`) when it comes next.
    pub(crate) fn word(&mut self, word: &str) -> Result<(), Violation> {
        self.peek();
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.syntax("a JSON value"))
    }

    /// Reads a string. Escapes are resolved into `scratch`, which then holds the whole string.
    pub(crate) fn string(&mut self, scratch: &mut String) -> Result<Token<'a>, Violation> {
        if self.peek() != Some(b'"') {
            return Err(self.syntax("a string"));
        }
        self.at += 1;
        let bytes = self.text.as_bytes();
        let mut from = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_length(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    let tail = &self.text[from..self.at];
                    self.at += 1;
                    if !escaped {
                        return Ok(Token::Borrowed(tail));
                    }
                    scratch.push_str(tail);
                    return Ok(Token::Unescaped);
                }
                Some(b'\\') => {
                    if !escaped {
                        scratch.clear();
                        escaped = true;
                    }
                    scratch.push_str(&self.text[from..self.at]);
                    self.at += 1;
                    let unescaped = self.escape()?;
                    scratch.push(unescaped);
                    from = self.at;
                }
                Some(_) => return Err(self.syntax("no raw control character in a string")),
                None => return Err(self.syntax("`\"`")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Violation> {
        let unescaped = match self.text.as_bytes().get(self.at) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.syntax("an escape of JSON")),
        };
        self.at += 1;
        Ok(unescaped)
    }

    fn unicode_escape(&mut self) -> Result<char, Violation> {
        let first = self.hex4()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.syntax("a Unicode scalar value"));
        }
        if first < 0xdc00 && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(scalar).ok_or_else(|| self.syntax("a Unicode scalar value"));
            }
        }
        Err(self.syntax("a pair of surrogates"))
    }

    fn hex4(&mut self) -> Result<u32, Violation> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.text.as_bytes().get(self.at).and_then(|&byte| char::from(byte).to_digit(16));
            value = value * 16 + digit.ok_or_else(|| self.syntax("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(value)
    }

    /// Reads a number and returns its text.
    pub(crate) fn number(&mut self) -> Result<&'a str, Violation> {
        self.peek();
        let length = number_length(&self.text.as_bytes()[self.at..]);
        if length == 0 {
            return Err(self.syntax("a JSON value"));
        }
        let number = &self.text[self.at..self.at + length];
        self.at += length;
        // `01`, `1.`, `-`: what follows a number must end it.
        if let Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'+' | b'-') =
            self.text.as_bytes().get(self.at)
        {
            return Err(self.syntax("the end of the number"));
        }
        Ok(number)
    }

    /// Reads a value of any kind and forgets it. `depth` is how many levels may still open.
    pub(crate) fn skip(&mut self, scratch: &mut String, depth: usize) -> Result<(), Violation> {
        match self.peek() {
            Some(b'"') => self.string(scratch).map(drop),
            Some(b'{') => {
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                self.at += 1;
                if self.eat(b'}') {
                    return Ok(());
                }
                loop {
                    self.string(scratch)?;
                    self.expect(b':', "`:`")?;
                    self.skip(scratch, depth)?;
                    if !self.more(b'}')? {
                        return Ok(());
                    }
                }
            }
            Some(b'[') => {
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                self.at += 1;
                if self.eat(b']') {
                    return Ok(());
                }
                loop {
                    self.skip(scratch, depth)?;
                    if !self.more(b']')? {
                        return Ok(());
                    }
                }
            }
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number().map(drop),
        }
    }
}

pub(crate) fn too_deep() -> Violation {
    Violation::new("nested too deep")
}

/// The length of the JSON number that `bytes` begin with, 0 when they begin with none.
pub(crate) fn number_length(bytes: &[u8]) -> usize {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    match bytes.get(at) {
        Some(b'0') => at += 1,
        Some(b'1'..=b'9') => at += digits(at),
        _ => return 0,
    }
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return 0;
        }
        at += 1 + fraction;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return 0;
        }
        at += 1 + sign + exponent;
    }
    at
}
