//! The direct codec against prost-reflect, on random messages.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};

use crate::harness::{POOL, Upstream, builder, framed, reply, request, send};

/// Deterministic random numbers (`SplitMix64`): proptest picks the seed and so can repeat a failure.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn count(&mut self, end: u64) -> usize {
        usize::try_from(self.below(end)).expect("small")
    }

    fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        let at = self.count(u64::try_from(choices.len()).expect("small"));
        choices[at].clone()
    }

    fn low32(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).expect("32 bits")
    }

    fn int64(&mut self) -> i64 {
        let random = self.next().cast_signed();
        self.pick(&[0, 1, -1, i64::MIN, i64::MAX, 1 << 53, -(1 << 53) - 1, 127, 128, 300, random])
    }

    fn int32(&mut self) -> i32 {
        let random = self.low32().cast_signed();
        self.pick(&[0, 1, -1, i32::MIN, i32::MAX, 63, 64, 16_384, random])
    }

    fn double(&mut self) -> f64 {
        // With few digits: serde_json, which reads our answer back, is not exact to the last bit with many.
        let random = f64::from(self.int32()) / 256.0;
        self.pick(&[
            0.0,
            1.0,
            -1.5,
            1e300,
            5e-324,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            random,
        ])
    }

    fn finite(&mut self) -> f64 {
        let double = self.double();
        if double.is_finite() { double } else { 2.5 }
    }

    fn float(&mut self) -> f32 {
        let random = f32::from(self.next().to_le_bytes()[0]) / 16.0;
        // prost-reflect refuses the shortest text of f32::MAX, which has a test of its own.
        self.pick(&[0.0, 0.1, -1.5, 3.4e38, f32::MIN_POSITIVE, f32::INFINITY, f32::NAN, random])
    }

    fn text(&mut self) -> String {
        let alphabet =
            ['a', 'Z', '0', '"', '\\', '/', '\n', '\u{0}', '\u{1f}', '\u{7f}', 'é', '\u{2028}', '😀', ' '];
        let length = self.pick(&[0, 1, 3, 8, 130]);
        (0..length).map(|_| self.pick(&alphabet)).collect()
    }

    fn bytes(&mut self) -> Bytes {
        let length = self.count(9);
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn value(kind: &Kind, random: &mut Random, depth: u32) -> Value {
    match kind {
        Kind::Double => Value::F64(random.double()),
        Kind::Float => Value::F32(random.float()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(random.int32()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(random.int64()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(random.int32().cast_unsigned()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(random.int64().cast_unsigned()),
        Kind::Bool => Value::Bool(random.below(2) == 1),
        Kind::String => Value::String(random.text()),
        Kind::Bytes => Value::Bytes(random.bytes()),
        Kind::Enum(descriptor) if descriptor.full_name() == "google.protobuf.NullValue" => {
            Value::EnumNumber(0)
        }
        Kind::Enum(_) => Value::EnumNumber(random.pick(&[0, 1, 2, -1, 77])),
        Kind::Message(descriptor) => Value::Message(message(descriptor, random, depth + 1)),
    }
}

fn with(descriptor: &MessageDescriptor, fields: &[(&str, Value)]) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in fields {
        message.set_field_by_name(name, value.clone());
    }
    message
}

fn message(descriptor: &MessageDescriptor, random: &mut Random, depth: u32) -> DynamicMessage {
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let seconds =
                random.pick(&[0, 1, -1, -62_135_596_800, 253_402_300_799, 951_782_400, 1_763_737_200]);
            let nanos = random.pick(&[0, 1, 500_000_000, 120_000, 999_999_999]);
            with(descriptor, &[("seconds", Value::I64(seconds)), ("nanos", Value::I32(nanos))])
        }
        "google.protobuf.Duration" => {
            let sign = random.pick(&[1, -1]);
            let seconds = random.pick(&[0, 1, 59, 315_575_999_999]) * sign;
            let nanos = random.pick(&[0, 1, 500_000_000, 120_000, 999_999_999]);
            let nanos = if sign < 0 { -nanos } else { nanos };
            with(descriptor, &[("seconds", Value::I64(seconds)), ("nanos", Value::I32(nanos))])
        }
        // prost-reflect prints a wrapped NaN or infinity as null, so these have a test of their own.
        "google.protobuf.DoubleValue" => with(descriptor, &[("value", Value::F64(random.finite()))]),
        "google.protobuf.FloatValue" => with(descriptor, &[("value", Value::F32(random.pick(&[0.0, 0.5])))]),
        "google.protobuf.FieldMask" => {
            let paths = ["a", "a_b.c", "display_name", "x1.y_z"];
            let list = (0..random.count(4)).map(|_| Value::String(random.pick(&paths).to_owned())).collect();
            with(descriptor, &[("paths", Value::List(list))])
        }
        "google.protobuf.Value" => {
            let text = random.text();
            let finite = random.finite();
            let limit = if depth > 4 { 4 } else { 6 };
            match random.below(limit) {
                0 => with(descriptor, &[("null_value", Value::EnumNumber(0))]),
                1 => with(descriptor, &[("number_value", Value::F64(finite))]),
                2 => with(descriptor, &[("string_value", Value::String(text))]),
                3 => with(descriptor, &[("bool_value", Value::Bool(true))]),
                branch => {
                    let name = if branch == 4 { "struct_value" } else { "list_value" };
                    let field = descriptor.get_field_by_name(name).expect("in struct.proto");
                    let inner = value(&field.kind(), random, depth);
                    with(descriptor, &[(name, inner)])
                }
            }
        }
        "google.protobuf.Any" => {
            let name = random.pick(&["zoo.v1.Animal", "google.protobuf.Timestamp", "google.protobuf.Value"]);
            let inner = POOL.get_message_by_name(name).expect("in the set");
            let packed = message(&inner, random, depth + 1).encode_to_vec();
            let url = format!("type.googleapis.com/{name}");
            with(descriptor, &[("type_url", Value::String(url)), ("value", Value::Bytes(packed.into()))])
        }
        _ => {
            let mut built = DynamicMessage::new(descriptor.clone());
            let sparse = if depth == 0 { 2 } else { 8 };
            for field in descriptor.fields() {
                if random.below(sparse) == 0 && !(depth > 3 && matches!(field.kind(), Kind::Message(_))) {
                    let random_value = field_value(&field, random, depth);
                    built.set_field(&field, random_value);
                }
            }
            built
        }
    }
}

fn field_value(field: &FieldDescriptor, random: &mut Random, depth: u32) -> Value {
    let count = random.count(4);
    if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
        let key_kind = entry.map_entry_key_field().kind();
        let value_kind = entry.map_entry_value_field().kind();
        let entries: HashMap<MapKey, Value> = (0..count)
            .map(|_| {
                let key = value(&key_kind, random, depth).into_map_key().expect("a key kind");
                (key, value(&value_kind, random, depth))
            })
            .collect();
        return Value::Map(entries);
    }
    if field.is_list() {
        return Value::List((0..count).map(|_| value(&field.kind(), random, depth)).collect());
    }
    value(&field.kind(), random, depth)
}

fn random_message(seed: u64) -> DynamicMessage {
    let descriptor = POOL.get_message_by_name("zoo.v1.Everything").expect("in zoo.proto");
    message(&descriptor, &mut Random(seed), 0)
}

fn json(message: &DynamicMessage) -> serde_json::Value {
    serde_json::to_value(message).expect("valid for prost-reflect")
}

/// Where two JSON values differ first, and how.
fn difference(path: &str, left: &serde_json::Value, right: &serde_json::Value) -> Option<String> {
    use serde_json::Value::{Array, Object};
    match (left, right) {
        (Object(left), Object(right)) if left.keys().eq(right.keys()) => {
            left.iter().find_map(|(key, value)| difference(&format!("{path}.{key}"), value, &right[key]))
        }
        (Array(left), Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(index, (left, right))| difference(&format!("{path}[{index}]"), left, right)),
        _ if left == right => None,
        _ => Some(format!("{path}: {left} is not {right}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn the_codec_agrees_with_prost_reflect_in_both_directions(seed in any::<u64>()) {
        let original = random_message(seed);
        let text = serde_json::to_string(&original).expect("valid for prost-reflect");
        let encoded = original.encode_to_vec();
        let upstream = Upstream::new(move |_| reply(framed(&encoded)));
        let transcoder = builder(&upstream).build().expect("zoo.proto has valid rules");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let got = runtime.block_on(send(&transcoder, request("POST", "/v1/echo", &text)));

        prop_assert_eq!(got.status.as_u16(), 200, "{} for {}", got.text, text);
        let seen = upstream.last();
        let sent = DynamicMessage::decode(original.descriptor(), seen.message.clone()).expect("valid wire");
        prop_assert_eq!(difference("sent", &json(&sent), &json(&original)), None);
        prop_assert_eq!(seen.message.len(), original.encoded_len(), "not the canonical size: {}", text);
        let mut deserializer = serde_json::Deserializer::from_str(&got.text);
        let printed = DynamicMessage::deserialize(original.descriptor(), &mut deserializer).expect("valid JSON");
        prop_assert_eq!(difference("printed", &json(&printed), &json(&original)), None);
    }

    #[test]
    fn every_double_and_float_goes_through_unchanged(bits64 in any::<u64>(), bits32 in any::<u32>()) {
        let (double, float) = (f64::from_bits(bits64), f32::from_bits(bits32));
        prop_assume!(double.is_finite() && float.is_finite());
        let upstream = Upstream::echo();
        let transcoder = builder(&upstream).build().expect("zoo.proto has valid rules");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let body = format!("{{\"doubles\":[{double:e}],\"floats\":[{float}]}}");
        let got = runtime.block_on(send(&transcoder, request("POST", "/v1/echo", &body)));
        let (doubles, floats) = got.text.split_once("],").expect("two lists");
        let printed: f64 = doubles.trim_start_matches("{\"doubles\":[").parse().expect("a double");
        let printed32: f32 = floats.trim_start_matches("\"floats\":[").trim_end_matches("]}").parse().expect("a float");
        prop_assert_eq!((printed.to_bits(), printed32.to_bits()), (bits64, bits32));
        let message = &upstream.last().message;
        prop_assert_eq!(&message[3..11], &bits64.to_le_bytes());
        prop_assert_eq!(&message[14..], &bits32.to_le_bytes());
    }

    #[test]
    fn arbitrary_bytes_from_the_upstream_are_a_valid_reply_or_502(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        seed in any::<u64>(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut bytes = random_message(seed).encode_to_vec();
        let cut = at.index(bytes.len() + 1);
        bytes.truncate(cut);
        bytes.extend_from_slice(&noise);
        let descriptor = POOL.get_message_by_name("zoo.v1.Everything").expect("in zoo.proto");
        let decoded = DynamicMessage::decode(descriptor, bytes.as_slice());
        let upstream = Upstream::new(move |_| reply(framed(&bytes)));
        let transcoder = builder(&upstream).build().expect("zoo.proto has valid rules");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let got = runtime.block_on(send(&transcoder, request("GET", "/v1/search", "")));
        prop_assert!(got.status == 200 || got.status == 502, "{}", got.status);
        prop_assert!(got.status == 502 || decoded.is_ok(), "prost-reflect refuses it: {:?}", decoded.err());
        prop_assert!(serde_json::from_str::<serde_json::Value>(&got.text).is_ok(), "{}", got.text);
    }

    #[test]
    fn arbitrary_text_is_never_more_than_a_refusal(text in "[\\[\\]{}:,\"0-9a-zA-Z.\\\\ué \\-+]{0,60}") {
        let upstream = Upstream::echo();
        let transcoder = builder(&upstream).build().expect("zoo.proto has valid rules");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let body = format!("{{\"value\":{text}}}");
        let got = runtime.block_on(send(&transcoder, request("POST", "/v1/echo", &body)));
        let valid = serde_json::from_str::<serde_json::Value>(&body).is_ok_and(|value| {
            value.as_object().is_some_and(|object| object.len() == 1)
        });
        // serde_json keeps the last of duplicate keys, which ProtoJSON refuses: the one difference that is allowed.
        prop_assert!(if valid { got.status == 200 || got.text.contains("twice") } else { got.status == 400 }, "{body}: {}", got.text);
    }
}
