//! `google.api.HttpRule`, read from the options of a method and compiled.

use prost::Message as _;
use prost_reflect::MethodDescriptor;

use crate::builder::BuildError;
use crate::route::template::{self, Template};
use crate::table::{Form, Label, Tables};
use crate::wire::{LEN, Reader};

/// Number of the extension `google.api.http` of `google.protobuf.MethodOptions`.
const HTTP_EXTENSION: u32 = 72_295_728;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HttpRule {
    #[prost(string, tag = "1")]
    pub(crate) selector: String,
    #[prost(oneof = "Pattern", tags = "2, 3, 4, 5, 6, 8")]
    pub(crate) pattern: Option<Pattern>,
    #[prost(string, tag = "7")]
    pub(crate) body: String,
    #[prost(message, repeated, tag = "11")]
    pub(crate) additional_bindings: Vec<HttpRule>,
    #[prost(string, tag = "12")]
    pub(crate) response_body: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Pattern {
    #[prost(string, tag = "2")]
    Get(String),
    #[prost(string, tag = "3")]
    Put(String),
    #[prost(string, tag = "4")]
    Post(String),
    #[prost(string, tag = "5")]
    Delete(String),
    #[prost(string, tag = "6")]
    Patch(String),
    #[prost(message, tag = "8")]
    Custom(CustomHttpPattern),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CustomHttpPattern {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) path: String,
}

impl Pattern {
    fn method_and_path(&self) -> (&str, &str) {
        match self {
            Self::Get(path) => ("GET", path),
            Self::Put(path) => ("PUT", path),
            Self::Post(path) => ("POST", path),
            Self::Delete(path) => ("DELETE", path),
            Self::Patch(path) => ("PATCH", path),
            Self::Custom(custom) => (&custom.kind, &custom.path),
        }
    }
}

/// The rules of a method: the annotated one and its additional bindings.
pub(crate) fn rules_of(method: &MethodDescriptor) -> Result<Vec<HttpRule>, BuildError> {
    // The options are read from their bytes: this works whether or not the set carries `google/api/annotations.proto`.
    let options = method.options().encode_to_vec();
    let invalid = || BuildError::Rule {
        method: method.full_name().to_owned(),
        why: "google.api.http cannot be read".to_owned(),
    };
    let mut annotation: Vec<u8> = Vec::new();
    let mut found = false;
    let mut reader = Reader::new(&options);
    while !reader.is_empty() {
        let (number, wire_type) = reader.tag().map_err(|_| invalid())?;
        if number == HTTP_EXTENSION && wire_type == LEN {
            // Occurrences of a message merge by concatenation.
            annotation.extend_from_slice(reader.bytes().map_err(|_| invalid())?);
            found = true;
        } else {
            reader.skip(number, wire_type, 0).map_err(|_| invalid())?;
        }
    }
    if !found {
        return Ok(Vec::new());
    }
    let mut main = HttpRule::decode(&*annotation).map_err(|_| invalid())?;
    let mut rules = std::mem::take(&mut main.additional_bindings);
    rules.insert(0, main);
    Ok(rules)
}

/// Indices of fields, from the request message inwards.
pub(crate) type FieldPath = Vec<usize>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyRule {
    None,
    Whole,
    /// Index of a field of the request.
    Field(usize),
}

/// A variable of the path and the field that it sets.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) field: FieldPath,
    pub(crate) name: String,
    pub(crate) from: usize,
    pub(crate) to: Option<usize>,
    pub(crate) multi: bool,
}

/// One HTTP binding of one method, compiled.
#[derive(Debug)]
pub(crate) struct Route {
    /// Index of the method.
    pub(crate) method: usize,
    pub(crate) http_method: String,
    pub(crate) captures: Vec<Capture>,
    /// As written, for the document.
    pub(crate) template: Template,
    pub(crate) body: BodyRule,
    /// Index of the field of the reply that is the answer, when it is not the whole reply.
    pub(crate) response: Option<usize>,
}

/// Compiles one rule of a method whose input and output have these table indices.
pub(crate) fn compile(
    tables: &Tables,
    rule: &HttpRule,
    method: usize,
    input: usize,
    output: usize,
) -> Result<Route, String> {
    let pattern = rule.pattern.as_ref().ok_or("the rule has no HTTP method")?;
    if !rule.additional_bindings.is_empty() {
        return Err("additional_bindings do not nest".to_owned());
    }
    let (http_method, path) = pattern.method_and_path();
    if http_method.is_empty() {
        return Err("the custom kind is empty".to_owned());
    }
    let template = template::parse(path).map_err(|why| format!("{path}: {why}"))?;
    let mut captures: Vec<Capture> = Vec::new();
    for variable in &template.variables {
        let field = resolve(tables, input, &variable.field_path)
            .ok_or_else(|| format!("{path}: no field `{}`", variable.field_path))?;
        if !bindable(tables, input, &field) {
            return Err(format!("{path}: `{}` cannot be set from a path", variable.field_path));
        }
        if captures.iter().any(|capture| capture.field == field) {
            return Err(format!("{path}: `{}` is bound twice", variable.field_path));
        }
        captures.push(Capture {
            field,
            name: variable.field_path.clone(),
            from: variable.from,
            to: variable.to,
            multi: variable.multi,
        });
    }
    let body = match rule.body.as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::Whole,
        name => {
            BodyRule::Field(top_field(tables, input, name).ok_or_else(|| format!("body: no field `{name}`"))?)
        }
    };
    let response = match rule.response_body.as_str() {
        "" => None,
        name => {
            Some(top_field(tables, output, name).ok_or_else(|| format!("response_body: no field `{name}`"))?)
        }
    };
    Ok(Route { method, http_method: http_method.to_owned(), captures, template, body, response })
}

fn top_field(tables: &Tables, message: usize, name: &str) -> Option<usize> {
    tables.messages[message].fields.iter().position(|field| *field.name == *name)
}

/// The field at a dotted path of proto names, through plain singular messages.
pub(crate) fn resolve(tables: &Tables, message: usize, path: &str) -> Option<FieldPath> {
    let mut indices = Vec::new();
    let mut current = Some(message);
    for name in path.split('.') {
        let message = current?;
        let index = top_field(tables, message, name)?;
        indices.push(index);
        let field = &tables.messages[message].fields[index];
        current = field
            .ty
            .message()
            .filter(|inner| field.label.singular() && tables.messages[*inner].form == Form::Plain);
    }
    Some(indices)
}

/// Whether a field has one value with a text form.
fn bindable(tables: &Tables, message: usize, path: &[usize]) -> bool {
    let Some(field) = crate::bind::field_at(tables, message, path) else { return false };
    field.label != Label::Map
        && field.label.singular()
        && match tables.form(field) {
            None | Some(Form::Timestamp | Form::Duration | Form::FieldMask | Form::Wrapper) => true,
            Some(Form::Plain | Form::Any | Form::Struct | Form::Value | Form::ListValue) => false,
        }
}
