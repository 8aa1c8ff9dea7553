//! JSON text as a tree, by RFC 8259 to the letter: numbers keep their text, objects keep every member.

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// The value that `text` is, or `None` when it is not JSON.
pub fn parse(text: &str) -> Option<Tree> {
    let mut cursor = Cursor(text);
    let tree = cursor.value(0)?;
    cursor.space();
    cursor.0.is_empty().then_some(tree)
}

/// Deeper than what any codec takes.
const DEPTH_MAX: usize = 400;

impl Tree {
    /// How many lists and objects are open at once, at most.
    pub fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => 0,
        }
    }
}

impl std::fmt::Display for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(text) => f.write_str(text),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(","))
            }
            Self::Object(members) => {
                let member = |(key, value): &(String, Self)| format!("{}:{value}", quoted(key));
                let members: Vec<String> = members.iter().map(member).collect();
                write!(f, "{{{}}}", members.join(","))
            }
        }
    }
}

struct Cursor<'a>(&'a str);

impl Cursor<'_> {
    fn space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, token: &str) -> Option<()> {
        self.space();
        self.0 = self.0.strip_prefix(token)?;
        Some(())
    }

    fn value(&mut self, depth: usize) -> Option<Tree> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.space();
        match self.0.chars().next()? {
            'n' => self.eat("null").map(|()| Tree::Null),
            't' => self.eat("true").map(|()| Tree::Bool(true)),
            'f' => self.eat("false").map(|()| Tree::Bool(false)),
            '"' => self.text().map(Tree::Text),
            '[' => {
                let mut items = Vec::new();
                self.sequence('[', ']', |cursor| {
                    items.push(cursor.value(depth + 1)?);
                    Some(())
                })?;
                Some(Tree::List(items))
            }
            '{' => {
                let mut members = Vec::new();
                self.sequence('{', '}', |cursor| {
                    cursor.space();
                    let key = cursor.text()?;
                    cursor.eat(":")?;
                    members.push((key, cursor.value(depth + 1)?));
                    Some(())
                })?;
                Some(Tree::Object(members))
            }
            _ => {
                let length = number_length(self.0)?;
                let (number, rest) = self.0.split_at(length);
                self.0 = rest;
                Some(Tree::Number(number.to_owned()))
            }
        }
    }

    fn sequence(
        &mut self,
        open: char,
        close: char,
        mut item: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.0 = self.0.strip_prefix(open)?;
        self.space();
        if let Some(rest) = self.0.strip_prefix(close) {
            self.0 = rest;
            return Some(());
        }
        loop {
            item(self)?;
            self.space();
            if let Some(rest) = self.0.strip_prefix(close) {
                self.0 = rest;
                return Some(());
            }
            self.0 = self.0.strip_prefix(',')?;
        }
    }

    fn text(&mut self) -> Option<String> {
        let mut chars = self.0.strip_prefix('"')?.chars();
        let mut text = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(escape(&mut chars)?),
                '\u{0}'..='\u{1f}' => return None,
                letter => text.push(letter),
            }
        }
        self.0 = chars.as_str();
        Some(text)
    }
}

fn escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match chars.next()? {
        '"' => '"',
        '\\' => '\\',
        '/' => '/',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let first = hex4(chars)?;
            let units = if (0xd800..0xdc00).contains(&first) {
                (chars.next()? == '\\' && chars.next()? == 'u').then_some(())?;
                vec![first, hex4(chars)?]
            } else {
                vec![first]
            };
            char::decode_utf16(units).next()?.ok()?
        }
        _ => return None,
    })
}

fn hex4(chars: &mut std::str::Chars<'_>) -> Option<u16> {
    let mut value = 0;
    for _ in 0..4 {
        value = value * 16 + u16::try_from(chars.next()?.to_digit(16)?).ok()?;
    }
    Some(value)
}

/// The length of the number that `text` begins with: `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`.
fn number_length(text: &str) -> Option<usize> {
    let mut rest = text.strip_prefix('-').unwrap_or(text);
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let whole = if rest.starts_with('0') { 1 } else { digits(rest) };
    (whole > 0).then_some(())?;
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        (length > 0).then_some(())?;
        rest = &fraction[length..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let length = digits(exponent);
        (length > 0).then_some(())?;
        rest = &exponent[length..];
    }
    Some(text.len() - rest.len())
}

/// Whether `text` is one JSON number and nothing else.
pub fn is_number(text: &str) -> bool {
    number_length(text) == Some(text.len())
}
