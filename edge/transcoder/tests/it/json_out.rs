//! How a reply is printed.

use serde_json::json;

use crate::harness::{Got, Upstream, builder, frame, framed, reply, request, send, upstream_invalid};
use transcoder::Builder;

async fn printed_with(frame: bytes::Bytes, set: impl Fn(Builder) -> Builder) -> Got {
    let upstream = Upstream::new(move |_| reply(frame.clone()));
    let transcoder = set(builder(&upstream)).build().unwrap();
    send(&transcoder, request("GET", "/v1/search", "")).await
}

async fn printed(wire: &[u8]) -> Got {
    printed_with(framed(wire), |builder| builder).await
}

async fn list(uri: &str, json: &'static str) -> Got {
    let upstream = Upstream::new(move |_| reply(frame("ListAnimalsResponse", json)));
    let transcoder = builder(&upstream).build().unwrap();
    send(&transcoder, request("GET", uri, "")).await
}

#[tokio::test]
async fn names_are_lower_camel_and_defaults_are_left_out() {
    // int32_value = 0 and string_value = "" explicitly on the wire, optional_int32 = 0.
    let got = printed(&[0x18, 0, 0x72, 0, 0x90, 0x01, 0]).await;
    assert_eq!(got.text, r#"{"optionalInt32":0}"#);
}

#[tokio::test]
async fn wide_integers_are_strings() {
    let body = r#"{"int64Value":"-5","uint64Value":"18446744073709551615","int64s":["1"],"int32Value":-5}"#;
    let got = printed_with(frame("Everything", body), |builder| builder).await;
    assert_eq!(got.json(), serde_json::from_str::<serde_json::Value>(body).unwrap());
}

#[tokio::test]
async fn defaults_are_printed_when_the_builder_says_so() {
    let set = |builder: Builder| builder.always_print_primitive_fields(true);
    let got = printed_with(frame("Everything", r#"{"child": {}}"#), set).await.json();
    for part in [&got, &got["child"]] {
        assert_eq!(part["int32Value"], 0);
        assert_eq!(part["int64Value"], "0");
        assert_eq!(part["stringValue"], "");
        assert_eq!(part["diet"], "DIET_UNSPECIFIED");
        assert_eq!(part["strings"], json!([]));
        assert_eq!(part["labels"], json!({}));
        assert!(part.get("optionalInt32").is_none());
        assert!(part.get("timestamp").is_none());
        assert!(part.get("chosenString").is_none());
    }
}

#[tokio::test]
async fn enums_are_numbers_when_the_builder_says_so() {
    let set = |builder: Builder| builder.always_print_enums_as_ints(true);
    let got = printed_with(frame("Everything", r#"{"diet": "EXTINCT"}"#), set).await;
    assert_eq!(got.text, r#"{"diet":-1}"#);
}

#[tokio::test]
async fn names_are_as_in_the_proto_when_the_builder_says_so() {
    let set = |builder: Builder| builder.preserve_proto_field_names(true);
    let got = printed_with(frame("Everything", r#"{"otherName": "a", "int32Value": 1}"#), set).await;
    assert_eq!(got.json(), json!({"renamed": "a", "int32_value": 1}));
}

#[tokio::test]
async fn times_are_canonical() {
    let body = r#"{"timestamp":"2024-02-29T12:00:00.100Z","duration":"-0.000000001s","timestamps":["1969-12-31T23:59:59.999999Z","0001-01-01T00:00:00Z"]}"#;
    let got = printed_with(frame("Everything", body), |builder| builder).await;
    assert_eq!(got.json(), serde_json::from_str::<serde_json::Value>(body).unwrap());
}

#[tokio::test]
async fn occurrences_of_one_field_apart_are_merged() {
    // int32s [1], int32_value 1, int32s [2], int32_value 2; child {int32_value 1}, child {bool_value true}.
    let got =
        printed(&[0xba, 1, 1, 1, 0x18, 1, 0xba, 1, 1, 2, 0x18, 2, 0x8a, 1, 2, 0x18, 1, 0x8a, 1, 2, 0x68, 1])
            .await;
    assert_eq!(
        got.json(),
        json!({"int32s": [1, 2], "int32Value": 2, "child": {"int32Value": 1, "boolValue": true}})
    );
}

#[tokio::test]
async fn the_last_member_of_a_oneof_wins() {
    // chosen_string "a", then chosen_int32 7.
    let got = printed(&[0xc2, 2, 1, b'a', 0xc8, 2, 7]).await;
    assert_eq!(got.json(), json!({"chosenInt32": 7}));
}

#[tokio::test]
async fn the_last_of_equal_map_keys_wins() {
    let got = printed(&[0x92, 2, 6, 10, 1, b'k', 18, 1, b'a', 0x92, 2, 6, 10, 1, b'k', 18, 1, b'b']).await;
    assert_eq!(got.text, r#"{"labels":{"k":"b"}}"#);
}

#[tokio::test]
async fn packed_and_unpacked_lists_are_both_read() {
    // int32s (declared packed) as 1, 2 unpacked; unpacked (declared so) as packed 3, 4.
    let got = printed(&[0xb8, 1, 1, 0xb8, 1, 2, 0x8a, 2, 2, 3, 4]).await;
    assert_eq!(got.json(), json!({"int32s": [1, 2], "unpacked": [3, 4]}));
}

#[tokio::test]
async fn unknown_fields_and_groups_are_passed_over() {
    // Field 1000: varint, fixed64, bytes, group with a nested field, fixed32.
    let got = printed(&[
        0xc0, 0x3e, 1, 0xc1, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0, 0xc2, 0x3e, 1, 0, 0xc3, 0x3e, 8, 1, 0xc4, 0x3e,
        0xc5, 0x3e, 0, 0, 0, 0, 0x68, 1,
    ])
    .await;
    assert_eq!(got.text, r#"{"boolValue":true}"#);
}

#[tokio::test]
async fn bytes_that_are_no_message_of_the_type_are_502() {
    for wire in [
        &[0x18][..],
        &[0x72, 5, b'a'],
        &[0x72, 1, 0xff],
        &[0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        &[0x1d, 0, 0, 0, 0],
        &[0x00],
        &[0x07],
        &[0xc3, 0x3e, 8, 1],
        &[0x8a, 1, 1, 0x18],
        // A timestamp with nanos of -1, and one beyond year 9999.
        &[0x92, 3, 11, 16, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
        &[0x92, 3, 7, 8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20],
    ] {
        let got = printed(wire).await;
        assert_eq!(got.status, 502, "{wire:?}: {}", got.text);
        assert_eq!(got.json(), upstream_invalid());
    }
}

#[tokio::test]
async fn a_reply_nested_without_end_is_502() {
    let mut wire: Vec<u8> = Vec::new();
    for _ in 0..3000 {
        let mut outer = vec![0x8a, 1];
        let mut length = wire.len();
        while length >= 128 {
            outer.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        outer.push(u8::try_from(length).unwrap());
        outer.extend_from_slice(&wire);
        wire = outer;
    }
    assert_eq!(printed(&wire).await.status, 502);
}

#[tokio::test]
async fn an_any_of_an_unknown_type_keeps_its_bytes() {
    let url = b"type.googleapis.com/no.Such";
    let mut any = vec![10, u8::try_from(url.len()).unwrap()];
    any.extend_from_slice(url);
    any.extend_from_slice(&[18, 2, 8, 1]);
    let mut wire = vec![0xc2, 3, u8::try_from(any.len()).unwrap()];
    wire.extend_from_slice(&any);
    let got = printed(&wire).await;
    assert_eq!(got.json(), json!({"any": {"@type": "type.googleapis.com/no.Such", "value": "CAE="}}));
}

#[tokio::test]
async fn response_body_is_one_field_of_any_kind() {
    const FULL: &str = r#"{"animals": [{"name": "a"}, {"legs": 4}], "nextPageToken": "t", "totals": {"a": 1}, "first": {"name": "f"}, "total": "9"}"#;
    assert_eq!(list("/v1/list/animals", FULL).await.text, r#"[{"name":"a"},{"legs":4}]"#);
    assert_eq!(list("/v1/list/token", FULL).await.text, r#""t""#);
    assert_eq!(list("/v1/list/totals", FULL).await.text, r#"{"a":1}"#);
    assert_eq!(list("/v1/list/first", FULL).await.text, r#"{"name":"f"}"#);
    assert_eq!(list("/v1/list/total", FULL).await.text, r#""9""#);
}

#[tokio::test]
async fn a_response_body_field_that_is_absent_is_its_default() {
    assert_eq!(list("/v1/list/animals", "{}").await.text, "[]");
    assert_eq!(list("/v1/list/token", "{}").await.text, r#""""#);
    assert_eq!(list("/v1/list/totals", "{}").await.text, "{}");
    assert_eq!(list("/v1/list/first", "{}").await.text, "null");
    assert_eq!(list("/v1/list/total", "{}").await.text, r#""0""#);
}

#[tokio::test]
async fn a_response_body_in_a_oneof_is_absent_when_another_member_comes_later() {
    async fn body(uri: &str, wire: &'static [u8]) -> String {
        let upstream = Upstream::new(move |_| reply(framed(wire)));
        let transcoder = builder(&upstream).build().unwrap();
        send(&transcoder, request("GET", uri, "")).await.text
    }
    // chosen_string "x" and chosen_int32 1; chosen_child {int32_value 1}, chosen_int32 1, chosen_child {bool_value true}.
    const STRING: &[u8] = &[0xc2, 2, 1, b'x', 0xc8, 2, 1];
    const CHILD: &[u8] = &[0xd2, 2, 2, 0x18, 1, 0xc8, 2, 1, 0xd2, 2, 2, 0x68, 1];
    assert_eq!(body("/v1/chosen/string", &STRING[..4]).await, r#""x""#);
    assert_eq!(body("/v1/chosen/string", STRING).await, r#""""#);
    assert_eq!(body("/v1/chosen/child", CHILD).await, r#"{"boolValue":true}"#);
}

#[tokio::test]
async fn enums_are_names_and_numbers_where_there_is_no_name() {
    let got =
        printed_with(frame("Everything", r#"{"diets": ["CARNIVORE", "EXTINCT", 77]}"#), |builder| builder)
            .await;
    assert_eq!(got.text, r#"{"diets":["CARNIVORE","EXTINCT",77]}"#);
}

#[tokio::test]
async fn masks_anys_and_json_values_are_canonical() {
    let any = r#"{"@type":"type.googleapis.com/zoo.v1.Animal","displayName":"Leo","home":{"city":"x"}}"#;
    let special = r#"{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"}"#;
    for body in [
        r#"{"mask":"displayName,home.city"}"#.to_owned(),
        r#"{"mask":"*"}"#.to_owned(),
        r#"{"struct":{"a":[1.5,null,"x",{"b":false}]},"value":null,"list":[[],{}]}"#.to_owned(),
        format!(r#"{{"any":{any}}}"#),
        format!(r#"{{"any":{special}}}"#),
    ] {
        let got = printed_with(frame("Everything", &body), |builder| builder).await;
        assert_eq!(got.text, body);
    }
}

#[tokio::test]
async fn keys_of_a_map_that_was_merged_are_not_taken_for_keys_of_the_map_around_it() {
    let put = |out: &mut Vec<u8>, tag: &[u8], content: &[u8]| {
        out.extend_from_slice(tag);
        out.push(u8::try_from(content.len()).unwrap());
        out.extend_from_slice(content);
    };
    // by_id {1: {labels {k: a}, labels {k: b}}, 2: the same, 3: the same}.
    let mut inner = Vec::new();
    for value in [b'a', b'b'] {
        put(&mut inner, &[0x92, 2], &[10, 1, b'k', 18, 1, value]);
    }
    let mut wire = Vec::new();
    for key in 1..=3 {
        let mut entry = vec![8, key];
        put(&mut entry, &[18], &inner);
        put(&mut wire, &[0xaa, 2], &entry);
    }
    let one = r#"{"labels":{"k":"b"}}"#;
    let expected = format!(r#"{{"byId":{{"1":{one},"2":{one},"3":{one}}}}}"#);
    assert_eq!(printed(&wire).await.text, expected);
}
