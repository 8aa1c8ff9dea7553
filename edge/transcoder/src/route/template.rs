//! Path templates of `google.api.http`.
//!
//! Source: the grammar in the comments of `google/api/http.proto`.

use crate::percent::{Keep, decode};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    /// `*`: exactly one segment.
    Star,
    /// `**`: all the rest, nothing included.
    DoubleStar,
}

/// The part of the path that a variable captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// In proto names, joined with dots.
    pub(crate) field_path: String,
    /// Index of its first segment.
    pub(crate) from: usize,
    /// Index behind its last segment; `None` for all the rest.
    pub(crate) to: Option<usize>,
    /// Whether it may hold more than one segment, which changes how it is decoded.
    pub(crate) multi: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) segments: Vec<Segment>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) verb: Option<String>,
}

/// Reads a template.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Template, &'static str> {
    let rest = text.strip_prefix('/').ok_or("a path template begins with `/`")?;
    let mut template = Template::default();
    let mut rest = Some(rest);
    while let Some(text) = rest {
        let (part, after) = split_segment(text)?;
        rest = after;
        let part = if rest.is_none() { split_verb(part, &mut template)? } else { part };
        match part.strip_prefix('{') {
            Some(variable) => {
                let inner = variable.strip_suffix('}').ok_or("a variable ends with `}`")?;
                push_variable(inner, &mut template)?;
            }
            None => push_segment(part, &mut template)?,
        }
    }
    Ok(template)
}

/// The text up to the next `/` outside of braces, and what follows it.
fn split_segment(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    let mut inside = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if inside => return Err("a variable cannot hold another"),
            b'{' => inside = true,
            b'}' => inside = false,
            b'/' if !inside => return Ok((&text[..at], Some(&text[at + 1..]))),
            _ => {}
        }
    }
    if inside { Err("a variable ends with `}`") } else { Ok((text, None)) }
}

fn split_verb<'a>(part: &'a str, template: &mut Template) -> Result<&'a str, &'static str> {
    let from = part.rfind('}').unwrap_or(0);
    let Some(colon) = part[from..].rfind(':') else { return Ok(part) };
    let (head, verb) = (&part[..from + colon], &part[from + colon + 1..]);
    if verb.is_empty() {
        return Err("a custom verb is not empty");
    }
    template.verb = Some(verb.to_owned());
    Ok(head)
}

fn push_segment(text: &str, template: &mut Template) -> Result<(), &'static str> {
    if template.segments.last() == Some(&Segment::DoubleStar) {
        return Err("`**` is the last segment");
    }
    template.segments.push(match text {
        "" => return Err("a segment is not empty"),
        "*" => Segment::Star,
        "**" => Segment::DoubleStar,
        literal if literal.contains(['*', '{', '}', '=']) => {
            return Err("a segment is a literal, `*` or `**`");
        }
        // A request's segment is decoded before it is compared.
        literal => Segment::Literal(decode(literal, Keep::Nothing, false)?.into_owned()),
    });
    Ok(())
}

fn push_variable(inner: &str, template: &mut Template) -> Result<(), &'static str> {
    let (field_path, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
    if field_path.is_empty() || field_path.split('.').any(str::is_empty) {
        return Err("a variable names a field");
    }
    let from = template.segments.len();
    for part in pattern.split('/') {
        push_segment(part, template)?;
    }
    let open_ended = template.segments.last() == Some(&Segment::DoubleStar);
    let to = template.segments.len();
    template.variables.push(Variable {
        field_path: field_path.to_owned(),
        from,
        to: (!open_ended).then_some(to),
        multi: open_ended || to - from > 1,
    });
    Ok(())
}
