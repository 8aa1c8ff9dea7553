//! Query parameters.

use serde_json::json;

use crate::harness::{Upstream, builder, reached, refused, request, send};

async fn seen(query: &str) -> serde_json::Value {
    reached("GET", &format!("/v1/search?{query}"), "", "Everything").await
}

async fn rejected(query: &str) -> (String, String) {
    refused("GET", &format!("/v1/search?{query}"), "").await
}

#[tokio::test]
async fn every_scalar_kind_has_a_text_form() {
    let got = seen(
        "doubleValue=1.5&floatValue=NaN&int32Value=-1&int64Value=-9223372036854775808&uint32Value=7&uint64Value=8&\
         sint32Value=-9&sint64Value=-10&fixed32Value=11&fixed64Value=12&sfixed32Value=-13&sfixed64Value=-14&\
         boolValue=true&stringValue=a+b%26c%2B&bytesValue=-_8&diet=EXTINCT",
    )
    .await;
    assert_eq!(
        got,
        json!({"doubleValue": 1.5, "floatValue": "NaN", "int32Value": -1, "int64Value": "-9223372036854775808",
               "uint32Value": 7, "uint64Value": "8", "sint32Value": -9, "sint64Value": "-10", "fixed32Value": 11,
               "fixed64Value": "12", "sfixed32Value": -13, "sfixed64Value": "-14", "boolValue": true,
               "stringValue": "a b&c+", "bytesValue": "+/8=", "diet": "EXTINCT"})
    );
    assert_eq!(seen("diet=2").await, json!({"diet": "CARNIVORE"}));
}

#[tokio::test]
async fn nested_and_repeated_fields_by_json_and_proto_names() {
    let got = seen(
        "child.stringValue=a&child.child.int32_value=1&child.int32s=1&child.int32s=2&diets=1&diets=EXTINCT",
    )
    .await;
    assert_eq!(
        got,
        json!({"child": {"stringValue": "a", "int32s": [1, 2], "child": {"int32Value": 1}}, "diets": ["HERBIVORE", "EXTINCT"]})
    );
}

#[tokio::test]
async fn wrappers_times_and_masks_have_a_text_form() {
    let got = seen("timestamp=2024-01-01T00:00:00Z&duration=1.5s&mask=a,bC&int64Wrapper=0&stringWrapper=x&timestamps=1970-01-01T00:00:00Z").await;
    assert_eq!(
        got,
        json!({"timestamp": "2024-01-01T00:00:00Z", "duration": "1.500s", "mask": "a,bC", "int64Wrapper": "0",
               "stringWrapper": "x", "timestamps": ["1970-01-01T00:00:00Z"]})
    );
    assert_eq!(rejected("timestamp=yesterday").await.0, "timestamp");
}

#[tokio::test]
async fn map_entries_and_json_values() {
    let got =
        seen("labels[a]=1&labels%5Bb%5D=2&counts[-1]=5&value=%7B%22a%22:[1]%7D&struct=%7B%7D&list=[null]")
            .await;
    assert_eq!(
        got,
        json!({"labels": {"a": "1", "b": "2"}, "counts": {"-1": "5"}, "value": {"a": [1.0]}, "struct": {}, "list": [null]})
    );
    assert_eq!(rejected("labels[a]=1&labels[a]=2").await.1, "is given twice");
    assert_eq!(rejected("counts[1]=1&counts[1e0]=2").await, ("counts[1e0]".into(), "is given twice".into()));
    assert_eq!(rejected("counts[x]=1").await.0, "counts[\"x\"]");
    assert_eq!(seen("labels[]=1&labels[a[b]]=2").await, json!({"labels": {"": "1", "a[b]": "2"}}));
    assert_eq!(rejected("labels=x").await.0, "labels");
    assert_eq!(rejected("strings[a]=x").await.1, "is not a map");
    assert_eq!(rejected("value={").await.0, "value");
}

