//! Rules of `google.api.http` over a descriptor set that is written for the case: fields of every kind in every role.

use http_body_util::Full;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use transcoder::Transcoder;

use crate::harness::{Got, Upstream, framed, reply, request, send};
use crate::routing::compiled;

const MESSAGES: &str = r#"
syntax = "proto2";
package w;
import "google/api/annotations.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

enum Kind { ONE = 1; TWO = 2; }
message M {
  optional string text = 1;
  optional Kind kind = 2;
  optional bytes blob = 3;
  optional double number = 4;
  optional M inner = 5;
  repeated M many = 6;
  map<string, M> named = 7;
  oneof either { int64 left = 8; string right = 9; M both = 10; }
  optional google.protobuf.Timestamp time = 11;
  optional google.protobuf.Duration span = 12;
  optional google.protobuf.FieldMask update_mask = 13;
  optional google.protobuf.Value value = 14;
  optional google.protobuf.Int64Value wide = 15;
  optional google.protobuf.Any any = 16;
  repeated Kind kinds = 17;
  optional group Grouped = 18 { optional string leaf = 1; optional M nested = 2; }
  optional google.protobuf.Struct free = 19;
  optional google.protobuf.ListValue list = 20;
  repeated google.protobuf.Value values = 21;
}
"#;

fn set(rules: &str) -> Vec<u8> {
    let service =
        format!("service S {{ rpc A(M) returns (M) {{ option (google.api.http) = {{ {rules} }}; }} }}");
    compiled(format!("{MESSAGES}\n{service}"))
}

fn message(set: &[u8], wire: &[u8]) -> Value {
    let pool = DescriptorPool::decode(set).unwrap();
    let descriptor = pool.get_message_by_name("w.M").unwrap();
    serde_json::to_value(DynamicMessage::decode(descriptor, wire).unwrap()).unwrap()
}

/// One request to a method with `rules`: the answer, and the message that reached the upstream.
async fn asked(rules: &str, method: &str, uri: &str, body: &str) -> (Got, Option<Value>) {
    let set = set(rules);
    let upstream = Upstream::echo();
    let transcoder = Transcoder::builder(&set).upstream("w.S", upstream.clone()).build().unwrap();
    let got = send(&transcoder, request(method, uri, body)).await;
    let seen = upstream.seen().pop().map(|seen| message(&set, &seen.message));
    (got, seen)
}

async fn reached(rules: &str, method: &str, uri: &str, body: &str) -> Value {
    let (got, seen) = asked(rules, method, uri, body).await;
    seen.unwrap_or_else(|| panic!("{method} {uri} {body}: {}", got.text))
}

async fn refused(rules: &str, method: &str, uri: &str, body: &str) -> (String, String) {
    let (got, seen) = asked(rules, method, uri, body).await;
    assert_eq!(seen, None, "{method} {uri} {body}");
    got.violation()
}

/// The answer when the reply is the JSON `reply_text`.
async fn answered(rules: &str, reply_text: &str) -> String {
    let set = set(rules);
    let pool = DescriptorPool::decode(set.as_slice()).unwrap();
    let mut json = serde_json::Deserializer::from_str(reply_text);
    let reply_message =
        DynamicMessage::deserialize(pool.get_message_by_name("w.M").unwrap(), &mut json).unwrap();
    let frame = framed(&reply_message.encode_to_vec());
    let upstream = Upstream::new(move |_| reply(frame.clone()));
    let transcoder = Transcoder::builder(&set).upstream("w.S", upstream).build().unwrap();
    send(&transcoder, http::Request::get("/a").body(Full::default()).unwrap()).await.text
}

