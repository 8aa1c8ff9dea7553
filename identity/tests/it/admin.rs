//! Accounts made by an operator.

use std::{io::Write as _, process::Output};

use identity::{
    admin::{Account, ensure_account},
    domain::Password,
    password::Passwords,
};
use mesh::clock::Clock;

use crate::{
    harness::{PASSWORD, TestIdentity, cheap},
    process,
};

/// Runs `identity admin create` with this on standard input.
fn create(t: &TestIdentity, arguments: &[&str], input: &str) -> Output {
    let mut command = process::command(&t.config);
    let mut child = command.args(["admin", "create"]).args(arguments).spawn().expect("the binary runs");
    // Fails when the program ends without reading.
    let _broken_pipe = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_admin_is_made_on_the_command_line() {
    let t = TestIdentity::start().await;

    let output = create(&t, &["--email", "admin@example.org"], &format!("{PASSWORD}\n"));

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tokens = t.sign_in("admin@example.org", PASSWORD).await.expect("signed in");
    let me = t.me(&tokens.access_token).await.expect("me");
    assert_eq!(me.roles, ["admin", "customer"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), me.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_file_serves_as_well_and_a_bad_password_is_refused_unprinted() {
    let t = TestIdentity::start().await;
    let file = mesh::testing::directory().join("admin-password");

    std::fs::write(&file, "seven77").expect("written");
    let path = file.to_str().expect("UTF-8");
    let output = create(&t, &["--email", "admin@example.org", "--password-file", path], "");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("at least 8 characters"), "{error}");
    assert!(!error.contains("seven77"), "{error}");

    std::fs::write(&file, PASSWORD).expect("written");
    let output = create(&t, &["--email", "admin@example.org", "--password-file", path], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    t.sign_in("admin@example.org", PASSWORD).await.expect("signed in");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_an_admin_by_having_signed_up_with_the_operators_address() {
    let t = TestIdentity::start().await;
    t.sign_up("ops@example.org").await.expect("signed up");

    let output = create(&t, &["--email", "ops@example.org"], "the operator's own password");

    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("another password"), "{error}");
    let tokens = t.sign_in("ops@example.org", PASSWORD).await.expect("signed in");
    assert_eq!(t.me(&tokens.access_token).await.expect("me").roles, ["customer"]);

    let output = create(&t, &["--email", "ops@example.org"], PASSWORD);
    assert!(
        output.status.success(),
        "whoever knows the password: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ensuring_an_account_twice_leaves_one_with_its_first_password() {
    let t = TestIdentity::start().await;
    let passwords = Passwords::start(&cheap()).expect("the threads start");
    let ensure = async |password: &str, roles: &[&str]| {
        let password = Password::presented(password.to_owned());
        let account = Account {
            email: "crew@example.org",
            username: Some("crew"),
            display_name: "Crew",
            password,
            roles,
        };
        ensure_account(&t.db, &passwords, &account, Clock::system_now()).await
    };

    let first = ensure(PASSWORD, &[]).await.expect("made");
    let second = ensure("another password", &["flight_company"]).await.expect("found");

    assert_eq!(first, second);
    let tokens = t.sign_in("crew", PASSWORD).await.expect("the first password stays");
    assert_eq!(t.me(&tokens.access_token).await.expect("me").roles, ["customer", "flight_company"]);
    ensure(PASSWORD, &["pilot"]).await.expect_err("no such role");
}
