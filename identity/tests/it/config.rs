//! Settings.

use identity::Config;
use mesh::config::{Sources, load};

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let sources = Sources {
        flags: vec![
            "tokens.access_token_seconds=3601".to_owned(),
            "tokens.refresh_absolute_seconds=3600".to_owned(),
            "password.memory_kib=1".to_owned(),
            "password.threads=0".to_owned(),
        ],
        ..Sources::default()
    };

    let problems = load::<Config>("identity", &sources).expect_err("much is wrong").problems;

    for setting in [
        "database.url",
        "tls.certificate",
        "tls.key",
        "tls.roots",
        "keys.file",
        "tokens.access_token_seconds",
        "tokens.refresh_absolute_seconds",
        "password.memory_kib",
        "password.threads",
    ] {
        let named = problems.iter().filter(|problem| problem.starts_with(&format!("`{setting}`"))).count();
        assert_eq!(named, 1, "{setting}: {problems:?}");
    }
    assert_eq!(problems.len(), 9, "{problems:?}");
}

#[test]
fn the_key_file_is_set_by_its_environment_variable() {
    let environment = [
        ("JETWAY_IDENTITY_DATABASE__URL", "postgres://localhost/identity"),
        ("JETWAY_IDENTITY_TLS__CERTIFICATE", "tls.crt"),
        ("JETWAY_IDENTITY_TLS__KEY", "tls.key"),
        ("JETWAY_IDENTITY_TLS__ROOTS", "ca.crt"),
        ("JETWAY_IDENTITY_KEYS__FILE", "/etc/jetway/keys/keys.json"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();

    let config: Config = load("identity", &Sources { environment, ..Sources::default() }).expect("complete");

    assert_eq!(config.keys.file.to_str(), Some("/etc/jetway/keys/keys.json"));
    assert_eq!(config.server.listen.port(), 50051);
}
