//! What a newcomer does first: start it, try it, stop it, start it again.

use crate::harness::{Up, data_dir, jetway};

#[test]
fn the_demo_and_the_audit_are_green_twice_and_again_after_a_kill_and_a_restart() {
    let data = data_dir();
    let path = data.path().to_str().expect("a path of ASCII letters");
    let up = Up::start(data.path());
    for _ in 0..2 {
        let (green, said) = jetway(&["demo", "--url", &up.url]);
        assert!(green, "{said}");
        assert!(
            said.contains("\"state\":\"CONFIRMED\"") && said.contains("\"state\":\"CANCELED\""),
            "{said}"
        );
    }
    let (clean, said) = jetway(&["audit", "--data", path]);
    assert!(clean, "{said}");
    up.kill();

    let up = Up::start(data.path());
    let (green, said) = jetway(&["demo", "--url", &up.url]);
    assert!(green, "{said}");
    up.interrupt();

    // Without a running platform, the audit starts PostgreSQL itself.
    let (clean, said) = jetway(&["audit", "--data", path]);
    assert!(clean, "{said}");
}

#[test]
fn a_second_platform_on_the_same_data_is_refused_and_the_first_runs_on() {
    let data = data_dir();
    let up = Up::start(data.path());
    let path = data.path().to_str().expect("a path of ASCII letters");
    let (started, said) = jetway(&["up", "--any-port", "--listen", "127.0.0.1:0", "--data", path]);
    assert!(!started, "{said}");
    let (started, said) = jetway(&["up", "--fresh", "--any-port", "--listen", "127.0.0.1:0", "--data", path]);
    assert!(!started, "{said}");
    let (green, said) = jetway(&["demo", "--url", &up.url]);
    assert!(green, "{said}");
}

#[test]
fn a_fresh_start_has_new_accounts_and_touches_nothing_that_is_not_ours() {
    let data = data_dir();
    let keepsake = data.path().join("keepsake.txt");
    std::fs::write(&keepsake, "not ours").expect("our own directory");
    let up = Up::start(data.path());
    let before = up.account("admin");
    up.interrupt();
    // A cluster of another version is no obstacle to starting anew.
    std::fs::write(data.path().join("postgres/PG_VERSION"), "9").expect("our own directory");

    let up = Up::start_with(data.path(), &["--fresh"]);

    assert_ne!(up.account("admin"), before);
    assert_eq!(std::fs::read_to_string(&keepsake).expect("it is there"), "not ours");
    let (green, said) = jetway(&["demo", "--url", &up.url]);
    assert!(green, "{said}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let data = data_dir();
    let path = data.path().to_str().expect("a path of ASCII letters");
    let (started, said) = jetway(&["up", "--any-port", "--listen", &address, "--data", path]);
    assert!(!started, "{said}");
    assert!(said.contains(&address) && said.contains("is the port taken?"), "{said}");
}
