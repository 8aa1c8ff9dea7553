//! The document of a descriptor set that makes it hard, judged by others.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use transcoder::{Notes, OpenApi, RequestHeader, Transcoder};

use super::references;
use crate::harness::Upstream;

fn descriptor_set() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let includes = [root.join("tests/proto"), root.join("../../proto/third_party")];
    let mut compiler = protox::Compiler::new(includes).expect("the folders exist");
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("document/hard.proto").expect("hard.proto compiles");
    compiler.encode_file_descriptor_set()
}

fn transcoder(with: impl FnOnce(transcoder::Builder) -> transcoder::Builder) -> Transcoder {
    let openapi = OpenApi::new("Hard", "v1")
        .description("Everything that is hard.")
        .contact("Nobody", "https://example.com")
        .servers(["https://api.example.com"])
        .security_scheme(
            "login",
            json!({"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/token", "scopes": {"writer": "Writes."}}}}),
        )
        .security_scheme("session", json!({"type": "apiKey", "in": "cookie", "name": "session"}))
        .describe(|method| match method.name() {
            "Anything" => Notes { hidden: true, ..Notes::default() },
            "Create" => Notes {
                security: vec![
                    vec![("login".to_owned(), vec!["writer".to_owned()])],
                    vec![("session".to_owned(), Vec::new())],
                ],
                remarks: vec!["For writers.".to_owned()],
                headers: vec![RequestHeader {
                    name: "X-Text".to_owned(),
                    description: "The text.".to_owned(),
                    required: true,
                    schema: json!({"type": "string", "minLength": 1}),
                    field: Some("text".to_owned()),
                }],
                ..Notes::default()
            },
            _ => Notes::default(),
        });
    let builder = Transcoder::builder(&descriptor_set())
        .upstream("hard.v1.Things", Upstream::echo())
        .upstream("Things", Upstream::echo())
        .openapi(openapi);
    with(builder).build().expect("hard.proto has valid rules")
}

fn document() -> Value {
    serde_json::from_slice(&transcoder(|builder| builder).openapi()).expect("JSON")
}

fn schema<'d>(document: &'d Value, name: &str) -> &'d Value {
    &document["components"]["schemas"][name]
}

/// What `scripts/peers/openapi` installs.
fn peers() -> PathBuf {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.jetway/peers/openapi");
    assert!(peers.join("spectral/installed").exists(), "run scripts/peers/openapi first");
    peers
}

