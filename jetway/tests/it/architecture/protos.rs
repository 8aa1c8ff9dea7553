//! What every contract file owes its readers.

use std::fs;

use super::{files, root};

/// What starts a line that must have a comment above it.
const DOCUMENTED: [&str; 4] = ["service ", "rpc ", "message ", "enum "];

#[test]
fn every_service_method_message_and_enum_has_a_comment() {
    let mut seen = 0;
    let mut bare = Vec::new();
    for (path, text) in files("proto/jetway", "proto") {
        let mut above = "";
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if DOCUMENTED.iter().any(|word| line.starts_with(word)) {
                seen += 1;
                if !above.starts_with("//") {
                    bare.push(format!("{}:{}: {line}", path.display(), number + 1));
                }
            }
            above = line;
        }
    }

    assert!(seen > 50, "only {seen} declarations found");
    assert!(bare.is_empty(), "{bare:#?}");
}

#[test]
fn every_contract_file_is_compiled() {
    let script = fs::read_to_string(root().join("proto/build.rs")).expect("readable");
    for (path, _) in files("proto/jetway", "proto") {
        let name = path.strip_prefix("proto").expect("below proto").to_str().expect("UTF-8");
        assert!(script.contains(&format!("\"{name}\"")), "proto/build.rs does not compile {name}");
    }
}
