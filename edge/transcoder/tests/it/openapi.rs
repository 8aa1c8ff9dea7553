//! The OpenAPI document.

mod hard;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use transcoder::OpenApi;

use crate::harness::{Upstream, builder};

fn document() -> Value {
    let transcoder = builder(&Upstream::echo()).openapi(OpenApi::new("Zoo", "1.2.3")).build().unwrap();
    serde_json::from_slice(&transcoder.openapi()).unwrap()
}

fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                found.insert(reference);
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.contains("#/components/schemas/zoo.v1.Everything"), "{found:?}");
    for reference in found {
        let target = document.pointer(&reference[1..]);
        assert!(target.is_some_and(Value::is_object), "{reference}");
    }
}

#[test]
fn every_wildcard_of_a_path_is_a_parameter_and_operations_are_told_apart() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (_, operation) in item.as_object().unwrap().iter().filter(|(key, _)| !key.starts_with("x-")) {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation}");
            let declared: BTreeSet<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let named: BTreeSet<&str> =
                path.split('{').skip(1).map(|rest| rest.split_once('}').unwrap().0).collect();
            assert_eq!(declared, named, "{path}");
        }
    }
    assert!(ids.contains("Zoo_GetAnimal_2"));
}

#[test]
fn an_operation_has_its_parameters_body_and_reply() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"], json!({"title": "Zoo", "version": "1.2.3"}));
    let create = &document["paths"]["/v1/zoos/{parent}/animals"]["post"];
    let reference = json!({"$ref": "#/components/schemas/zoo.v1.Animal-Input"});
    assert_eq!(create["requestBody"]["content"]["application/json"]["schema"], reference);
    let names: Vec<&str> =
        create["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["parent", "requestId", "cage", "meadow"]);
    assert_eq!(create["responses"]["404"]["$ref"], "#/components/responses/NotFound");
    let watch = &document["paths"]["/v1/watch/{name}"]["get"]["responses"]["200"]["content"];
    assert_eq!(watch["application/json"]["schema"]["type"], "array");
    assert!(document["paths"].get("/v1/animals/{name}:legs").is_some());
}

#[test]
fn a_schema_is_what_proto_json_writes() {
    let document = document();
    let everything = &document["components"]["schemas"]["zoo.v1.Everything"]["properties"];
    for (name, expected) in [
        ("int64Value", json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"})),
        ("bytesValue", json!({"type": "string", "contentEncoding": "base64"})),
        ("timestamp", json!({"type": "string", "format": "date-time"})),
        ("diet", json!({"$ref": "#/components/schemas/zoo.v1.Diet"})),
        ("labels", json!({"type": "object", "additionalProperties": {"type": "string"}})),
        ("boolWrapper", json!({"type": "boolean"})),
        ("otherName", json!({"type": "string"})),
    ] {
        assert_eq!(everything[name], expected, "{name}");
    }
    let diet = &document["components"]["schemas"]["zoo.v1.Diet"];
    assert_eq!(diet["enum"], json!(["DIET_UNSPECIFIED", "HERBIVORE", "CARNIVORE", "EXTINCT"]));
    let animal = &document["components"]["schemas"]["zoo.v1.Animal"];
    assert_eq!(animal["description"], "One animal of the zoo.");
    assert_eq!(animal["properties"]["legs"]["description"], "How many it walks on.");
}
