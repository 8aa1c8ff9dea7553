//! What a JSON body may be, and what it becomes.

use serde_json::json;

use crate::harness::{POOL, Upstream, builder, echo, reached, refused, request, send};

async fn accepted(body: &str) -> serde_json::Value {
    reached("POST", "/v1/echo", body, "Everything").await
}

/// Field and rule of the refusal of a body.
async fn rejected(body: &str) -> (String, String) {
    refused("POST", "/v1/echo", body).await
}

#[tokio::test]
async fn json_that_is_not_rfc_8259_is_refused() {
    for body in [
        "{",
        "{}}",
        "[]",
        "1",
        "\"x\"",
        "null x",
        "{\"boolValue\": true,}",
        "{boolValue: true}",
        "{'boolValue': true}",
        "{} // comment",
        "/**/{}",
        "{\"int32Value\": 01}",
        "{\"int32Value\": +1}",
        "{\"doubleValue\": .5}",
        "{\"doubleValue\": 1.}",
        "{\"doubleValue\": NaN}",
        "{\"stringValue\": \"a\nb\"}",
        "{\"stringValue\": \"\\x\"}",
        "{\"stringValue\": \"\\ud800\"}",
        "{\"stringValue\": \"\\udc00\\ud800\"}",
        "{\"boolValue\" true}",
        "{\"boolValue\": tru}",
        "{\"strings\": [\"a\",]}",
        "{\"strings\": [\"a\" \"b\"]}",
        "{} {}",
        "\u{feff}{}",
    ] {
        let (_, rule) = rejected(body).await;
        assert!(!rule.is_empty(), "{body}");
    }
}

#[tokio::test]
async fn a_syntax_error_says_where() {
    let (field, rule) = rejected("{\n  \"boolValue\": true,\n  x\n}").await;
    assert_eq!(field, "");
    assert_eq!(rule, "invalid JSON at line 3 column 3: expected a string");
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_refused() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    let body = bytes::Bytes::from_static(b"{\"stringValue\": \"\xff\"}");
    let request = http::Request::post("/v1/echo")
        .header("content-type", "application/json")
        .body(http_body_util::Full::new(body))
        .unwrap();
    let got = send(&transcoder, request).await;
    assert_eq!(got.violation().1, "the body is not UTF-8");
}

