use tempfile::TempDir;

use super::{KeyRing, OpenError};

const OLD: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const NEW: &str = "0202020202020202020202020202020202020202020202020202020202020202";

fn ring(content: &str) -> Result<KeyRing, String> {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("keys.json");
    std::fs::write(&path, content).expect("written");
    KeyRing::load(&path).map_err(|error| error.to_string())
}

#[test]
fn what_is_sealed_opens_in_its_place_only() {
    let ring = ring(&format!(r#"{{"1": "{OLD}"}}"#)).expect("a key");
    let sealed = ring.seal("sessions/1", b"secret");

    assert_eq!(ring.open("sessions/1", &sealed).expect("opens").as_slice(), b"secret");
    assert_eq!(ring.open("sessions/2", &sealed), Err(OpenError));
    assert!(!sealed.windows(6).any(|window| window == b"secret"));
}

#[test]
fn every_changed_byte_is_noticed() {
    let ring = ring(&format!(r#"{{"1": "{OLD}"}}"#)).expect("a key");
    let sealed = ring.seal("sessions/1", b"secret");
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(ring.open("sessions/1", &changed), Err(OpenError), "byte {at}");
        assert_eq!(ring.open("sessions/1", &sealed[..at]), Err(OpenError), "{at} bytes");
    }
}

#[test]
fn an_added_key_seals_and_the_old_one_still_opens() {
    let before = ring(&format!(r#"{{"9": "{OLD}"}}"#)).expect("a key");
    let after = ring(&format!(r#"{{"9": "{OLD}", "10": "{NEW}"}}"#)).expect("two keys");

    assert_eq!(after.open("a", &before.seal("a", b"secret")).expect("opens").as_slice(), b"secret");
    assert_eq!(before.open("a", &after.seal("a", b"secret")), Err(OpenError));
}
