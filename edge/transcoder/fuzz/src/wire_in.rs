//! Wire bytes in: what prost-reflect decodes is printed as prost-reflect prints it, and what it does not decode is refused.

use serde_json::Value;

use super::printable::is_printable;
use super::reference::as_it_is;
use super::subject::{NASTY, Subject, difference, reflected};
use super::tree;

/// Objects and lists beyond this depth are refused.
const DEPTH_MAX: usize = 100;

/// Data: the bytes.
pub fn check(data: &[u8]) {
    check_wire(&NASTY, data);
}

pub fn check_wire(subject: &Subject, wire: &[u8]) {
    let ours = subject.json_of(wire);
    let theirs = match subject.decode(wire) {
        Ok(theirs) => theirs,
        // prost stops at 100 levels of messages, the transcoder at as many of JSON.
        Err(why) if why.contains("recursion limit") => return,
        Err(why) => {
            assert!(ours.is_err(), "prints {ours:?} what cannot be decoded ({why}): {wire:x?}");
            return;
        }
    };
    if !is_printable(&theirs) {
        assert!(ours.is_err(), "prints {ours:?} what has no JSON: {wire:x?}");
        return;
    }
    // prost-reflect reads the length of a map entry whatever its wire type says.
    if ours == Err("wire type does not fit the field") {
        return;
    }
    if ours == Err("nested too deep") {
        let too_deep = reflected(&theirs).map_or(true, |json| levels(&json) > DEPTH_MAX);
        assert!(too_deep, "takes for too deep what is not: {wire:x?}");
        return;
    }
    let text = ours.unwrap_or_else(|why| panic!("refuses ({why}) what can be printed: {wire:x?}"));
    let tree = tree::parse(&text).unwrap_or_else(|| panic!("prints no JSON: {text}"));
    let printed = as_it_is(&tree).unwrap_or_else(|rule| panic!("prints {rule:?}: {text}"));
    // An Any of an unknown type is an error there.
    let Ok(mut expected) = reflected(&theirs) else { return };
    without_empty_values(&mut expected);
    assert_eq!(difference("", &printed, &expected), None, "{wire:x?}");
}

/// How many objects and lists are open at once.
fn levels(json: &Value) -> usize {
    match json {
        Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// prost-reflect prints an `Any` around `Empty` with a `value`; the transcoder, as C++ and Java do, as an object without fields.
fn without_empty_values(json: &mut Value) {
    match json {
        Value::Object(members) => {
            let of_empty = members
                .get("@type")
                .and_then(Value::as_str)
                .is_some_and(|url| url.ends_with("/google.protobuf.Empty"));
            if of_empty {
                members.remove("value");
            }
            members.values_mut().for_each(without_empty_values);
        }
        Value::Array(items) => items.iter_mut().for_each(without_empty_values),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