/// Runs the validator of the specification, the examples' schemas and a public linter over a document.
fn judge(name: &str, document: &[u8]) {
    let peers = peers();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.json"));
    std::fs::write(&file, document).expect("the folder of this test");
    let mut check = Command::new(peers.join("bin/python3"));
    check.arg(here.join("check_openapi.py")).arg(&file);
    let mut lint = Command::new(peers.join("../bin/node"));
    lint.arg(peers.join("spectral/node_modules/@stoplight/spectral-cli/dist/index.js"))
        .args(["lint", "--quiet", "--fail-severity", "warn", "--ruleset"])
        .arg(here.join("spectral.yaml"))
        .arg(&file);
    for command in [&mut check, &mut lint] {
        let output = command.output().expect("the peer runs");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn open_api_of_any_descriptor_set_is_valid_by_a_public_linter() {
    judge("hard", &transcoder(|builder| builder).openapi());
    let other = transcoder(|builder| {
        builder
            .always_print_primitive_fields(true)
            .always_print_enums_as_ints(true)
            .preserve_proto_field_names(true)
            .ignore_unknown_fields(true)
    });
    judge("hard_other", &other.openapi());
}

#[test]
fn the_document_is_the_same_every_time() {
    assert_eq!(transcoder(|builder| builder).openapi(), transcoder(|builder| builder).openapi());
    let transcoder = transcoder(|builder| builder);
    assert_eq!(transcoder.openapi().as_ptr(), transcoder.clone().openapi().as_ptr(), "made once");
}

#[test]
fn every_reference_leads_to_a_schema() {
    let document = document();
    let mut found = std::collections::BTreeSet::new();
    references(&document, &mut found);
    for reference in found {
        assert!(document.pointer(&reference[1..]).is_some_and(Value::is_object), "{reference}");
    }
}

#[test]
fn names_of_any_descriptor_set_are_told_apart() {
    let document = document();
    for name in [
        "hard.v1.Thing",
        "hard.v1.Thing-Input",
        "hard.v1.Thing.Input",
        "hard.v1.Thing.Input-Input",
        "hard.v1.Status",
        "Status",
        "Error",
        "google.rpc.Status-Error",
        // Only a reply, and only a request: one name each.
        "hard.old.Things",
        "hard.v1.Rules",
    ] {
        assert!(schema(&document, name).is_object(), "{name}");
    }
    assert!(schema(&document, "hard.v1.Bare").is_object(), "{document}");
    let get = |path: &str| document["paths"][path]["get"]["operationId"].clone();
    assert_eq!(get("/v1/bare/{text}"), "Things_Get");
    assert_eq!(get("/v1/barer/{text}"), "Things_Get_2");
    assert_eq!(get("/v1/things/{id}"), "Things_Get_4");
    assert_eq!(document["tags"][0]["name"], "Things");
    assert_eq!(document["tags"][1]["name"], "hard.v1.Things");
}

#[test]
fn paths_that_open_api_takes_for_the_same_are_one_path() {
    let document = document();
    let item = &document["paths"]["/v1/things/{id}"];
    assert_eq!(item["delete"]["parameters"][0]["name"], "id");
    assert_eq!(item["put"]["parameters"][0]["name"], "id");
    assert_eq!(item["delete"]["deprecated"], true);
    assert!(item["trace"].is_object());
    assert!(item["x-additional-operations"]["PURGE"].is_object(), "{item}");
    // `*` has the place, `**` stands beside it.
    let archive = &document["paths"]["/v1/archive/{shelf}"];
    assert_eq!(archive["get"]["parameters"][0]["schema"]["pattern"], "^[a-z]{2}-[0-9]+$");
    assert_eq!(archive["x-additional-operations"]["GET **"]["parameters"][0]["schema"]["pattern"], "^.*$");
    let any = document["paths"]["/v1/whatever/{id}"].as_object().unwrap();
    assert_eq!(any.keys().collect::<Vec<_>>(), ["delete", "get", "patch", "post", "put"]);
    assert!(document["paths"].get("/v1/anything").is_none(), "hidden");
}

#[test]
fn a_parameter_is_its_part_of_the_pattern() {
    let document = document();
    let parameters = &document["paths"]["/v1/shelves/{shelf}/things/{id}"]["get"]["parameters"];
    assert_eq!(parameters[0]["schema"]["pattern"], "^[a-z]{2,9}$");
    assert_eq!(parameters[1]["schema"]["pattern"], "^[a-z]{2}-[0-9]+$");
    assert_eq!(parameters[1]["example"], "ab-1", "the first example of the comment is not valid");
}

#[test]
fn a_body_leaves_out_what_is_set_elsewhere() {
    let document = document();
    let create = &document["paths"]["/v1/things"]["post"];
    assert_eq!(create["parameters"][0]["name"], "X-Text");
    let body = &create["requestBody"]["content"]["application/json"]["schema"];
    let properties = body["properties"].as_object().unwrap();
    // The header sets `text`, so the other members of its oneof cannot be set either.
    for name in ["text", "thing", "nothing"] {
        assert!(!properties.contains_key(name), "{name}");
    }
    assert!(properties.contains_key("small"));
    let put =
        &document["paths"]["/v1/things/{id}"]["put"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(
        put["properties"]["key"]["properties"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["shelf"]
    );
    // A change need not have anything.
    let patch = &document["paths"]["/v1/things/{id}"]["patch"]["requestBody"]["content"]["application/json"]
        ["schema"];
    assert_eq!(patch.get("required"), None);
    assert_eq!(patch["properties"]["at"]["readOnly"], true);
}

#[test]
fn who_may_call_is_said_by_the_host() {
    let document = document();
    let create = &document["paths"]["/v1/things"]["post"];
    assert_eq!(create["security"], json!([{"login": ["writer"]}, {"session": []}]));
    assert!(document["tags"][1]["description"].as_str().unwrap().contains("It takes &lt;script>"));
    assert!(create["description"].as_str().unwrap().ends_with("For writers."));
    assert!(create["responses"]["401"].is_object());
    let search = &document["paths"]["/v1/search"]["get"];
    assert_eq!(search["security"], json!([]));
    assert!(search["responses"]["401"].is_object(), "a service may ask for credentials of its own");
}

#[test]
fn rules_of_a_request_are_constraints() {
    let document = document();
    let rules = schema(&document, "hard.v1.Rules-Input");
    let expected = [
        ("length", json!({"type": "string", "minLength": 2, "maxLength": 5})),
        ("exact", json!({"type": "string", "minLength": 7, "maxLength": 7})),
        ("email", json!({"type": "string", "format": "email"})),
        ("uuid", json!({"type": "string", "format": "uuid"})),
        ("in", json!({"type": "string", "enum": ["ONE", "TWO"]})),
        ("notIn", json!({"type": "string", "not": {"enum": ["text"]}})),
        ("constant", json!({"type": "string", "const": "fixed"})),
        ("loose", json!({"anyOf": [{"type": "string", "pattern": "^[A-Z]{2}$"}, {"const": ""}]})),
        ("ignored", json!({"type": "string"})),
        ("range", json!({"type": "integer", "format": "int32", "minimum": 3, "maximum": 8})),
        (
            "choice",
            json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX, "enum": [4, 5]}),
        ),
        ("fraction", json!({"type": "number", "format": "double", "exclusiveMinimum": 0.0, "maximum": 1.0})),
        ("finite", json!({"type": "number", "format": "float"})),
        ("yes", json!({"type": "boolean", "const": true})),
        (
            "color",
            json!({"$ref": "#/components/schemas/hard.v1.Thing.Color", "enum": ["RED", "CRIMSON", "BLUE"]}),
        ),
        ("shown", json!({"type": "string", "minLength": 1, "examples": ["from the rules"]})),
        (
            "many",
            json!({"type": "array", "minItems": 1, "maxItems": 3, "uniqueItems": true, "items": {"type": "string", "minLength": 1}}),
        ),
    ];
    for (name, expected) in expected {
        assert_eq!(rules["properties"][name], expected, "{name}");
    }
    let wide = &rules["properties"]["wide"];
    assert_eq!(wide["pattern"], "^[1-9][0-9]{0,4}$");
    assert_eq!(wide["description"], "From 1 to 99999.");
    assert_eq!(rules["properties"]["perl"]["description"], "Matches the RE2 expression `(?i)^abc$`.");
    assert_eq!(rules["properties"]["pairs"]["propertyNames"]["pattern"], "^[a-z]+$");
    assert_eq!(rules["properties"]["wait"]["description"], "At least 1s.\n\nLess than 60s.");
    assert_eq!(
        rules["description"],
        "Every rule that a schema can say, and some that it cannot.\n\nThe sum must be even."
    );
    assert_eq!(rules["additionalProperties"], false);
    let required: Vec<&str> =
        rules["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in ["length", "range", "needed", "many", "yes"] {
        assert!(required.contains(&name), "{name}");
    }
    for name in ["loose", "ignored", "notIn", "anyWide", "wait", "wrapped", "finite"] {
        assert!(!required.contains(&name), "{name}");
    }
    // What a service answers is checked by nobody.
    let reply = &schema(&document, "hard.v1.Rules")["properties"]["length"];
    assert_eq!(*reply, json!({"type": "string"}));
}

#[test]
fn an_extension_is_a_property_by_its_full_name() {
    let document = document();
    let things = schema(&document, "hard.old.Things");
    assert_eq!(things["properties"]["[hard.old.extra]"]["type"], "string");
}

#[test]
fn a_oneof_is_a_choice() {
    let document = document();
    let thing = schema(&document, "hard.v1.Thing-Input");
    let with = |name: &str| json!({"required": [name]});
    let choices = thing["allOf"].as_array().unwrap();
    assert_eq!(choices[0], json!({"oneOf": [with("text"), with("thing"), with("nothing")]}));
    let none = json!({"not": {"anyOf": [with("small"), with("large")]}});
    assert_eq!(choices[1], json!({"oneOf": [with("small"), with("large"), none]}));
}

#[test]
fn a_request_and_its_reply_differ_where_their_fields_do() {
    let document = document();
    let (request, reply) = (schema(&document, "hard.v1.Thing-Input"), schema(&document, "hard.v1.Thing"));
    assert_eq!(request["properties"]["at"]["readOnly"], true);
    assert_eq!(
        request["properties"]["secret"],
        json!({"type": "string", "format": "password", "writeOnly": true})
    );
    assert!(request["required"].as_array().unwrap().contains(&json!("secret")));
    assert_eq!(reply["properties"].get("secret"), None);
    assert_eq!(reply.get("additionalProperties"), None);
    assert_eq!(reply["properties"]["children"]["items"]["$ref"], "#/components/schemas/hard.v1.Thing");
    assert_eq!(
        request["properties"]["children"]["items"]["$ref"],
        "#/components/schemas/hard.v1.Thing-Input"
    );
}

#[test]
fn streams_and_raw_bodies_have_their_media_types() {
    let document = document();
    let feed = &document["paths"]["/v1/feed"]["post"];
    let types = |value: &Value| value["content"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(types(&feed["requestBody"]), ["application/json", "application/x-ndjson"]);
    assert_eq!(
        types(&feed["responses"]["200"]),
        ["application/json", "application/x-ndjson", "text/event-stream"]
    );
    let raw = &document["paths"]["/v1/raw"]["post"];
    assert_eq!(
        (types(&raw["requestBody"]), types(&raw["responses"]["200"])),
        (vec!["*/*".to_owned()], vec!["*/*".to_owned()])
    );
    let upload = &document["paths"]["/v1/upload/{name}"]["post"]["parameters"];
    assert_eq!(upload[1]["content"]["application/json"]["schema"]["type"], "object");
    assert_eq!(upload[2]["style"], "deepObject");
}