#[tokio::test]
async fn an_unknown_parameter_is_400() {
    for (query, field) in [
        ("nope=1", "nope"),
        ("child.nope=1", "child.nope"),
        ("stringValue.x=1", "stringValue.x"),
        ("timestamp.seconds=1", "timestamp.seconds"),
        ("children.boolValue=true", "children.boolValue"),
        ("=1", ""),
        ("child..boolValue=true", "child..boolValue"),
    ] {
        assert_eq!(
            rejected(query).await,
            (field.to_owned(), "is not a parameter of the request".to_owned()),
            "{query}"
        );
    }
    let endless = vec!["child"; 500].join(".");
    assert_eq!(rejected(&format!("{endless}=1")).await.1, "is not a parameter of the request");
}

#[tokio::test]
async fn an_unknown_parameter_is_discarded_when_the_builder_says_so() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).ignore_unknown_query_parameters(true).build().unwrap();
    let got = send(&transcoder, request("GET", "/v1/search?nope=1&boolValue=true", "")).await;
    assert_eq!(got.json(), json!({"boolValue": true}));
}

#[tokio::test]
async fn a_singular_field_twice_is_400() {
    assert_eq!(
        rejected("boolValue=true&bool_value=true").await,
        ("bool_value".to_owned(), "is given twice".to_owned())
    );
}

#[tokio::test]
async fn two_members_of_a_oneof_are_400() {
    let (field, rule) = rejected("chosenString=a&chosenInt32=1").await;
    assert_eq!((field.as_str(), rule.as_str()), ("chosenInt32", "is a second member of the oneof `choice`"));
}

#[tokio::test]
async fn a_value_out_of_range_is_400() {
    for (query, field) in [
        ("int32Value=2147483648", "int32Value"),
        ("boolValue=1", "boolValue"),
        ("bytesValue=%24", "bytesValue"),
        ("diet=x", "diet"),
        ("child=%7B%7D", "child"),
    ] {
        assert_eq!(rejected(query).await.0, field, "{query}");
    }
}

#[tokio::test]
async fn enums_are_given_by_name_and_by_number() {
    for (given, name) in
        [("CARNIVORE", "CARNIVORE"), ("2", "CARNIVORE"), ("EXTINCT", "EXTINCT"), ("-1", "EXTINCT")]
    {
        assert_eq!(seen(&format!("diet={given}")).await, json!({"diet": name}), "{given}");
    }
    assert_eq!(seen("diet=77").await, json!({"diet": 77}), "a value that is not declared yet");
    for wrong in ["carnivore", "", "1.5", "2147483648"] {
        assert_eq!(rejected(&format!("diet={wrong}")).await.0, "diet", "{wrong}");
    }
}

#[tokio::test]
async fn bytes_are_given_in_both_base64_alphabets() {
    for given in ["%2B%2F8%3D", "%2B%2F8", "-_8%3D", "-_8"] {
        assert_eq!(seen(&format!("bytesValue={given}")).await, json!({"bytesValue": "+/8="}), "{given}");
    }
}

#[tokio::test]
async fn every_wrapper_is_given_as_what_it_wraps() {
    let got = seen(
        "doubleWrapper=-2.5&floatWrapper=0.5&int64Wrapper=-9223372036854775808&uint64Wrapper=18446744073709551615&\
         int32Wrapper=-1&uint32Wrapper=0&boolWrapper=false&stringWrapper=&bytesWrapper=AQ",
    )
    .await;
    assert_eq!(
        got,
        json!({"doubleWrapper": -2.5, "floatWrapper": 0.5, "int64Wrapper": "-9223372036854775808",
               "uint64Wrapper": "18446744073709551615", "int32Wrapper": -1, "uint32Wrapper": 0, "boolWrapper": false,
               "stringWrapper": "", "bytesWrapper": "AQ=="})
    );
    assert_eq!(rejected("uint32Wrapper=-1").await.0, "uint32Wrapper");
}

#[tokio::test]
async fn a_query_as_long_as_may_be_is_bound_whole() {
    let room = 8 * 1024 - "/v1/search?".len();
    let pairs = room / "int32s=1&".len();
    let got = seen(&"int32s=1&".repeat(pairs)).await;
    assert_eq!(got, json!({"int32s": vec![1; pairs]}));
}
