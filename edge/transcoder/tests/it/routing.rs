//! From an HTTP method and path to a method and its fields.

use serde_json::json;
use transcoder::{BuildError, Transcoder};

use crate::harness::{DESCRIPTOR_SET, Upstream, builder, echo, error_info, reached, refused, request, send};

async fn animal(uri: &str) -> serde_json::Value {
    reached("GET", uri, "", "GetAnimalRequest").await
}

async fn status(method: &str, uri: &str) -> u16 {
    echo(method, uri, "").await.0.status.as_u16()
}

#[tokio::test]
async fn a_post_with_a_body_reaches_its_method_and_comes_back() {
    let (got, seen) = echo("POST", "/v1/echo", r#"{"stringValue": "lion", "int64Value": "7"}"#).await;
    assert_eq!(got.status, 200, "{}", got.text);
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("content-length"), got.text.len().to_string());
    assert_eq!(got.json(), json!({"stringValue": "lion", "int64Value": "7"}));
    let seen = seen.expect("reached");
    assert_eq!(seen.path, "/zoo.v1.Zoo/Echo");
    assert_eq!(seen.headers["content-type"], "application/grpc");
    assert_eq!(seen.headers["te"], "trailers");
    assert_eq!(seen.headers.len(), 2, "{:?}", seen.headers);
}

