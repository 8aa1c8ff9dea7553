//! Which crate may use which, and which crates from outside may not be there at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::{built_packages, cargo, root};

/// What only tests may use: payments is tested with the acquirer itself, not with a picture of it.
const MAY_TEST_WITH: [(&str, &str); 1] = [("payments", "acquirer")];

/// For each crate of the workspace, the others it may depend on, also for its tests. Services meet in `proto` only.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("proto", &[]),
    ("transcoder", &[]),
    ("mesh", &["proto"]),
    ("identity", &["mesh", "proto"]),
    ("payments", &["mesh", "proto"]),
    ("acquirer", &["mesh", "proto"]),
    ("bookings", &["mesh", "proto"]),
    ("edge", &["mesh", "proto", "transcoder"]),
    ("edge-bench", &["mesh", "proto", "transcoder"]),
    ("jetway", &["acquirer", "bookings", "edge", "identity", "mesh", "payments", "proto"]),
];

/// Crates that must not be built: one cryptography library and one way to talk to PostgreSQL, both without a system library.
const BANNED: [&str; 8] =
    ["native-tls", "openssl", "openssl-sys", "libpq-sys", "pq-sys", "postgres-native-tls", "reqwest", "ring"];

/// Crates whose types cross our interfaces: two versions would be two types of one name.
const ONE_VERSION: [&str; 12] = [
    "axum",
    "diesel",
    "h2",
    "http",
    "http-body",
    "hyper",
    "prost",
    "prost-types",
    "rustls",
    "tokio",
    "tonic",
    "tower",
];

/// The crates of the workspace: name, directory of the manifest, names of all dependencies.
fn members() -> Vec<(String, String, BTreeSet<String>)> {
    let text = cargo(&["metadata", "--no-deps", "--locked", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&text).expect("cargo prints JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let name = text(&package["name"]);
            let for_tests = |dependency: &serde_json::Value| {
                dependency["kind"] == "dev" && MAY_TEST_WITH.contains(&(&name, &text(&dependency["name"])))
            };
            let names = dependencies
                .iter()
                .filter(|dependency| !for_tests(dependency))
                .map(|dependency| text(&dependency["name"]))
                .collect();
            (name.clone(), text(&package["manifest_path"]), names)
        })
        .collect()
}

#[test]
fn crates_of_the_workspace_use_only_those_they_may() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        MAY_USE.into_iter().map(|(name, others)| (name, others.iter().copied().collect())).collect();
    let members = members();
    let names: BTreeSet<&str> = members.iter().map(|(name, ..)| name.as_str()).collect();

    assert_eq!(names, allowed.keys().copied().collect(), "a new crate needs a line in MAY_USE");
    for (name, _, dependencies) in &members {
        let used: BTreeSet<&str> =
            names.iter().copied().filter(|other| dependencies.contains(*other)).collect();
        // A crate may name itself, to turn a feature on for its own tests.
        let forbidden: Vec<_> =
            used.difference(&allowed[name.as_str()]).filter(|other| **other != name.as_str()).collect();
        assert!(forbidden.is_empty(), "{name} depends on {forbidden:?}");
    }
}

#[test]
fn every_crate_of_the_workspace_keeps_its_lints() {
    for (name, manifest, _) in members() {
        let text = fs::read_to_string(manifest).expect("readable");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{name} does not inherit the lints of the workspace"
        );
    }
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("readable");
    assert!(workspace.contains("unsafe_code = \"forbid\""), "the lint that keeps `unsafe` out");
}

#[test]
fn no_banned_crate_is_built_on_any_platform() {
    let built = built_packages("normal,build", "");
    let banned: Vec<_> = built.iter().filter(|(name, ..)| BANNED.contains(&name.as_str())).collect();

    assert!(banned.is_empty(), "{banned:?}; `cargo tree --target all -i <crate>` shows who wants it");
}

#[test]
fn crates_whose_types_cross_interfaces_have_one_version() {
    let built = built_packages("normal,build,dev", "");
    for wanted in ONE_VERSION {
        let versions: Vec<_> =
            built.iter().filter(|(name, ..)| name == wanted).map(|(_, version, _)| version).collect();
        assert_eq!(versions.len(), 1, "{wanted}: {versions:?}");
    }
}
