//! An OpenAPI 3.1 document from the same tables that serve the requests.
//!
//! Everything in it follows from the descriptor set: paths, parameters, bodies, replies and errors; constraints from the
//! rules of `buf.validate` and from `google.api.field_behavior`; descriptions from the comments of the `.proto` files, when
//! the set carries them. What no descriptor says, such as who may call, the host adds by [`OpenApi::describe`].
//!
//! OpenAPI knows eight methods and one operation for each of them on a path. What is routed beyond that, such as a `custom`
//! kind `PURGE`, is in the extension `x-additional-operations` of the path.

mod behavior;
mod comment;
mod example;
mod operation;
mod parameter;
mod path;
mod pattern;
mod response;
mod rules;
mod schema;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::gate::Method;
use crate::service::Shared;
use operation::Operations;
use schema::{INPUT, SCHEMAS};

type Describe = dyn Fn(&Method) -> Notes + Send + Sync;

/// What the document says besides what follows from the descriptors.
#[derive(Clone)]
pub struct OpenApi {
    title: String,
    version: String,
    description: Option<String>,
    contact: Option<(String, String)>,
    servers: Vec<String>,
    security_schemes: Vec<(String, Value)>,
    describe: Arc<Describe>,
}

/// What the host knows of a method and its descriptor does not say.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Leaves the method out of the document.
    pub hidden: bool,
    /// Which credentials a call needs: one of these is enough. Empty: none.
    pub security: Vec<Requirement>,
    /// Sentences that are added to the description.
    pub remarks: Vec<String>,
    /// Headers that the method takes.
    pub headers: Vec<RequestHeader>,
}

/// One way to be let in: all of these security schemes together, each with the OAuth scopes that it must have.
pub type Requirement = Vec<(String, Vec<String>)>;

/// A header that a method takes.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    /// Its name, as `Idempotency-Key`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether a call without it is refused.
    pub required: bool,
    /// The JSON Schema of its value.
    pub schema: Value,
    /// The field of the request that it sets, by its path in proto names, as in [`Admission::fields`](crate::Admission): the
    /// document does not ask for it again in query or body.
    pub field: Option<String>,
}

impl OpenApi {
    /// A document with the title and the version of the API.
    pub fn new(title: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            version: version.into(),
            description: None,
            contact: None,
            servers: vec!["/".to_owned()],
            security_schemes: Vec::new(),
            describe: Arc::new(|_| Notes::default()),
        }
    }

    /// What the API is, in Markdown.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// Who answers for the API: a name and a URL.
    #[must_use]
    pub fn contact(mut self, name: impl Into<String>, url: impl Into<String>) -> Self {
        self.contact = Some((name.into(), url.into()));
        self
    }

    /// Where the API is served, instead of `/`, the origin that the document came from.
    #[must_use]
    pub fn servers(mut self, urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.servers = urls.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a security scheme, a Security Scheme Object, under the name that [`Notes::security`] calls it by: letters,
    /// digits, `.`, `_` and `-`.
    #[must_use]
    pub fn security_scheme(mut self, name: impl Into<String>, scheme: Value) -> Self {
        self.security_schemes.push((name.into(), scheme));
        self
    }

    /// Asks `describe` about every method.
    #[must_use]
    pub fn describe(mut self, describe: impl Fn(&Method) -> Notes + Send + Sync + 'static) -> Self {
        self.describe = Arc::new(describe);
        self
    }
}

impl fmt::Debug for OpenApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenApi")
            .field("title", &self.title)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The document.
pub(crate) fn document(shared: &Shared, settings: &OpenApi) -> Value {
    let secured = !settings.security_schemes.is_empty();
    let mut operations = Operations::new(shared, secured);
    for route in &shared.routes {
        let notes = (settings.describe)(&shared.entries[route.method].method);
        if !notes.hidden {
            operations.add(route, &notes);
        }
    }
    let (paths, tags, schemas, responses) = operations.finish();

    let mut info = json!({"title": settings.title, "version": settings.version});
    if let Some(description) = &settings.description {
        info["description"] = json!(description);
    }
    if let Some((name, url)) = &settings.contact {
        info["contact"] = json!({"name": name, "url": url});
    }
    let servers: Vec<Value> = settings.servers.iter().map(|url| json!({"url": url})).collect();
    let mut components = json!({"schemas": schemas, "responses": responses});
    if secured {
        let schemes: Map<String, Value> = settings.security_schemes.iter().cloned().collect();
        components["securitySchemes"] = Value::Object(schemes);
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": info,
        "servers": servers,
        "tags": tags,
        "paths": paths,
        "components": components,
    });
    drop_needless_suffixes(&mut document);
    example::add(&mut document);
    document
}

/// A request's schema takes the plain name where no reply has it.
fn drop_needless_suffixes(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    let names: Vec<String> = schemas.keys().cloned().collect();
    let mut renamed: Vec<(String, String)> = Vec::new();
    for name in names {
        let Some(plain) = name.strip_suffix(INPUT).filter(|plain| !schemas.contains_key(*plain)) else {
            continue;
        };
        let plain = plain.to_owned();
        if let Some(schema) = schemas.remove(&name) {
            schemas.insert(plain.clone(), schema);
            renamed.push((format!("{SCHEMAS}{name}"), format!("{SCHEMAS}{plain}")));
        }
    }
    let renamed = renamed.into_iter().collect();
    rename(document, &renamed);
}

fn rename(value: &mut Value, renamed: &std::collections::HashMap<String, String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get_mut("$ref")
                && let Some(new) = renamed.get(reference)
            {
                reference.clone_from(new);
            }
            object.values_mut().for_each(|value| rename(value, renamed));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, renamed)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
