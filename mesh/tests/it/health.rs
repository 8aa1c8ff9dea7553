//! What probes are told.

use diesel_async::SimpleAsyncConnection as _;
use mesh::config::TargetConfig;
use mesh::run::Running;
use mesh::testing;
use proto::identity::v1::GetMeRequest;
use proto::identity::v1::account_service_client::AccountServiceClient;
use secrecy::ExposeSecret as _;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::database::Database;
use crate::echo::{Config, soon};

/// A connection to the probe port, as the kubelet makes it.
async fn probe(running: &Running) -> Channel {
    Endpoint::from_shared(format!("http://{}", running.probe_address()))
        .expect("an address")
        .connect()
        .await
        .expect("the probe port takes clear text")
}

fn named(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn status(running: &Running, service: &str) -> Result<ServingStatus, Code> {
    let answer = HealthClient::new(probe(running).await).check(named(service)).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

/// Returns when the status is reported.
async fn until(running: &Running, service: &str, expected: ServingStatus) {
    let mut client = HealthClient::new(probe(running).await);
    let mut changes = client.watch(named(service)).await.expect("watched").into_inner();
    soon(async {
        while changes.message().await.expect("the stream goes on").expect("a status").status() != expected {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_ready_says_so_under_every_name_and_no_other() {
    let running = Config::new().start().await.expect("started");
    soon(running.ready()).await;

    for name in mesh::health::NAMES {
        assert_eq!(status(&running, name).await, Ok(ServingStatus::Serving), "{name:?}");
    }
    assert_eq!(status(&running, "canary").await, Err(Code::NotFound));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_may_ask_for_health_without_a_token() {
    let running = Config::new().start().await.expect("started");
    soon(running.ready()).await;
    let channel = testing::channel("edge", "bookings", running.address());

    let answer = HealthClient::new(channel).check(named("readiness")).await.expect("an answer");

    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_port_serves_nothing_else() {
    let running = Config::new().start().await.expect("started");

    let refused = AccountServiceClient::new(probe(&running).await).get_me(GetMeRequest {}).await;

    assert_eq!(refused.expect_err("not here").code(), Code::Unimplemented);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_verify_tokens_lives_and_is_not_ready() {
    let nobody = TargetConfig { address: "127.0.0.1:1".to_owned() };
    let running = Config { identity: Some(nobody), ..Config::new() }.start().await.expect("started");

    until(&running, "liveness", ServingStatus::Serving).await;
    until(&running, "startup", ServingStatus::Serving).await;
    for name in ["", "readiness"] {
        assert_eq!(status(&running, name).await, Ok(ServingStatus::NotServing), "{name:?}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_service_lives_and_is_not_ready_until_it_is_back() {
    let (own, other) = (Database::new().await, Database::new().await);
    let running =
        Config { database: Some(own.config.clone()), ..Config::new() }.start().await.expect("started");
    soon(running.ready()).await;
    // From another database of the same server, this one can be closed to everybody.
    let mut admin = other.connect().await;
    let url: tokio_postgres::Config = own.config.url.expose_secret().parse().expect("a URL");
    let name = url.get_dbname().expect("a name");

    admin
        .batch_execute(&format!(
            "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ))
        .await
        .expect("closed");
    until(&running, "readiness", ServingStatus::NotServing).await;
    assert_eq!(status(&running, "").await, Ok(ServingStatus::NotServing));
    for name in ["liveness", "startup"] {
        assert_eq!(status(&running, name).await, Ok(ServingStatus::Serving), "{name}");
    }

    admin.batch_execute(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")).await.expect("opened");
    until(&running, "readiness", ServingStatus::Serving).await;
    until(&running, "", ServingStatus::Serving).await;
    running.stop().await;
}
