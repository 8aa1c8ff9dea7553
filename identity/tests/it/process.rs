//! The service as a process of its own, set by environment variables alone.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
};

use identity::Config;
use mesh::testing;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proto::identity::v1::{
    RefreshSessionRequest, SignInRequest, SignUpRequest,
    authentication_service_client::AuthenticationServiceClient,
};
use secrecy::ExposeSecret as _;

use crate::harness::{PASSWORD, TestIdentity, Tokens};

/// The binary with the settings of `config` that have no default.
pub(crate) fn command(config: &Config) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_identity"));
    command
        .env("JETWAY_IDENTITY_DATABASE__URL", config.database.url.expose_secret())
        .env("JETWAY_IDENTITY_TLS__CERTIFICATE", &config.tls.certificate)
        .env("JETWAY_IDENTITY_TLS__KEY", &config.tls.key)
        .env("JETWAY_IDENTITY_TLS__ROOTS", &config.tls.roots)
        .env("JETWAY_IDENTITY_KEYS__FILE", &config.keys.file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Ends the process when the test fails before it has.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binary_serves_until_it_is_told_to_stop_and_logs_no_secret() {
    let config = TestIdentity::config().await;
    let mut command = command(&config);
    command.env("JETWAY_IDENTITY_TELEMETRY__LOG", "info,identity=trace,mesh=trace");
    for listen in ["LISTEN", "ADMIN_LISTEN", "PROBE_LISTEN"] {
        command.env(format!("JETWAY_IDENTITY_SERVER__{listen}"), "127.0.0.1:0");
    }
    let mut process = Killed(command.spawn().expect("the binary runs"));
    let mut lines = BufReader::new(process.0.stderr.take().expect("a pipe")).lines();
    let mut log = String::new();
    let address = loop {
        let line = lines.next().expect("it serves before it ends").expect("UTF-8");
        log.push_str(&line);
        let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        if event["message"] == "serving" {
            break event["address"].as_str().expect("an address").parse().expect("an address");
        }
    };
    let rest = tokio::task::spawn_blocking(move || lines.map_while(Result::ok).collect::<String>());

    let mut client = AuthenticationServiceClient::new(testing::channel("edge", "identity", address));
    let (email, password) = ("ada@example.org".to_owned(), PASSWORD.to_owned());
    let request =
        SignUpRequest { email: email.clone(), password: password.clone(), ..SignUpRequest::default() };
    client.sign_up(request).await.expect("signed up");
    let wrong =
        SignInRequest { email: email.clone(), password: "canary password".to_owned(), ..Default::default() };
    client.sign_in(wrong).await.expect_err("wrong");
    let request = SignInRequest { email, password, ..SignInRequest::default() };
    let tokens = client.sign_in(request).await.expect("signed in").into_inner().tokens.expect("tokens");
    let tokens = Tokens::from(tokens);
    let request = RefreshSessionRequest { refresh_token: tokens.refresh_token.clone() };
    client.refresh_session(request).await.expect("refreshed");

    let id = i32::try_from(process.0.id()).expect("a process id");
    kill(Pid::from_raw(id), Signal::SIGTERM).expect("it runs");
    let (mut output, ended) = tokio::task::spawn_blocking(move || {
        let ended = process.0.wait().expect("it ends");
        (process.0.stdout.take().expect("a pipe"), ended)
    })
    .await
    .expect("no panic");
    assert!(ended.success(), "{ended}");
    log.push_str(&rest.await.expect("no panic"));
    output.read_to_string(&mut log).expect("UTF-8");

    assert!(log.contains("/jetway.identity.v1.AuthenticationService/SignIn"), "calls are logged: {log}");
    assert!(log.contains("stopped"), "{log}");
    for secret in [PASSWORD, "canary password", &tokens.access_token, &tokens.refresh_token, "$argon2"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
