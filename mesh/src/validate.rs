//! Checks requests against the `buf.validate` rules of the contract, before any handler sees them.
//!
//! [`Rules`] are compiled once out of the descriptors; [`Layer`] applies them to the calls of a server. The meaning of the rules is
//! protovalidate's: rules of a field without presence hold for its zero value too, unless `IGNORE_IF_ZERO_VALUE`; of an unset field
//! with presence nothing but `required` is asked. Rules that are not enforced here cannot be used: the build of the contract refuses them.
//!
//! A violation names the field and the rule, never the value: it may be a password or a card number.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, MessageDescriptor};

use self::rules::Field;
pub use self::service::{Layer, REQUEST_BYTES_MAX, Validate};

mod rules;
mod service;

/// The most violations that are reported of one request: they travel in headers, whose size peers limit.
pub const VIOLATIONS_MAX: usize = 32;

/// One rule that a request breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `items[0].seat_number`; empty for the request as a whole.
    pub field: String,
    /// The rule, for example `STRING_MIN_LEN`.
    pub reason: &'static str,
    /// What the rule says, for example "must have at least 8 characters".
    pub description: String,
}

impl Violation {
    fn new(field: &str, reason: &'static str, description: String) -> Self {
        Self { field: field.to_owned(), reason, description }
    }
}

/// The rules of every message of the contract.
#[derive(Debug)]
pub struct Rules {
    /// By the message's full name. A message without anything to check is not there.
    messages: HashMap<String, Vec<Field>>,
}

impl Rules {
    /// Compiles the rules of our packages.
    ///
    /// # Panics
    ///
    /// When the pool has no `buf.validate`, a rule does not fit its field or a pattern is no regular expression: broken code.
    pub fn compile(pool: &DescriptorPool) -> Self {
        let extension = pool
            .get_extension_by_name("buf.validate.field")
            .expect("the contract imports `buf/validate/validate.proto`");
        let ours = pool.all_messages().filter(|message| message.package_name().starts_with("jetway."));
        let messages = ours
            .map(|message| (message.full_name().to_owned(), fields(&message, &extension)))
            .filter(|(_, fields)| !fields.is_empty())
            .collect();
        Self { messages }
    }

    /// Checks an encoded message of the type `input`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, up to [`VIOLATIONS_MAX`]; one violation `MALFORMED` without a field when it cannot be decoded.
    pub fn check(&self, input: &MessageDescriptor, wire: &[u8]) -> Result<(), Vec<Violation>> {
        let found = match DynamicMessage::decode(input.clone(), wire) {
            Ok(message) => self.check_message(&message, input),
            Err(_) => vec![malformed(input)],
        };
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    fn check_message(&self, message: &DynamicMessage, input: &MessageDescriptor) -> Vec<Violation> {
        let mut found = Vec::new();
        self.walk(message, input, "", &mut found);
        found.truncate(VIOLATIONS_MAX);
        found
    }

    /// Checks the fields of one message. Decoding bounds the depth.
    fn walk(
        &self,
        message: &DynamicMessage,
        descriptor: &MessageDescriptor,
        prefix: &str,
        found: &mut Vec<Violation>,
    ) {
        for field in self.messages.get(descriptor.full_name()).into_iter().flatten() {
            if found.len() >= VIOLATIONS_MAX {
                return;
            }
            let path = format!("{prefix}{}", field.descriptor.name());
            if !field.is_due(message, &path, found) {
                continue;
            }
            let value = message.get_field(&field.descriptor);
            let Some(nested) = field.check(&value, &path, found).then_some(field.nested.as_ref()).flatten()
            else {
                continue;
            };
            if let Some(inner) = value.as_message() {
                self.walk(inner, nested, &format!("{path}."), found);
            }
            for (index, item) in value.as_list().into_iter().flatten().enumerate() {
                if let Some(inner) = item.as_message().filter(|_| found.len() < VIOLATIONS_MAX) {
                    self.walk(inner, nested, &format!("{path}[{index}]."), found);
                }
            }
        }
    }
}

fn fields(message: &MessageDescriptor, extension: &ExtensionDescriptor) -> Vec<Field> {
    message.fields().filter_map(|field| Field::compile(field, extension)).collect()
}

fn malformed(input: &MessageDescriptor) -> Violation {
    Violation::new("", "MALFORMED", format!("is not an encoded {}", input.full_name()))
}
