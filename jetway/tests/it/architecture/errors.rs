//! Clients branch on reasons, so every reason is documented.

use std::fs;

/// Where reasons are given.
const SOURCES: [&str; 15] = [
    "identity/src/error.rs",
    "bookings/src/error.rs",
    "payments/src/error.rs",
    "mesh/src/auth.rs",
    "mesh/src/client.rs",
    "mesh/src/server.rs",
    "mesh/src/validate/service.rs",
    "edge/src/cors.rs",
    "edge/src/csrf.rs",
    "edge/src/gate.rs",
    "edge/src/hygiene.rs",
    "edge/src/refusal.rs",
    "edge/src/session.rs",
    "edge/src/unreadable.rs",
    "edge/transcoder/src/error.rs",
];

/// Upper-case words in those files that are no reasons.
const OTHER: [&str; 2] = ["INTERNAL", "_OTHER"];

#[test]
fn every_reason_in_the_code_is_in_the_documentation() {
    let root = super::root();
    let documentation = fs::read_to_string(root.join("docs/ERRORS.md")).expect("there is a page on errors");
    let mut found = 0;
    for file in SOURCES {
        let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for reason in source.split('"').skip(1).step_by(2).filter(|text| is_reason(text)) {
            found += 1;
            assert!(
                documentation.contains(&format!("`{reason}`")),
                "{file} has {reason}, docs/ERRORS.md has not"
            );
        }
    }
    assert!(found > 60, "only {found} reasons found: has the code moved?");
}

fn is_reason(text: &str) -> bool {
    text.len() > 4
        && !OTHER.contains(&text)
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}
