//! Query parameters as fields of the request.

use crate::bind::{Binder, Path, Source, field_at};
use crate::percent::{Keep, decode};
use crate::table::{Form, Label, Tables};
use crate::violation::Violation;

/// How deep a parameter's name may reach into the request.
const PATH_DEPTH_MAX: usize = 32;

/// Sets a field for every parameter of `query`. `body` is the field that only the body may set.
pub(crate) fn bind(
    binder: &mut Binder<'_>,
    query: &str,
    body: Option<usize>,
    ignore_unknown: bool,
) -> Result<(), Violation> {
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (raw_name, raw_value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let name = decode(raw_name, Keep::Nothing, true).map_err(|rule| Violation::at(raw_name, rule))?;
        let value = decode(raw_value, Keep::Nothing, true).map_err(|rule| Violation::at(&name, rule))?;
        let (path_text, key) = match name.strip_suffix(']').and_then(|open| open.split_once('[')) {
            Some((path, key)) => (path, Some(key)),
            None => (&*name, None),
        };
        let Some(path) = resolve(binder.tables(), binder.message(), path_text) else {
            if ignore_unknown {
                continue;
            }
            return Err(Violation::at(&name, "is not a parameter of the request"));
        };
        if body.is_some() && path.first().copied() == body {
            return Err(Violation::at(&name, "is set by the body"));
        }
        let field = field_at(binder.tables(), binder.message(), &path);
        match key {
            Some(key) => binder.set_entry(&path, path_text, key, &value)?,
            None if field.is_some_and(|field| field.label == Label::Map) => {
                return Err(Violation::at(&name, "is a map: set its entries by `name[key]=`"));
            }
            None => binder.set(&path, &name, &value, Source::Query)?,
        }
    }
    Ok(())
}

/// The field at a dotted path of JSON or proto names, through plain singular messages.
pub(crate) fn resolve(tables: &Tables, message: usize, path: &str) -> Option<Path> {
    let mut indices = Path::new();
    let mut current = Some(message);
    for name in path.split('.') {
        let table = &tables.messages[current?];
        let index = table.by_key(name)?;
        indices.push(index);
        if indices.len() > PATH_DEPTH_MAX {
            return None;
        }
        let field = &table.fields[index];
        current = field
            .ty
            .message()
            .filter(|inner| field.label.singular() && tables.messages[*inner].form == Form::Plain);
    }
    Some(indices)
}