#[tokio::test]
async fn every_verb_and_custom_kinds_are_routed() {
    for method in ["GET", "DELETE", "PROPFIND"] {
        let seen = reached(method, "/v1/search/lion", "", "Everything").await;
        assert_eq!(seen, json!({"stringValue": "lion"}), "{method}");
    }
    let seen = reached("PUT", "/v1/search/lion", r#"{"boolValue": true}"#, "Everything").await;
    assert_eq!(seen, json!({"boolValue": true, "child": {"stringValue": "lion"}}));
    let seen = reached("PATCH", "/v1/animals/leo", r#"{"legs": 4}"#, "UpdateAnimalRequest").await;
    assert_eq!(seen["animal"], json!({"name": "animals/leo", "legs": 4}));
    for method in ["GET", "POST", "LINK"] {
        assert_eq!(status(method, "/v1/any-method").await, 200, "{method}");
    }
}

#[tokio::test]
async fn literal_beats_star_beats_double_star_whatever_the_order() {
    let path = async |uri: &str| echo("GET", uri, "").await.1.expect("reached").path;
    assert_eq!(path("/v1/order/special").await, "/zoo.v1.Zoo/GetSpecial");
    assert_eq!(path("/v1/order/other").await, "/zoo.v1.Zoo/GetStar");
    assert_eq!(path("/v1/order/special/deeper").await, "/zoo.v1.Zoo/GetRest");
    assert_eq!(path("/v1/order").await, "/zoo.v1.Zoo/GetRest");
    assert_eq!(animal("/v1/animals/special").await, json!({}));
    assert_eq!(animal("/v1/animals/other").await, json!({"name": "animals/other"}));
}

#[tokio::test]
async fn variables_take_the_segments_of_their_pattern() {
    assert_eq!(animal("/v1/one/leo").await, json!({"name": "leo"}));
    assert_eq!(animal("/v1/files/a/b/c").await, json!({"name": "a/b/c"}));
    assert_eq!(animal("/v1/files").await, json!({}));
    assert_eq!(animal("/v1/deep/cages/7/animals/leo/paw").await, json!({"name": "cages/7/animals/leo/paw"}));
    assert_eq!(animal("/v1/cages/7/animals/leo").await, json!({"name": "leo"}));
}

#[tokio::test]
async fn a_variable_may_be_a_nested_field() {
    let seen = reached("GET", "/v1/search/leo/deep", "", "Everything").await;
    assert_eq!(seen, json!({"child": {"child": {"stringValue": "leo"}}}));
}

#[tokio::test]
async fn a_variable_is_of_the_kind_of_its_field() {
    let seen = reached("GET", "/v1/numbers/-5/CARNIVORE", "", "Everything").await;
    assert_eq!(seen, json!({"int32Value": -5, "diet": "CARNIVORE"}));
    assert_eq!(reached("GET", "/v1/numbers/5/1", "", "Everything").await["diet"], "HERBIVORE");
    let (field, rule) = refused("GET", "/v1/numbers/x/1", "").await;
    assert_eq!(
        (field.as_str(), rule.as_str()),
        ("int32_value", "must be an integer from -2147483648 to 2147483647")
    );
}

#[tokio::test]
async fn a_custom_verb_is_no_part_of_the_variable() {
    assert_eq!(animal("/v1/animals/leo:legs").await, json!({"name": "animals/leo"}));
    assert_eq!(animal("/v1/animals/leo:other").await, json!({"name": "animals/leo:other"}));
    assert_eq!(animal("/v1/animals/leo%3Alegs").await, json!({"name": "animals/leo%3Alegs"}));
    assert_eq!(animal("/v1/one/leo%3Alegs").await, json!({"name": "leo:legs"}));
    let seen = reached("POST", "/v1/search/leo:whole", "{}", "Everything").await;
    assert_eq!(seen, json!({"stringValue": "leo"}));
}

#[tokio::test]
async fn an_encoded_slash_stays_encoded() {
    assert_eq!(animal("/v1/one/a%2Fb%20c%2f").await, json!({"name": "a%2Fb c%2f"}));
    assert_eq!(animal("/v1/files/a%2Fb/c%20%3F%C3%A9").await, json!({"name": "a%2Fb/c %3Fé"}));
}

#[tokio::test]
async fn an_encoded_literal_is_the_literal() {
    assert_eq!(status("GET", "/v1/%61nimals/leo").await, 200);
}

#[tokio::test]
async fn a_malformed_escape_or_bytes_that_are_not_utf_8_are_400() {
    for uri in [
        "/v1/one/%",
        "/v1/one/%4",
        "/v1/one/%zz",
        "/v1/one/%ff",
        "/v1/files/a/%ED%A0%80",
        "/no/such/%C3",
        "/v1/search?stringValue=%f",
        "/v1/search?stringValue=%ff",
        "/v1/search?string%zzValue=a",
        "/v1/search?string%ffValue=a",
    ] {
        assert_eq!(status("GET", uri).await, 400, "{uri}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404() {
    for uri in ["/", "/v1", "/v1/nothing", "/v2/one/leo", "/v1/one/leo/deeper", "/V1/one/leo"] {
        let (got, seen) = echo("GET", uri, "").await;
        let details = [error_info("ROUTE_NOT_FOUND")];
        assert_eq!(got.json(), json!({"code": 5, "message": "no such path", "details": details}), "{uri}");
        assert_eq!(got.status, 404);
        assert!(seen.is_none());
    }
}

#[tokio::test]
async fn a_trailing_or_a_double_slash_does_not_match() {
    for uri in ["/v1/one/leo/", "/v1/one/", "/v1//one/leo", "//v1/one/leo", "/v1/files/a//b", "/v1/files/"] {
        assert_eq!(status("GET", uri).await, 404, "{uri}");
    }
}

#[tokio::test]
async fn a_method_that_the_path_does_not_have_is_405_with_allow() {
    let (got, _) = echo("POST", "/v1/search/lion", "{}").await;
    assert_eq!(got.status, 405);
    assert_eq!(got.header("allow"), "DELETE, GET, HEAD, OPTIONS, PROPFIND, PUT");
    assert_eq!(got.json()["code"], 12);
    let (got, _) = echo("GET", "/v1/echo", "").await;
    assert_eq!(got.header("allow"), "OPTIONS, POST");
}

#[tokio::test]
async fn options_is_answered_with_allow() {
    let (got, seen) = echo("OPTIONS", "/v1/echo", "").await;
    assert_eq!((got.status.as_u16(), got.header("allow"), got.text.as_str()), (204, "OPTIONS, POST", ""));
    assert!(seen.is_none());
    assert_eq!(status("OPTIONS", "/v1/nothing").await, 404);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let (get, _) = echo("GET", "/v1/one/leo", "").await;
    let (head, seen) = echo("HEAD", "/v1/one/leo", "").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.text, "");
    assert_eq!(head.header("content-length"), get.text.len().to_string());
    assert!(seen.is_some());
    assert_eq!(status("HEAD", "/v1/echo").await, 405);
}

#[tokio::test]
async fn a_method_without_a_rule_has_its_path_in_the_other_protocols_only() {
    assert_eq!(status("POST", "/zoo.v1.Zoo/Unannotated").await, 415);
    assert_eq!(status("GET", "/zoo.v1.Zoo/Unannotated").await, 405);
    assert_eq!(status("POST", "/zoo.v1.Zoo/Missing").await, 404);
}

#[tokio::test]
async fn body_star_takes_no_query() {
    let (_, rule) = refused("POST", "/v1/echo?boolValue=true", "{}").await;
    assert_eq!(rule, "the method takes no query parameters: all fields are in the body");
}

#[tokio::test]
async fn a_body_on_a_rule_without_one_is_400() {
    let (_, rule) = refused("GET", "/v1/one/leo", "{}").await;
    assert_eq!(rule, "the method takes no body");
}

#[tokio::test]
async fn a_body_field_is_the_body_and_the_rest_is_the_query() {
    let seen =
        reached("POST", "/v1/search/leo/child?boolValue=true", r#"{"int32Value": 1}"#, "Everything").await;
    assert_eq!(seen, json!({"stringValue": "leo", "boolValue": true, "child": {"int32Value": 1}}));
    let (field, rule) = refused("POST", "/v1/search/leo/child?child.boolValue=true", "{}").await;
    assert_eq!((field.as_str(), rule.as_str()), ("child.boolValue", "is set by the body"));
    let (field, _) = refused("POST", "/v1/search/leo/child", r#"{"nope": 1}"#).await;
    assert_eq!(field, "child.nope");
    assert_eq!(
        reached("POST", "/v1/strings", r#"["a", "b"]"#, "Everything").await,
        json!({"strings": ["a", "b"]})
    );
    assert_eq!(
        reached("POST", "/v1/labels", r#"{"a": "b"}"#, "Everything").await,
        json!({"labels": {"a": "b"}})
    );
}

#[tokio::test]
async fn a_bound_field_may_be_repeated_but_not_contradicted() {
    let same = r#"{"stringValue": "leo"}"#;
    assert_eq!(
        reached("POST", "/v1/search/leo:whole", same, "Everything").await,
        json!({"stringValue": "leo"})
    );
    for other in [r#"{"stringValue": "nala"}"#, r#"{"stringValue": ""}"#] {
        assert_eq!(refused("POST", "/v1/search/leo:whole", other).await.0, "string_value");
    }
    assert_eq!(
        reached("GET", "/v1/search/leo?stringValue=leo", "", "Everything").await,
        json!({"stringValue": "leo"})
    );
    assert_eq!(refused("GET", "/v1/search/leo?string_value=nala", "").await.0, "string_value");
    let nested = r#"{"child": {"stringValue": "nala"}}"#;
    assert_eq!(refused("PUT", "/v1/search/leo", nested).await.0, "child.string_value");
}

#[tokio::test]
async fn only_json_in_utf_8_is_taken() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for (content_type, expected) in [
        (Some("application/json"), 200),
        (Some("Application/JSON; charset=UTF-8"), 200),
        (Some("application/json; charset=latin1"), 415),
        (Some("text/plain"), 415),
        (Some("application/jsonp"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some("application/grpc"), 415),
        (None, 415),
    ] {
        let mut request = request("POST", "/v1/echo", "{}");
        request.headers_mut().remove("content-type");
        if let Some(value) = content_type {
            request.headers_mut().insert("content-type", value.parse().unwrap());
        }
        let got = send(&transcoder, request).await;
        assert_eq!(got.status, expected, "{content_type:?}");
    }
}

#[test]
fn all_methods_of_a_served_service_are_listed_with_and_without_rules() {
    let transcoder = builder(&Upstream::echo()).build().unwrap();
    let names: Vec<_> = transcoder.methods().map(transcoder::Method::name).collect();
    assert_eq!(names.first(), Some(&"Echo"));
    assert_eq!(names.last(), Some(&"Unannotated"));
}

#[tokio::test]
async fn an_accept_that_cannot_be_met_is_406() {
    let upstream = Upstream::echo();
    let transcoder = builder(&upstream).build().unwrap();
    for (accept, expected) in [
        ("application/json", 200),
        ("*/*", 200),
        ("application/*;q=0.1", 200),
        ("text/html, */*;q=0.8", 200),
        ("text/html", 406),
        ("application/json;q=0", 406),
        ("application/json;q=0, */*", 406),
        ("application/xml", 406),
    ] {
        let mut request = request("GET", "/v1/one/leo", "");
        request.headers_mut().insert("accept", accept.parse().unwrap());
        let got = send(&transcoder, request).await;
        assert_eq!(got.status, expected, "{accept}");
    }
}

#[tokio::test]
async fn a_service_that_the_set_does_not_have_is_a_build_error() {
    let built = Transcoder::builder(&DESCRIPTOR_SET).upstream("zoo.v1.Nope", Upstream::echo()).build();
    assert!(matches!(built, Err(BuildError::UnknownService(name)) if name == "zoo.v1.Nope"));
    assert!(matches!(Transcoder::builder(b"\xff").build(), Err(BuildError::DescriptorSet(_))));
}

fn rule_error(rules: &str) -> String {
    let source = format!(
        "syntax = \"proto3\"; package bad; import \"google/api/annotations.proto\";\n\
         message M {{ string name = 1; repeated string names = 2; M child = 3; }}\n\
         service S {{ rpc A(M) returns (M) {{ option (google.api.http) = {{ {rules} }}; }}\n\
         rpc B(M) returns (M) {{ option (google.api.http) = {{ get: \"/taken/{{name}}\" }}; }} }}"
    );
    let set = compiled(source);
    Transcoder::builder(&set).upstream("bad.S", Upstream::echo()).build().unwrap_err().to_string()
}

/// The descriptor set of one file.
pub(crate) fn compiled(source: String) -> Vec<u8> {
    let mut resolver = protox::file::ChainFileResolver::new();
    resolver.add(Source(source));
    let third_party = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/third_party");
    resolver.add(protox::file::IncludeFileResolver::new(third_party));
    resolver.add(protox::file::GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("written.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

struct Source(String);

impl protox::file::FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
        if name == "written.proto" {
            protox::file::File::from_source(name, &self.0)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

#[test]
fn a_rule_that_cannot_be_served_is_a_build_error_that_names_it() {
    for (rules, expected) in [
        ("get: \"no-slash\"", "begins with `/`"),
        ("get: \"/a/\"", "a segment is not empty"),
        ("get: \"/a/{name\"", "ends with `}`"),
        ("get: \"/a/**/b\"", "`**` is the last segment"),
        ("get: \"/a/{nope}\"", "no field `nope`"),
        ("get: \"/a/{names}\"", "cannot be set from a path"),
        ("get: \"/a/{child}\"", "cannot be set from a path"),
        ("get: \"/a/{name}/{name}\"", "bound twice"),
        ("post: \"/a\" body: \"nope\"", "no field `nope`"),
        ("get: \"/a\" response_body: \"nope\"", "no field `nope`"),
        ("get: \"/a/b*\"", "a literal, `*` or `**`"),
        ("get: \"/a/{=*}\"", "names a field"),
        ("get: \"/a/b:\"", "custom verb is not empty"),
        ("body: \"*\"", "has no HTTP method"),
    ] {
        let error = rule_error(rules);
        assert!(error.contains(expected) && error.contains("`bad.S.A`"), "{rules}: {error}");
    }
    let error = rule_error("get: \"/taken/{child.name}\"");
    assert_eq!(error, "methods `bad.S.A` and `bad.S.B` have the same HTTP method and path");
}

#[tokio::test]
async fn the_custom_kind_star_takes_every_method_head_and_options_included() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "BREW"] {
        let (got, seen) = echo(method, "/v1/any-method", "").await;
        assert_eq!((got.status.as_u16(), got.header("allow")), (200, ""), "{method}");
        assert_eq!(seen.unwrap().path, "/zoo.v1.Zoo/Search", "{method}");
    }
}

#[tokio::test]
async fn a_question_mark_alone_is_no_query() {
    for uri in ["/v1/echo?", "/v1/echo?&", "/v1/echo?&&"] {
        assert_eq!(reached("POST", uri, "{}", "Everything").await, json!({}), "{uri}");
    }
}

#[tokio::test]
async fn additional_bindings_are_routes_of_their_own() {
    // Other methods, other variables and another body than the first rule has.
    for (method, uri, body, expected) in [
        ("GET", "/v1/search?boolValue=true", "", json!({"boolValue": true})),
        ("GET", "/v1/search/leo?boolValue=true", "", json!({"stringValue": "leo", "boolValue": true})),
        ("POST", "/v1/search/leo/child", "{}", json!({"stringValue": "leo", "child": {}})),
        (
            "POST",
            "/v1/search/leo:whole",
            r#"{"boolValue": true}"#,
            json!({"stringValue": "leo", "boolValue": true}),
        ),
        ("DELETE", "/v1/search/leo", "", json!({"stringValue": "leo"})),
    ] {
        assert_eq!(reached(method, uri, body, "Everything").await, expected, "{method} {uri}");
    }
}

#[tokio::test]
async fn body_star_is_the_whole_message() {
    let body = r#"{"stringValue": "lion", "child": {"int32Value": 1}, "strings": ["a"]}"#;
    let whole: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(reached("POST", "/v1/echo", body, "Everything").await, whole);
}

#[tokio::test]
async fn only_reserved_characters_stay_encoded_in_a_variable_of_several_segments() {
    for reserved in b":/?#[]@!$&'()*+,;=" {
        let escape = format!("%{reserved:02X}");
        let seen = animal(&format!("/v1/files/a/b{escape}c")).await;
        assert_eq!(seen, json!({"name": format!("a/b{escape}c")}), "{escape}");
        if *reserved != b'/' {
            let decoded = char::from(*reserved);
            let seen = animal(&format!("/v1/one/b{escape}c")).await;
            assert_eq!(seen, json!({"name": format!("b{decoded}c")}), "{escape}");
        }
    }
    for other in b" \"%-.<>\\^_`{|}~aZ9\x7f" {
        let seen = animal(&format!("/v1/files/a/b%{other:02x}c")).await;
        assert_eq!(seen, json!({"name": format!("a/b{}c", char::from(*other))}), "{other:02x}");
    }
}

/// Templates from the most specific to the least, and a path for which each wins over all that come after it.
const BY_SPECIFICITY: [(&str, &str); 6] = [
    ("/r/special/deep", "/r/special/deep"),
    ("/r/special/{name}", "/r/special/other"),
    ("/r/{name}/deep", "/r/other/deep"),
    ("/r/{name}/{more}", "/r/other/other"),
    ("/r/{name=special/**}", "/r/special/a/b"),
    ("/r/{name=**}", "/r/other/a/b"),
];

#[tokio::test]
async fn the_most_specific_rule_wins_in_every_order_of_registration() {
    let mut order = [0, 1, 2, 3, 4, 5];
    // Heap's algorithm would do all 720; rotations and their reverses have every pair in both orders.
    for turn in 0..12 {
        order.rotate_left(1);
        if turn == 6 {
            order.reverse();
        }
        let rpcs = order
            .iter()
            .map(|rule| {
                let template = BY_SPECIFICITY[*rule].0;
                format!(
                    "rpc R{rule}(M) returns (M) {{ option (google.api.http) = {{ get: \"{template}\" }}; }}\n"
                )
            })
            .collect::<Vec<_>>()
            .concat();
        let set = compiled(format!(
            "syntax = \"proto3\"; package r; import \"google/api/annotations.proto\";\n\
             message M {{ string name = 1; string more = 2; }}\nservice S {{ {rpcs} }}"
        ));
        let upstream = Upstream::echo();
        let transcoder = Transcoder::builder(&set).upstream("r.S", upstream.clone()).build().unwrap();
        for (rule, (_, path)) in BY_SPECIFICITY.iter().enumerate() {
            assert_eq!(send(&transcoder, request("GET", path, "")).await.status, 200, "{path}");
            assert_eq!(upstream.last().path, format!("/r.S/R{rule}"), "{path} of {order:?}");
        }
    }
}

#[tokio::test]
async fn a_more_specific_beginning_gives_way_when_the_rest_does_not_match() {
    let set = compiled(
        "syntax = \"proto3\"; package r; import \"google/api/annotations.proto\";\n\
         message M { string name = 1; }\nservice S {\n\
         rpc A(M) returns (M) { option (google.api.http) = { get: \"/r/special/deep\" }; }\n\
         rpc B(M) returns (M) { option (google.api.http) = { get: \"/r/{name}/other\" }; }\n\
         rpc C(M) returns (M) { option (google.api.http) = { get: \"/{name=**}\" }; } }"
            .to_owned(),
    );
    let upstream = Upstream::echo();
    let transcoder = Transcoder::builder(&set).upstream("r.S", upstream.clone()).build().unwrap();
    for (path, method) in [
        ("/r/special/deep", "A"),
        ("/r/special/other", "B"),
        ("/r/special/neither", "C"),
        ("/r/special", "C"),
    ] {
        assert_eq!(send(&transcoder, request("GET", path, "")).await.status, 200, "{path}");
        assert_eq!(upstream.last().path, format!("/r.S/{method}"), "{path}");
    }
}