#[tokio::test]
async fn a_response_body_is_printed_as_the_field_would_be_whatever_its_type() {
    for (field, value, absent) in [
        ("text", r#""a""#, r#""""#),
        ("kind", r#""TWO""#, r#""ONE""#),
        ("blob", r#""AQ==""#, r#""""#),
        ("number", "1.5", "0.0"),
        ("inner", r#"{"text":"x"}"#, "null"),
        ("inner", "{}", "null"),
        ("many", r#"[{"text":"x"},{}]"#, "[]"),
        ("named", r#"{"k":{"text":"x"}}"#, "{}"),
        ("left", r#""7""#, r#""0""#),
        ("right", r#""r""#, r#""""#),
        ("both", r#"{"left":"1"}"#, "null"),
        ("time", r#""2026-11-21T15:00:00Z""#, "null"),
        ("span", r#""1.500s""#, "null"),
        ("update_mask", r#""aB,c""#, "null"),
        ("value", r#"{"a":[null]}"#, "null"),
        ("wide", r#""5""#, "null"),
        ("any", r#"{"@type":"t/w.M","text":"x"}"#, "null"),
        ("kinds", r#"["ONE","TWO"]"#, "[]"),
        ("grouped", r#"{"leaf":"l"}"#, "null"),
        ("free", r#"{"k":true}"#, "null"),
        ("list", "[1.0]", "null"),
        ("values", r#"[null,"x"]"#, "[]"),
    ] {
        let rules = format!("get: \"/a\" response_body: \"{field}\"");
        let name = if field == "update_mask" { "updateMask" } else { field };
        let other = r#""text":"other""#;
        let around = if field == "text" { String::new() } else { format!(",{other}") };
        let full = format!("{{\"{name}\":{value}{around}}}");
        assert_eq!(answered(&rules, &full).await, value, "{field}");
        assert_eq!(answered(&rules, "{}").await, absent, "{field} absent");
    }
}

#[tokio::test]
async fn a_body_is_one_field_of_any_kind() {
    for (field, body) in [
        ("text", r#""a""#),
        ("kind", r#""TWO""#),
        ("blob", r#""AQ==""#),
        ("number", "1.5"),
        ("inner", r#"{"text":"x"}"#),
        ("many", r#"[{"text":"x"},{}]"#),
        ("named", r#"{"k":{"text":"x"}}"#),
        ("left", r#""7""#),
        ("both", r#"{"left":"1"}"#),
        ("time", r#""2026-11-21T15:00:00Z""#),
        ("value", "null"),
        ("value", "[1.0]"),
        ("wide", r#""5""#),
        ("kinds", r#"["ONE"]"#),
        ("grouped", r#"{"leaf":"l"}"#),
        ("free", "{}"),
        ("list", "[]"),
        ("values", "[null]"),
    ] {
        let rules = format!("post: \"/a\" body: \"{field}\"");
        let expected: Value = serde_json::from_str(&format!("{{\"{field}\":{body}}}")).unwrap();
        assert_eq!(reached(&rules, "POST", "/a", body).await, expected, "{field}");
        if field != "value" {
            assert_eq!(reached(&rules, "POST", "/a", "null").await, json!({}), "{field}: null is absent");
        }
        for broken in [format!("{body} {body}"), format!("{body},"), "\u{feff}null".to_owned()] {
            let (got, seen) = asked(&rules, "POST", "/a", &broken).await;
            assert_eq!((got.status.as_u16(), seen), (400, None), "{field}: {broken}");
        }
    }
}

#[tokio::test]
async fn groups_are_named_by_the_path_and_the_query_as_messages_are() {
    let rules = "get: \"/a/{grouped.leaf}\"";
    assert_eq!(
        reached(rules, "GET", "/a/x?grouped.nested.text=y&grouped.nested.grouped.leaf=z", "").await,
        json!({"grouped": {"leaf": "x", "nested": {"text": "y", "grouped": {"leaf": "z"}}}})
    );
    assert_eq!(refused(rules, "GET", "/a/x?grouped.leaf=y", "").await.0, "grouped.leaf");
    let whole = "put: \"/a/{grouped.leaf}\" body: \"*\"";
    let same = r#"{"grouped": {"leaf": "x"}}"#;
    assert_eq!(reached(whole, "PUT", "/a/x", same).await, json!({"grouped": {"leaf": "x"}}));
    assert_eq!(refused(whole, "PUT", "/a/y", same).await.0, "grouped.leaf");
    let patched = "patch: \"/a\" body: \"grouped\"";
    let seen = reached(patched, "PATCH", "/a", r#"{"leaf": "x", "nested": {"text": null}}"#).await;
    assert_eq!(seen["updateMask"], "leaf,nested.text");
}

#[tokio::test]
async fn what_the_path_binds_in_a_oneof_shuts_out_the_other_members() {
    let rules = "post: \"/a/{left}\" body: \"*\" additional_bindings { get: \"/b/{both.text}\" } \
                 additional_bindings { post: \"/c/{left}\" body: \"right\" }";
    let second = "is a second member of the oneof `either`";
    for (method, uri, body, field) in [
        ("POST", "/a/1", r#"{"right": ""}"#, "left"),
        ("POST", "/a/1", r#"{"both": {}}"#, "left"),
        ("GET", "/b/x?left=0", "", "left"),
        ("GET", "/b/x?right=", "", "right"),
        ("POST", "/c/1", r#""""#, "left"),
    ] {
        let found = refused(rules, method, uri, body).await;
        assert_eq!((&*found.0, &*found.1), (field, second), "{method} {uri} {body}");
    }
    assert_eq!(reached(rules, "POST", "/a/1", r#"{"right": null}"#).await, json!({"left": "1"}));
    assert_eq!(
        reached(rules, "GET", "/b/x?both.kind=TWO", "").await,
        json!({"both": {"text": "x", "kind": "TWO"}})
    );
}

#[tokio::test]
async fn one_value_in_two_spellings_is_no_contradiction() {
    let rules = "post: \"/a/{kind}/{number}/{blob}/{time}\" body: \"*\"";
    let uri = "/a/2/1e1/-_8/2026-11-21T16:00:00+01:00";
    let body = r#"{"kind": "TWO", "number": 10.0, "blob": "+/8=", "time": "2026-11-21T15:00:00Z"}"#;
    let seen = reached(rules, "POST", uri, body).await;
    assert_eq!(seen, json!({"kind": "TWO", "number": 10.0, "blob": "+/8=", "time": "2026-11-21T15:00:00Z"}));
    for other in [
        r#"{"kind": "ONE"}"#,
        r#"{"number": 10.5}"#,
        r#"{"blob": ""}"#,
        r#"{"time": "2026-11-21T16:00:00Z"}"#,
    ] {
        refused(rules, "POST", uri, other).await;
    }
}

#[tokio::test]
async fn an_encoded_verb_is_the_verb_and_an_encoded_colon_is_none() {
    let rules = "get: \"/a/{text}:find\" additional_bindings { get: \"/a/{text}\" }";
    assert_eq!(reached(rules, "GET", "/a/x:find", "").await, json!({"text": "x"}));
    assert_eq!(reached(rules, "GET", "/a/x:%66ind", "").await, json!({"text": "x"}));
    assert_eq!(reached(rules, "GET", "/a/x%3Afind", "").await, json!({"text": "x:find"}));
    assert_eq!(reached(rules, "GET", "/a/x:other", "").await, json!({"text": "x:other"}));
    assert_eq!(reached(rules, "GET", "/a/:find", "").await, json!({"text": ":find"}));
    assert_eq!(reached(rules, "GET", "/a/x:find:find", "").await, json!({"text": "x:find"}));
}

#[tokio::test]
async fn a_mask_that_is_made_of_the_body_has_a_limit() {
    fn tree(levels: u32) -> String {
        if levels == 0 {
            return r#"{"text":""}"#.to_owned();
        }
        let below = tree(levels - 1);
        format!(r#"{{"inner":{below},"both":{below}}}"#)
    }
    let rules = "patch: \"/a\" body: \"inner\"";
    let seen = reached(rules, "PATCH", "/a", &tree(3)).await;
    assert_eq!(seen["updateMask"].as_str().unwrap().split(',').count(), 8);
    let (_, rule) = refused(rules, "PATCH", "/a", &tree(12)).await;
    assert_eq!(rule, "changes more fields than a mask is made of: send an `updateMask`");
    // A client that brings its own is not in need of one.
    assert_eq!(reached(rules, "PATCH", "/a?updateMask=inner", &tree(12)).await["updateMask"], "inner");
}
