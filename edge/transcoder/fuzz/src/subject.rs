//! A message type and the two codecs of it that are compared.

use std::path::Path;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use transcoder::codec::{Codec, MessageType};

/// A message type.
pub struct Subject {
    pub codec: Codec,
    /// As `codec`, but fields without presence are printed always.
    pub verbose: Codec,
    pub message: MessageType,
    pub descriptor: MessageDescriptor,
}

/// `nasty.v1.Nasty`, which has every kind of field.
pub static NASTY: LazyLock<Subject> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(&*compiled("nasty.proto")).expect("protox wrote it");
    Subject::new(&pool, "nasty.v1.Nasty").expect("in nasty.proto")
});

/// The descriptor set of a file in `tests/proto`.
pub fn compiled(file: &str) -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // These sources are part of two crates: the transcoder's tests, and the fuzz targets one folder further in.
    let root = if here.join("fuzz_targets").exists() { here.join("..") } else { here.to_owned() };
    let includes = [root.join("tests/proto"), root.join("proto/third_party")];
    let mut compiler = protox::Compiler::new(includes).expect("the folders exist");
    compiler.include_imports(true).open_file(file).expect("the file compiles");
    compiler.encode_file_descriptor_set()
}

impl Subject {
    pub fn new(pool: &DescriptorPool, name: &str) -> Option<Self> {
        let codec = Codec::new(pool).ok()?;
        let message = codec.message_type(name)?;
        Some(Self {
            verbose: codec.clone().always_print_primitive_fields(true),
            codec,
            message,
            descriptor: pool.get_message_by_name(name)?,
        })
    }

    /// The wire bytes of a JSON text, by the transcoder.
    pub fn wire_of(&self, text: &str) -> Result<Vec<u8>, String> {
        let mut wire = Vec::new();
        self.codec.json_to_wire(self.message, text, &mut wire)?;
        Ok(wire)
    }

    /// The JSON text of wire bytes, by the transcoder.
    pub fn json_of(&self, wire: &[u8]) -> Result<String, &'static str> {
        let mut json = Vec::new();
        self.codec.wire_to_json(self.message, wire, &mut json)?;
        Ok(String::from_utf8(json).expect("JSON is UTF-8"))
    }

    /// As [`Self::json_of`], with defaults.
    pub fn verbose_json_of(&self, wire: &[u8]) -> Result<String, &'static str> {
        let mut json = Vec::new();
        self.verbose.wire_to_json(self.message, wire, &mut json)?;
        Ok(String::from_utf8(json).expect("JSON is UTF-8"))
    }

    /// The message that wire bytes are, by prost-reflect.
    pub fn decode(&self, wire: &[u8]) -> Result<DynamicMessage, String> {
        DynamicMessage::decode(self.descriptor.clone(), wire).map_err(|error| error.to_string())
    }

    /// The message that a JSON value is, by prost-reflect.
    pub fn deserialize(&self, json: &Value) -> Result<DynamicMessage, String> {
        DynamicMessage::deserialize(self.descriptor.clone(), json).map_err(|error| error.to_string())
    }
}

/// The JSON of a message, by prost-reflect.
pub fn reflected(message: &DynamicMessage) -> Result<Value, String> {
    message
        .serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new())
        .map_err(|error| error.to_string())
}

/// Where two JSON values differ first, and how.
pub fn difference(path: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            // Each key once: twice on every level would be a million times twenty levels down.
            let mut keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
            keys.find_map(|key| match (left.get(key), right.get(key)) {
                (Some(left), Some(right)) => difference(&format!("{path}.{key}"), left, right),
                // prost-reflect takes -0.0 for a default, which has a sign to lose.
                (Some(Value::Number(left)), None)
                    if left.as_f64().is_some_and(|zero| zero.to_bits() == 1 << 63) =>
                {
                    None
                }
                (left, right) => Some(format!("{path}.{key}: {left:?} is not {right:?}")),
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(index, (left, right))| difference(&format!("{path}[{index}]"), left, right)),
        (Value::Number(left), Value::Number(right)) if same_number(left, right) => None,
        // prost-reflect hands NaN and infinity in a wrapper to serde_json, which writes null.
        (Value::String(name), Value::Null) if matches!(name.as_str(), "NaN" | "Infinity" | "-Infinity") => {
            None
        }
        _ if left == right => None,
        _ => Some(format!("{path}: {left} is not {right}")),
    }
}

/// prost-reflect widens a float to a double before it is printed; the transcoder prints the shortest text of the float.
fn same_number(left: &serde_json::Number, right: &serde_json::Number) -> bool {
    let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) else { return false };
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "rounding is what is compared"
    )]
    let (narrow_left, narrow_right) = (left as f32, right as f32);
    let same = |left: f64, right: f64| left.total_cmp(&right).is_eq() || (left == 0.0 && right == 0.0);
    same(left, right)
        || (narrow_left.total_cmp(&narrow_right).is_eq() && same(f64::from(narrow_right), right))
}
