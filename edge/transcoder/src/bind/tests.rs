use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};

use super::places::FEW;
use super::{Binder, Bound};
use crate::json::parse::{self, ParseOptions};
use crate::query;
use crate::table::Tables;

const OPTIONS: ParseOptions = ParseOptions { ignore_unknown: false, keep_defaults: true, depth_max: 100 };

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler =
        protox::Compiler::new([root.join("tests/proto"), root.join("proto/third_party")]).unwrap();
    compiler.include_imports(true).open_file("nasty.proto").unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
});

static TABLES: LazyLock<Tables> = LazyLock::new(|| Tables::compile(&[&POOL], false));

fn bound_in(message: &str, query: &str) -> Bound {
    let mut binder = Binder::new(&TABLES, TABLES.find(message).unwrap(), query.len(), OPTIONS);
    query::bind(&mut binder, query, None, false).unwrap();
    binder.finish()
}

fn bound(query: &str) -> Bound {
    bound_in("zoo.v1.Everything", query)
}

/// What is bound, joined to a message; field and rule when it cannot be.
fn joined(bound: &Bound, body: &str) -> Result<Value, (String, String)> {
    let mut wire = Vec::new();
    parse::message(&TABLES, bound.message, body, &mut wire, OPTIONS).unwrap();
    let said = bound.join(&TABLES, &mut wire, 0);
    said.map_err(|fault| (fault.field(), fault.rule().to_owned()))?;
    let descriptor = POOL.get_message_by_name(&TABLES.messages[bound.message].name).unwrap();
    Ok(serde_json::to_value(DynamicMessage::decode(descriptor, &*wire).unwrap()).unwrap())
}

#[test]
fn every_parameter_costs_the_same_however_many_there_are() {
    // Singular fields of more and more messages, one in the other: so many places as one query can name.
    let mut query = String::new();
    let mut prefix = String::new();
    let mut names = 0;
    for _ in 0..16 {
        for field in ["int32Value", "int64Value", "chosenBool", "timestamp"] {
            let value = if field == "timestamp" { "1970-01-01T00:00:01Z" } else { "1" };
            let value = if field == "chosenBool" { "true" } else { value };
            write!(query, "{prefix}{field}={value}&").unwrap();
            names += prefix.matches('.').count() + 1;
        }
        prefix.push_str("child.");
    }
    let bound = bound(&query);
    let steps = bound.places.steps();
    // Each part of a name is looked up once, and its oneof.
    assert!(steps <= names * 2 * FEW, "{steps} steps for {names} names");
    assert!(bound.places.len() > 4 * FEW, "few places show nothing");
}

#[test]
fn repeated_fields_and_entries_of_maps_need_no_look_at_what_is_bound() {
    let mut query = "int32s=1&".repeat(500);
    for key in 0..500 {
        write!(query, "labels[{key}]=v&").unwrap();
    }
    let bound = bound(&query);
    assert_eq!((bound.places.len(), bound.places.steps()), (0, 0));
    let message = joined(&bound, "{}").unwrap();
    assert_eq!(message["int32s"].as_array().unwrap().len(), 500);
    assert_eq!(message["labels"].as_object().unwrap().len(), 500);
}

#[test]
fn what_is_bound_once_joins_every_message() {
    let bound = bound("int32Value=7&child.stringValue=a&mask=a,bC&strings=x&strings=y");
    for _ in 0..3 {
        assert_eq!(
            joined(&bound, r#"{"child": {"boolValue": true}, "strings": ["w"]}"#).unwrap(),
            json!({"int32Value": 7, "child": {"stringValue": "a", "boolValue": true}, "mask": "a,bC",
                   "strings": ["w", "x", "y"]})
        );
    }
}

#[test]
fn a_value_that_a_message_has_already_is_not_added_again() {
    let bound = bound("int32Value=7&mask=a,bC&child.mask=d&strings=x");
    // Of a message that came twice, the lists would be twice as long.
    assert_eq!(
        joined(&bound, r#"{"mask": "a,bC", "child": {"mask": "d"}, "int32Value": 7}"#).unwrap(),
        json!({"int32Value": 7, "mask": "a,bC", "child": {"mask": "d"}, "strings": ["x"]})
    );
}

#[test]
fn a_message_that_contradicts_what_is_bound_is_refused_by_the_name_of_the_field() {
    let two = super::TWO_VALUES.to_owned();
    let choice = "is a second member of the oneof `choice`".to_owned();
    for (query, body, field, rule) in [
        ("int32Value=7", r#"{"int32Value": 8}"#, "int32_value", &two),
        ("int32Value=7", r#"{"int32Value": 0}"#, "int32_value", &two),
        (
            "child.child.int32Value=7",
            r#"{"child":{"child":{"int32Value":8}}}"#,
            "child.child.int32_value",
            &two,
        ),
        ("mask=a", r#"{"mask": "a,b"}"#, "mask", &two),
        ("chosenString=a", r#"{"chosenInt32": 0}"#, "chosen_string", &choice),
        ("chosenChild.boolValue=true", r#"{"chosenBool": true}"#, "chosen_child", &choice),
        ("child.chosenString=a", r#"{"child": {"chosenChild": {}}}"#, "child.chosen_string", &choice),
    ] {
        assert_eq!(joined(&bound(query), body), Err((field.to_owned(), rule.clone())), "{query} {body}");
    }
}

#[test]
fn wire_bytes_that_are_no_message_are_left_to_the_upstream() {
    let bound = bound("int32Value=7");
    for malformed in [&[0x18][..], &[0x1b, 0x18, 0x08], &[0x00]] {
        let mut wire = malformed.to_vec();
        bound.join(&TABLES, &mut wire, 0).unwrap();
        assert_eq!(wire, [malformed, &[0x18, 7]].concat());
    }
}

#[test]
fn groups_are_bound_as_messages_are() {
    let query = "one.inner=1&one.nasty.one.inner=2&one.nasty.text=a&picked.yes=true&needed=3";
    let bound = bound_in("nasty.v1.Nasty", query);
    let whole = json!({"needed": 3, "picked": {"yes": true},
                       "one": {"inner": 1, "nasty": {"text": "a", "one": {"inner": 2}}}});
    assert_eq!(joined(&bound, "{}").unwrap(), whole);
    // What is there already is seen inside of groups too.
    assert_eq!(joined(&bound, &whole.to_string()).unwrap(), whole);
    let contradicting = r#"{"one": {"nasty": {"one": {"inner": 4}}}}"#;
    let (field, rule) = joined(&bound, contradicting).unwrap_err();
    assert_eq!((&*field, &*rule), ("one.nasty.one.inner", super::TWO_VALUES));
    let (field, _) = joined(&bound, r#"{"pickedText": ""}"#).unwrap_err();
    assert_eq!(field, "picked");
}
