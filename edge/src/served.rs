//! What the log and the metrics know of a method, looked up once.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use metrics::{Counter, Histogram};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use proto::policy::Method as Policy;
use tonic::Code;
use transcoder::Method;

/// How many gRPC codes there are.
const CODES: usize = 17;

/// One method.
pub(crate) struct Served {
    /// The path of the call, `/package.Service/Method`.
    pub(crate) rpc: String,
    /// Whether the path of a request may be logged: not when it holds the value of a field that is marked `debug_redact`.
    pub(crate) shows_path: bool,
    /// Its policy, for a method of the contract.
    pub(crate) policy: Option<&'static Policy>,
    pub(crate) duration: Histogram,
    calls: [OnceLock<Counter>; CODES],
    /// The descriptors that this was read from; others may say otherwise.
    descriptors: Option<DescriptorPool>,
}

impl Served {
    /// What stands for every method that there is not.
    pub(crate) fn other() -> Self {
        Self::new("_OTHER".to_owned(), true)
    }

    pub(crate) fn new(rpc: String, shows_path: bool) -> Self {
        let duration = metrics::histogram!("edge_request_duration_seconds", "rpc_method" => rpc.clone());
        let policy = Policy::of(&rpc);
        Self {
            rpc,
            shows_path,
            policy,
            duration,
            calls: [const { OnceLock::new() }; CODES],
            descriptors: None,
        }
    }

    /// Counts one call that ended with this code.
    pub(crate) fn count(&self, code: Code) {
        let number = i32::from(code);
        let Some(calls) = usize::try_from(number).ok().and_then(|index| self.calls.get(index)) else {
            return;
        };
        let counter = calls.get_or_init(|| {
            metrics::counter!(
                "edge_calls_total", "rpc_method" => self.rpc.clone(), "rpc_status_code" => number.to_string(),
            )
        });
        counter.increment(1);
    }
}

/// The methods that were called so far: as many as the descriptors have, at most.
pub(crate) struct Methods {
    known: RwLock<HashMap<String, Arc<Served>>>,
    other: Served,
}

impl Default for Methods {
    fn default() -> Self {
        Self { known: RwLock::default(), other: Served::other() }
    }
}

impl Methods {
    /// What stands for every method that there is not.
    pub(crate) fn other(&self) -> &Served {
        &self.other
    }

    /// A method that there is.
    pub(crate) fn of(&self, method: &Method) -> Arc<Served> {
        let descriptors = method.descriptor().parent_pool();
        let is_current = |served: &&Arc<Served>| served.descriptors.as_ref() == Some(descriptors);
        let known = {
            let methods = self.known.read().unwrap_or_else(PoisonError::into_inner);
            methods.get(method.path()).filter(is_current).cloned()
        };
        known.unwrap_or_else(|| {
            let served = Served {
                descriptors: Some(descriptors.clone()),
                ..Served::new(method.path().to_owned(), !captures_redacted(method))
            };
            let served = Arc::new(served);
            let mut methods = self.known.write().unwrap_or_else(PoisonError::into_inner);
            methods.insert(method.path().to_owned(), Arc::clone(&served));
            served
        })
    }
}

/// Whether a path of the method has a variable whose field, or a message that the field is in, is marked `debug_redact`.
fn captures_redacted(method: &Method) -> bool {
    let options = method.descriptor().options();
    let Some(http) = method.descriptor().parent_pool().get_extension_by_name("google.api.http") else {
        return false;
    };
    let rule = options.get_extension(&http);
    let input = method.input();
    rule.as_message().is_some_and(|rule| {
        let mut templates = Vec::new();
        templates_of(rule, &mut templates);
        templates.iter().flat_map(|template| variables(template)).any(|path| is_redacted(&input, path))
    })
}

/// The path templates of a `google.api.HttpRule`, those of its additional bindings and of a custom kind included.
fn templates_of(rule: &DynamicMessage, out: &mut Vec<String>) {
    for (field, value) in rule.fields() {
        match (field.name(), value) {
            ("get" | "put" | "post" | "delete" | "patch" | "path", Value::String(template)) => {
                out.push(template.clone());
            }
            ("custom", Value::Message(custom)) => templates_of(custom, out),
            ("additional_bindings", Value::List(bindings)) => {
                bindings.iter().filter_map(Value::as_message).for_each(|binding| templates_of(binding, out));
            }
            _ => {}
        }
    }
}

/// The field paths of the variables of a template: `a.b` of `/v1/{a.b=shelves/*}`.
fn variables(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split(['=', '}']).next())
}

fn is_redacted(input: &MessageDescriptor, path: &str) -> bool {
    let mut message = Some(input.clone());
    path.split('.').any(|name| {
        let field = message.take().and_then(|message| message.get_field_by_name(name.trim()));
        let Some(field) = field else { return false };
        if let Kind::Message(inner) = field.kind() {
            message = Some(inner);
        }
        is_marked(&field)
    })
}

fn is_marked(field: &FieldDescriptor) -> bool {
    let options = field.options();
    options.get_field_by_name("debug_redact").is_some_and(|mark| mark.as_bool() == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_template_are_found() {
        let found = |template| variables(template).collect::<Vec<_>>();
        assert_eq!(found("/v1/{name=shelves/*}/{a.b}:read"), ["name", "a.b"]);
        assert_eq!(found("/v1/shelves"), [""; 0]);
    }

    #[test]
    fn a_field_that_is_marked_is_redacted_also_inside_of_another() {
        let pool = proto::descriptor_pool();
        let message = |name: &str| pool.get_message_by_name(name).expect("the contract has it");
        let sign_in = message("jetway.identity.v1.SignInRequest");
        assert!(is_redacted(&sign_in, "password"));
        assert!(!is_redacted(&sign_in, "email"));
        assert!(!is_redacted(&sign_in, "nothing.at.all"));
        let verify = message("jetway.acquirer.v1.VerifyCardRequest");
        assert!(is_redacted(&verify, "card.number"));
        assert!(!is_redacted(&verify, "card.exp_year"));
    }
}
