use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::{Keys, create, load};

const OLD: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const NEW: &str = "0202020202020202020202020202020202020202020202020202020202020202";

fn keys(content: &str) -> Result<Keys, String> {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("keys.json");
    std::fs::write(&path, content).expect("written");
    load(&path).map_err(|error| error.to_string())
}

#[test]
fn a_wrong_file_is_refused_without_a_word_of_it() {
    for content in [
        "",
        "[]",
        "{}",
        r#"{"a": "00"}"#,
        r#"{"1": "abcdef"}"#,
        &format!(r#"{{"1": "{OLD}zz"}}"#),
        // One key would hide the other.
        &format!(r#"{{"1": "{OLD}", "1": "{NEW}"}}"#),
        &format!(r#"{{"1": "{OLD}", "01": "{NEW}"}}"#),
        &format!(r#"{{"+1": "{OLD}"}}"#),
    ] {
        let error = keys(content).expect_err("no keys");
        assert!(!error.contains("0101") && !error.contains("abcdef"), "{error}");
    }
}

#[test]
fn a_key_file_is_made_once_and_for_its_owner_only() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("keys.json");

    create(&path).expect("made");
    let first = std::fs::read_to_string(&path).expect("read");
    create(&path).expect("left as it is");

    assert_eq!(std::fs::read_to_string(&path).expect("read"), first);
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    load(&path).expect("it holds a key");
}