#[tokio::test]
async fn escapes_are_resolved_in_keys_and_values() {
    let seen = accepted(r#"{"string\u0056alue": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#).await;
    assert_eq!(seen, json!({"stringValue": "\"\\/\u{8}\u{c}\n\r\té😀"}));
}

#[tokio::test]
async fn json_and_proto_names_are_both_keys() {
    let seen = accepted(r#"{"string_value": "a", "int32Value": 1, "renamed": "b"}"#).await;
    assert_eq!(seen, json!({"stringValue": "a", "int32Value": 1, "otherName": "b"}));
}

#[tokio::test]
async fn a_duplicate_key_is_refused_by_whatever_name() {
    assert_eq!(rejected(r#"{"boolValue": true, "boolValue": true}"#).await.0, "bool_value");
    assert_eq!(rejected(r#"{"boolValue": true, "bool_value": null}"#).await.0, "bool_value");
    assert_eq!(
        rejected(r#"{"labels": {"a": "1", "\u0061": "2"}}"#).await,
        ("labels".into(), "has the same key twice".into())
    );
    assert_eq!(rejected(r#"{"struct": {"x": {"a": 1, "a": 2}}}"#).await.0, "struct[\"x\"]");
}

#[tokio::test]
async fn an_unknown_field_is_refused_with_its_path() {
    let (field, rule) = rejected(r#"{"children": [{}, {"child": {"nope": 1}}]}"#).await;
    assert_eq!(field, "children[1].child.nope");
    assert_eq!(rule, "is not a field of the request");
}

#[tokio::test]
async fn an_unknown_field_is_discarded_when_the_builder_says_so() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).ignore_unknown_fields(true).build().unwrap();
    let body = r#"{"nope": {"deep": [1, "x", null]}, "boolValue": true}"#;
    let got = send(&transcoder, request("POST", "/v1/echo", body)).await;
    assert_eq!(got.json(), json!({"boolValue": true}));
    let got = send(&transcoder, request("POST", "/v1/echo", r#"{"nope": {"deep": [1 2]}}"#)).await;
    assert_eq!(got.status, 400);
}

#[tokio::test]
async fn integers_are_numbers_or_strings_and_exact() {
    let seen = accepted(
        r#"{"int32Value": "-2147483648", "int64Value": 9223372036854775807, "uint64Value": "18446744073709551615",
            "uint32Value": 4294967295, "sint32Value": 1e3, "sint64Value": 100.0, "int32s": [1.5e1, "2"]}"#,
    )
    .await;
    assert_eq!(
        seen,
        json!({"int32Value": i32::MIN, "int64Value": "9223372036854775807", "uint64Value": "18446744073709551615",
               "uint32Value": u32::MAX, "sint32Value": 1000, "sint64Value": "100", "int32s": [15, 2]})
    );
}

#[tokio::test]
async fn an_integer_out_of_range_or_with_a_fraction_is_refused() {
    for (field, value) in [
        ("int32_value", "2147483648"),
        ("int32_value", "-2147483649"),
        ("uint32_value", "-1"),
        ("uint32_value", "4294967296"),
        ("int64_value", "9223372036854775808"),
        ("int64_value", "\"1e19\""),
        ("uint64_value", "18446744073709551616"),
        ("sint32_value", "0.5"),
        ("fixed32_value", "1e-1"),
        ("sfixed64_value", "\" 1\""),
        ("fixed64_value", "\"\""),
        ("int32_value", "true"),
        ("int32_value", "\"0x1\""),
        ("int64_value", "1e999999999999999999999"),
    ] {
        let (named, rule) = rejected(&format!("{{\"{field}\": {value}}}")).await;
        assert_eq!(named, field, "{value}");
        assert!(rule.starts_with("must be a"), "{rule}");
    }
}

#[tokio::test]
async fn floats_take_numbers_strings_and_the_three_names() {
    let seen = accepted(
        r#"{"doubleValue": "NaN", "floatValue": "-Infinity", "doubles": ["Infinity", "1.5", 2e3, -0.25]}"#,
    )
    .await;
    assert_eq!(
        seen,
        json!({"doubleValue": "NaN", "floatValue": "-Infinity", "doubles": ["Infinity", 1.5, 2000.0, -0.25]})
    );
}

#[tokio::test]
async fn a_float_out_of_range_is_refused() {
    for body in [
        r#"{"doubleValue": 1e400}"#,
        r#"{"floatValue": 3.5e38}"#,
        r#"{"doubleValue": "inf"}"#,
        r#"{"doubleValue": "+1"}"#,
        r#"{"floatValue": "nan"}"#,
        r#"{"floatValue": ""}"#,
    ] {
        assert!(rejected(body).await.1.starts_with("must be a number"), "{body}");
    }
}

#[tokio::test]
async fn enums_are_names_or_numbers() {
    let seen = accepted(r#"{"diet": "EXTINCT", "diets": ["HERBIVORE", 2, -1, 77]}"#).await;
    assert_eq!(seen, json!({"diet": "EXTINCT", "diets": ["HERBIVORE", "CARNIVORE", "EXTINCT", 77]}));
    assert_eq!(
        rejected(r#"{"diet": "herbivore"}"#).await,
        ("diet".into(), "is not a value of the enum".into())
    );
    assert_eq!(rejected(r#"{"diets": [1, 1.5]}"#).await.0, "diets[1]");
    assert_eq!(rejected(r#"{"diet": true}"#).await.0, "diet");
}

#[tokio::test]
async fn bytes_take_both_alphabets_padded_or_not() {
    let seen = accepted(r#"{"blobs": ["+/8=", "-_8=", "-_8", "", "AQ", "AQI", "AQID"]}"#).await;
    assert_eq!(seen, json!({"blobs": ["+/8=", "+/8=", "+/8=", "", "AQ==", "AQI=", "AQID"]}));
    for wrong in ["A", "A===", "AQ=", "A Q=", "A$==", "=AQ="] {
        assert_eq!(rejected(&format!("{{\"bytesValue\": \"{wrong}\"}}")).await.0, "bytes_value", "{wrong}");
    }
}

#[tokio::test]
async fn maps_take_every_kind_of_key() {
    let seen = accepted(
        r#"{"counts": {"-1": "5"}, "byBool": {"true": "HERBIVORE"}, "byId": {"7": {"boolValue": true}},
            "times": {"a": "1970-01-01T00:00:01Z"}, "blobsByNumber": {"-3": "AQ=="}}"#,
    )
    .await;
    assert_eq!(
        seen,
        json!({"counts": {"-1": "5"}, "byBool": {"true": "HERBIVORE"}, "byId": {"7": {"boolValue": true}},
               "times": {"a": "1970-01-01T00:00:01Z"}, "blobsByNumber": {"-3": "AQ=="}})
    );
    assert_eq!(rejected(r#"{"counts": {"x": 1}}"#).await.0, "counts[\"x\"]");
    assert_eq!(rejected(r#"{"counts": {"1": "x"}}"#).await.0, "counts[\"1\"]");
    assert_eq!(rejected(r#"{"byId": {"7": {"boolValue": 1}}}"#).await.0, "by_id[\"7\"].bool_value");
    assert_eq!(rejected(r#"{"labels": {"a": null}}"#).await.1, "must not be null in a map");
}

#[tokio::test]
async fn a_oneof_given_twice_is_refused() {
    let (field, rule) = rejected(r#"{"chosenString": "", "chosenInt32": 0}"#).await;
    assert_eq!((field.as_str(), rule.as_str()), ("chosen_int32", "is a second member of the oneof `choice`"));
    let seen = accepted(r#"{"chosenString": "", "chosenInt32": null}"#).await;
    assert_eq!(seen, json!({"chosenString": ""}));
}

#[tokio::test]
async fn null_is_absent_except_for_value_and_null_value() {
    let seen = accepted(r#"{"int32Value": null, "child": null, "strings": null, "labels": null, "timestamp": null, "value": null, "chosenNull": null}"#).await;
    assert_eq!(seen, json!({"value": null, "chosenNull": null}));
    assert_eq!(
        rejected(r#"{"strings": [null]}"#).await,
        ("strings[0]".into(), "must not be null in a list".into())
    );
    assert_eq!(accepted(r#"{"values": [null]}"#).await, json!({"values": [null]}));
}

#[tokio::test]
async fn well_known_types_have_their_own_json() {
    let body = r#"{"timestamp":"2024-02-29T23:59:59.120Z","duration":"-1.500s","mask":"displayName,home.city",
        "struct":{"a":[1,{"b":null}]},"value":{"x":true},"list":[1,"two"],"empty":{},"int64Wrapper":"5","boolWrapper":false,
        "stringWrapper":"","bytesWrapper":"AQ==","doubleWrapper":1.5,"any":{"@type":"type.googleapis.com/zoo.v1.Animal","legs":4}}"#;
    let seen = accepted(body).await;
    let mut expected: serde_json::Value = serde_json::from_str(body).unwrap();
    expected["struct"] = json!({"a": [1.0, {"b": null}]});
    expected["list"] = json!([1.0, "two"]);
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_time_is_rfc_3339_and_in_range() {
    assert_eq!(
        accepted(r#"{"timestamp": "2024-01-01T01:00:00+01:00"}"#).await,
        json!({"timestamp": "2024-01-01T00:00:00Z"})
    );
    for wrong in [
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01t00:00:00z",
        "2024-01-01 00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00.1234567890Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "2024-01-01T00:00:00+24:00",
        "+024-01-01T00:00:00Z",
        "",
    ] {
        assert_eq!(rejected(&format!("{{\"timestamp\": \"{wrong}\"}}")).await.0, "timestamp", "{wrong}");
    }
}

#[tokio::test]
async fn a_duration_is_in_seconds_and_in_range() {
    for wrong in [
        "1",
        "1m",
        "s",
        "-s",
        ".5s",
        "1.s",
        "1.1234567890s",
        "315576000001s",
        "-315576000001s",
        "1 s",
        "1S",
        "+1s",
        "--1s",
    ] {
        assert_eq!(rejected(&format!("{{\"duration\": \"{wrong}\"}}")).await.0, "duration", "{wrong}");
    }
    // The range is that of the seconds; nanoseconds come on top.
    for (given, canonical) in [
        ("315576000000.999999999s", "315576000000.999999999s"),
        ("-315576000000.1s", "-315576000000.100s"),
        ("0000000000000001s", "1s"),
        ("-0.000001s", "-0.000001s"),
        ("1.0000s", "1s"),
    ] {
        assert_eq!(accepted(&format!("{{\"duration\": \"{given}\"}}")).await, json!({"duration": canonical}));
    }
}

#[tokio::test]
async fn a_field_mask_is_lower_camel_case() {
    for wrong in ["display_name", "a,,b", ",", "a b"] {
        assert_eq!(rejected(&format!("{{\"mask\": \"{wrong}\"}}")).await.0, "mask", "{wrong}");
    }
    assert_eq!(accepted(r#"{"mask": ""}"#).await, json!({"mask": ""}));
    // All fields, as AIP-134 writes it; no part of a path.
    assert_eq!(accepted(r#"{"mask": "*"}"#).await, json!({"mask": "*"}));
    assert_eq!(rejected(r#"{"mask": "a.*"}"#).await.0, "mask");
}

#[tokio::test]
async fn an_any_needs_a_known_type() {
    assert_eq!(rejected(r#"{"any": {"legs": 4}}"#).await, ("any.@type".into(), "is required".into()));
    assert_eq!(rejected(r#"{"any": {"@type": "type.googleapis.com/no.Such"}}"#).await.0, "any.@type");
    assert_eq!(
        rejected(r#"{"any": {"@type": "type.googleapis.com/google.protobuf.Duration"}}"#).await.0,
        "any.value"
    );
    let body = r#"{"any": {"legs": 4, "@type": "type.googleapis.com/zoo.v1.Animal"}}"#;
    assert_eq!(accepted(body).await["any"]["legs"], 4);
    let body = r#"{"any": {"value": "1.500s", "@type": "type.googleapis.com/google.protobuf.Duration"}}"#;
    assert_eq!(accepted(body).await["any"]["value"], "1.500s");
    assert_eq!(
        rejected(r#"{"any": {"@type": "type.googleapis.com/zoo.v1.Animal", "nope": 1}}"#).await.0,
        "any.nope"
    );
}

#[tokio::test]
async fn a_body_nested_too_deep_is_refused() {
    let nested = |levels: usize| format!("{{\"value\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let (got, _) = echo("POST", "/v1/echo", &nested(99)).await;
    // prost itself decodes no more than 100 levels, and each JSON array is two messages: only the transcoder is asked here.
    assert_ne!(got.status, 400, "{}", got.text);
    assert_eq!(rejected(&nested(100)).await.1, "nested too deep");
    let children = format!("{}{}", "{\"child\":".repeat(101), "{}".to_owned() + &"}".repeat(101));
    assert_eq!(rejected(&children).await.1, "nested too deep");
    let unclosed = "[".repeat(100_000);
    assert_eq!(rejected(&format!("{{\"value\":{unclosed}")).await.1, "nested too deep");
}

#[tokio::test]
async fn a_long_message_gets_its_length_in_front() {
    let text = "x".repeat(20_000);
    let body = format!(
        r#"{{"child":{{"child":{{"stringValue":"{text}"}},"int32s":[{}]}}}}"#,
        vec!["300"; 200].join(",")
    );
    let seen = accepted(&body).await;
    assert_eq!(seen["child"]["child"]["stringValue"], text);
    assert_eq!(seen["child"]["int32s"].as_array().unwrap().len(), 200);
}

#[tokio::test]
async fn an_empty_body_is_an_empty_message() {
    assert_eq!(reached("POST", "/v1/echo", "", "Everything").await, json!({}));
    assert!(POOL.get_message_by_name("google.rpc.Status").is_none(), "the set does not bring its own");
}

#[tokio::test]
async fn the_largest_float_goes_through_both_ways() {
    let (got, seen) = echo("POST", "/v1/echo", r#"{"floatValue": 3.4028235e38}"#).await;
    assert_eq!(seen.expect("reached").message[1..], f32::MAX.to_le_bytes());
    assert_eq!(got.text, r#"{"floatValue":3.4028235e+38}"#);
}

#[tokio::test]
async fn wrapped_floats_may_be_the_three_names() {
    let body = r#"{"doubleWrapper":"NaN","floatWrapper":"-Infinity"}"#;
    assert_eq!(echo("POST", "/v1/echo", body).await.0.text, body);
}

#[tokio::test]
async fn raw_control_characters_are_refused() {
    for byte in 0..0x20_u8 {
        let raw = char::from(byte);
        for body in [format!("{{\"stringValue\": \"a{raw}b\"}}"), format!("{{\"string{raw}Value\": \"a\"}}")]
        {
            let (_, rule) = rejected(&body).await;
            assert!(rule.starts_with("invalid JSON"), "{byte:02x}: {rule}");
        }
        let escaped = accepted(&format!("{{\"stringValue\": \"\\u{byte:04x}\"}}")).await;
        assert_eq!(escaped, json!({"stringValue": raw.to_string()}));
    }
}

#[tokio::test]
async fn data_after_the_json_text_are_refused() {
    for after in ["x", "{}", "null", ",", "]", "\u{0}", "// end"] {
        let (_, rule) = rejected(&format!("{{\"boolValue\": true}} {after}")).await;
        assert!(rule.starts_with("invalid JSON"), "{after:?}: {rule}");
    }
    assert_eq!(accepted("\t{\"boolValue\": true}\r\n ").await, json!({"boolValue": true}));
}
