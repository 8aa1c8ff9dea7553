//! The gateway in front of services that are not Jetway's.

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use edge::{
    Edge,
    config::{Access, Config, LimitsConfig, UpstreamConfig},
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use mesh::{
    clock::Clock,
    config::{self, Sources, TelemetryConfig},
    run::{self, Running},
    telemetry, testing,
};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use crate::greeter::{self, Greeter, Reflection};

struct Front {
    edge: Running,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Front {
    async fn try_start(upstream: UpstreamConfig) -> anyhow::Result<Self> {
        let config = Config {
            server: testing::free_ports(),
            upstream: vec![upstream],
            limits: LimitsConfig::default().times(1000),
            ..Config::default()
        };
        assert_eq!(config::Configuration::check(&config), [""; 0]);
        let edge = run::start::<Edge>(config, Clock::system(None)).await?;
        Ok(Self { edge, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    /// Starts, and waits until the gateway says that it is ready.
    async fn start(upstream: UpstreamConfig) -> Self {
        let front = Self::try_start(upstream).await.expect("the edge starts");
        soon(front.edge.ready()).await;
        front
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.try_get(path).await.expect("an answer")
    }

    async fn try_get(&self, path: &str) -> anyhow::Result<(StatusCode, Value)> {
        let uri = format!("http://{}{path}", self.edge.address());
        self.send(Request::get(uri).body(Full::default())?).await
    }

    /// Greets with these headers, over REST and over Connect: the values of `authorization` and `cookie` that the service is told each time.
    async fn told(&self, greeter: &Greeter, headers: &[(&str, &str)]) -> Vec<[Option<String>; 2]> {
        let address = self.edge.address();
        let mut told = Vec::new();
        for (method, path, content) in
            [("GET", "/v1/hello/Ada", ""), ("POST", "/hello.v1.Greeter/SayHello", "{}")]
        {
            let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
            for (name, value) in headers.iter().chain(&[("content-type", "application/json")]) {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::from(content)).expect("a request");
            assert_eq!(self.send(request).await.expect("an answer").0, StatusCode::OK, "{path}");
            let metadata = greeter.told.lock().expect("no panic").clone();
            let value = |name| metadata.get(name).map(|value| value.to_str().expect("ASCII").to_owned());
            told.push([value("authorization"), value("cookie")]);
        }
        told
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Value)> {
        let response = self.client.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Asks until the answer has this status.
    async fn until(&self, path: &str, status: StatusCode) {
        soon(async { while self.get(path).await.0 != status {} }).await;
    }
}

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it happens soon")
}

fn open(address: String) -> UpstreamConfig {
    UpstreamConfig { address, access: Access::Open, ..UpstreamConfig::default() }
}

fn with_set(address: String, set: &Path) -> UpstreamConfig {
    UpstreamConfig { descriptor_set: Some(set.to_owned()), ..open(address) }
}

fn set_file(content: &[u8]) -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("written");
    file.into_temp_path()
}

/// Replaces a file at once, as a rename does.
fn replace(path: &Path, content: &[u8]) {
    let aside = path.with_extension("new");
    std::fs::write(&aside, content).expect("written");
    std::fs::rename(aside, path).expect("renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_service_is_fronted_by_a_descriptor_set_alone() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let upstream = Greeter::default().start(Reflection::None, &[]).await;

    let front = Front::start(with_set(upstream.url(), &set)).await;

    let (status, body) = front.get("/v1/hello/Ada").await;
    assert_eq!((status, &body["name"]), (StatusCode::OK, &Value::from("Hello, Ada!")));
    assert_eq!(front.get("/readyz").await.0, StatusCode::OK, "neither keys nor a certificate are needed");
    assert_eq!(front.get("/api/v1/airports").await.0, StatusCode::NOT_FOUND, "only what was asked for");
    let (_, document) = front.get("/openapi.json").await;
    assert!(document["paths"]["/v1/hello/{name}"].is_object(), "{document}");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_service_is_fronted_by_reflection_in_both_of_its_versions() {
    let set = greeter::descriptor_set("/v1/hello/{name}");
    for version in [Reflection::V1, Reflection::V1Alpha] {
        let upstream = Greeter::default().start(version, &set).await;

        let front = Front::start(UpstreamConfig { reflection: true, ..open(upstream.url()) }).await;

        let (status, body) = front.get("/v1/hello/Ada").await;
        assert_eq!((status, &body["name"]), (StatusCode::OK, &Value::from("Hello, Ada!")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_not_ready_before_an_upstream_with_reflection_has_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let config = UpstreamConfig { reflection: true, ..open(format!("http://{address}")) };

    let front = Front::try_start(config).await.expect("the edge starts");
    assert_eq!(front.get("/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);

    let listener = TcpListener::bind(address).await.expect("the port is still free");
    let _upstream =
        Greeter::default().serve(listener, Reflection::V1, &greeter::descriptor_set("/v1/hello/{name}"));
    soon(front.edge.ready()).await;
    assert_eq!(front.get("/v1/hello/Ada").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_comes_back_is_asked_for_its_descriptors_again() {
    let old = Greeter::default().start(Reflection::V1, &greeter::descriptor_set("/v1/hello/{name}")).await;
    let address = old.address;
    let front = Front::start(UpstreamConfig { reflection: true, ..open(old.url()) }).await;
    assert_eq!(front.get("/v1/hello/Ada").await.0, StatusCode::OK);

    old.stop().await;
    let listener = TcpListener::bind(address).await.expect("the port is free again");
    let _new =
        Greeter::default().serve(listener, Reflection::V1, &greeter::descriptor_set("/v2/hello/{name}"));
    // Calls are what opens connections.
    front.until("/v1/hello/Ada", StatusCode::NOT_FOUND).await;
    assert_eq!(front.get("/v2/hello/Ada").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_set_is_replaced_under_load_and_no_request_fails() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let upstream = Greeter::default().start(Reflection::None, &[]).await;
    let front = Front::start(with_set(upstream.url(), &set)).await;

    let stop = tokio_util::sync::CancellationToken::new();
    let load = async {
        let mut answered = 0_u32;
        while !stop.is_cancelled() {
            let (status, _) = front.get("/v1/hello/Ada").await;
            assert_eq!(status, StatusCode::OK, "after {answered} answers");
            answered += 1;
        }
        answered
    };
    let swaps = async {
        for extra in ["int32 a = 2;", "int32 a = 2; int32 b = 3;"] {
            replace(&set, &greeter::descriptor_set_with("/v1/hello/{name}", extra));
            let field = if extra.contains('b') { "b" } else { "a" };
            soon(async {
                while !front.get("/openapi.json").await.1.to_string().contains(&format!("\"{field}\"")) {}
            })
            .await;
        }
        stop.cancel();
    };
    let (answered, ()) = tokio::join!(load, swaps);
    assert!(answered > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_finishes_on_the_routes_that_it_began_with() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let greeter = Greeter::default();
    let upstream = greeter.clone().start(Reflection::None, &[]).await;
    let front = Front::start(with_set(upstream.url(), &set)).await;

    let slow = front.get("/v1/hello/slow");
    let swapped = async {
        soon(greeter.has_slow_call()).await;
        replace(&set, &greeter::descriptor_set("/v2/hello/{name}"));
        front.until("/v1/hello/Ada", StatusCode::NOT_FOUND).await;
        greeter.gate.add_permits(1);
    };
    let ((status, _), ()) = tokio::join!(slow, swapped);
    assert_eq!(status, StatusCode::OK);
}

/// The line of the metrics that counts refused descriptors.
fn refused() -> Option<String> {
    let metrics = telemetry::metrics_text();
    let line =
        metrics.lines().find(|line| line.starts_with("edge_descriptor_reloads_total{result=\"refused\"}"));
    line.map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_descriptor_set_is_refused_and_the_old_one_stays() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let upstream = Greeter::default().start(Reflection::None, &[]).await;
    telemetry::init(&TelemetryConfig::default(), telemetry::Output::StandardError);
    let front = Front::start(with_set(upstream.url(), &set)).await;

    let good = greeter::descriptor_set("/v2/hello/{name}");
    // A set that is cut off, and one without the service.
    for broken in [&good[..good.len() / 2], &[][..]] {
        let before = refused();
        replace(&set, broken);
        soon(async {
            while refused() == before {
                assert_eq!(front.get("/v1/hello/Ada").await.0, StatusCode::OK);
            }
        })
        .await;
        assert_eq!(front.get("/v1/hello/Ada").await.0, StatusCode::OK);
    }
    replace(&set, &good);
    front.until("/v2/hello/Ada", StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_another_descriptor_set_is_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    for version in ["v1", "v2"] {
        let set = greeter::descriptor_set(&format!("/{version}/hello/{{name}}"));
        std::fs::create_dir(dir.path().join(version)).expect("made");
        std::fs::write(dir.path().join(version).join("set.binpb"), set).expect("written");
    }
    // As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is replaced at once.
    let data = dir.path().join("..data");
    std::os::unix::fs::symlink("v1", &data).expect("linked");
    let file = dir.path().join("set.binpb");
    std::os::unix::fs::symlink("..data/set.binpb", &file).expect("linked");
    let upstream = Greeter::default().start(Reflection::None, &[]).await;
    let front = Front::start(with_set(upstream.url(), &file)).await;
    assert_eq!(front.get("/v1/hello/Ada").await.0, StatusCode::OK);

    let aside = dir.path().join("..data_tmp");
    std::os::unix::fs::symlink("v2", &aside).expect("linked");
    std::fs::rename(aside, data).expect("renamed");

    front.until("/v2/hello/Ada", StatusCode::OK).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_policy_that_is_not_said_to_be_open_is_refused_at_the_start() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let issuer = testing::Issuer::start().await;
    let config = |access, services: &[&str], set: &Path| Config {
        server: testing::free_ports(),
        tls: testing::certificate("edge"),
        identity: issuer.target(),
        platform: Some(true),
        upstream: vec![UpstreamConfig {
            access,
            services: services.iter().map(|&name| name.to_owned()).collect(),
            ..with_set("http://127.0.0.1:9".to_owned(), set)
        }],
        ..Config::default()
    };
    let own = set_file(proto::DESCRIPTOR_SET);
    for (config, said) in [
        (
            config(Access::Policy, &[], &set),
            "`upstream.0.access`: the method `/hello.v1.Greeter/SayHello` has no policy; say `access = \"open\"`",
        ),
        (
            config(Access::Open, &["hello.v1.Nobody"], &set),
            "`upstream.0.services`: there is no service `hello.v1.Nobody` in the descriptor set",
        ),
        (
            config(Access::Open, &["jetway.bookings.v1.HoldService"], &own),
            "`bookings` and `upstream.0` both serve `jetway.bookings.v1.HoldService`",
        ),
        (
            Config {
                platform: Some(false),
                ..config(Access::Open, &["jetway.bookings.v1.HoldService"], &own)
            },
            "`upstream.0.access` cannot be open: the method `/jetway.bookings.v1.HoldService/",
        ),
    ] {
        let error = run::start::<Edge>(config, Clock::system(None)).await.err().expect("refused");
        let error = format!("{error:#}");
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_service_is_served_beside_jetways_own() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let upstream = Greeter::default().start(Reflection::None, &[]).await;
    let issuer = testing::Issuer::start().await;
    let config = Config {
        server: testing::free_ports(),
        tls: testing::certificate("edge"),
        identity: issuer.target(),
        platform: Some(true),
        upstream: vec![with_set(upstream.url(), &set)],
        ..Config::default()
    };
    let edge = run::start::<Edge>(config, Clock::system(None)).await.expect("the edge starts");
    soon(edge.ready()).await;
    let front = Front { edge, client: Client::builder(TokioExecutor::new()).build_http() };

    assert_eq!(front.get("/v1/hello/Ada").await.0, StatusCode::OK);
    assert_eq!(front.get("/api/v1/me").await.0, StatusCode::UNAUTHORIZED, "Jetway's own are checked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_keeps_the_call_no_longer_than_its_deadline() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let greeter = Greeter::default();
    let upstream = greeter.clone().start(Reflection::None, &[]).await;
    let front = Front::start(with_set(upstream.url(), &set)).await;
    let body = "{\"name\":\"flood\"}\n";

    let mut client = TcpStream::connect(front.edge.address()).await.expect("the edge listens");
    let head =
        "POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ngrpc-timeout: 1S\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    client.write_all(request.as_bytes()).await.expect("sent");

    // Much sooner than the server in front gives up a client that takes nothing.
    let ended = async {
        while !greeter.cancelled.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), ended).await.expect("the call is ended upstream");
    drop(client);
}

/// What a customer of the platform sends who is signed in: a token, or the cookie of a session.
fn signed_in(issuer: &testing::Issuer) -> [Vec<(&'static str, String)>; 2] {
    let token = issuer.token(mesh::auth::PrincipalId::generate(), &["customer"]);
    [
        vec![("authorization", format!("Bearer {token}")), ("cookie", "a=b".to_owned())],
        vec![("cookie", format!("__Host-jetway_at={token}; __Host-jetway_rt=refresh"))],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_platform_goes_to_an_open_service_only_where_the_setting_says_so() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let greeter = Greeter::default();
    let upstream = greeter.clone().start(Reflection::None, &[]).await;
    let issuer = testing::Issuer::start().await;
    for forward_authorization in [None, Some(false), Some(true)] {
        let config = Config {
            server: testing::free_ports(),
            tls: testing::certificate("edge"),
            identity: issuer.target(),
            platform: Some(true),
            upstream: vec![UpstreamConfig { forward_authorization, ..with_set(upstream.url(), &set) }],
            limits: LimitsConfig::default().times(1000),
            ..Config::default()
        };
        let edge = run::start::<Edge>(config, Clock::system(None)).await.expect("the edge starts");
        soon(edge.ready()).await;
        let front = Front { edge, client: Client::builder(TokioExecutor::new()).build_http() };

        for headers in signed_in(&issuer) {
            let sent: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let (_, authorization) =
                headers.first().filter(|(name, _)| *name == "authorization").cloned().unzip();
            let expected = authorization.filter(|_| forward_authorization == Some(true));
            for told in front.told(&greeter, &sent).await {
                assert_eq!(told, [expected.clone(), None], "{forward_authorization:?} {sent:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_token_is_checked_what_clients_sign_in_with_goes_to_the_service_that_does() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let greeter = Greeter::default();
    let upstream = greeter.clone().start(Reflection::None, &[]).await;
    let sent =
        [("authorization", "Basic YTpi"), ("cookie", "session=1"), ("grpc-metadata-cookie", "session=2")];
    for (forward_authorization, expected) in
        [(None, Some("Basic YTpi")), (Some(true), Some("Basic YTpi")), (Some(false), None)]
    {
        let config = UpstreamConfig { forward_authorization, ..with_set(upstream.url(), &set) };
        let front = Front::start(config).await;

        for told in front.told(&greeter, &sent).await {
            assert_eq!(told, [expected.map(str::to_owned), None], "{forward_authorization:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_cancels_the_call() {
    let set = set_file(&greeter::descriptor_set("/v1/hello/{name}"));
    let greeter = Greeter::default();
    let upstream = greeter.clone().start(Reflection::None, &[]).await;
    let front = Front::start(with_set(upstream.url(), &set)).await;

    tokio::select! {
        answer = front.get("/v1/hello/slow") => panic!("{answer:?}"),
        () = soon(greeter.has_slow_call()) => {}
    }

    soon(async {
        while !greeter.cancelled.load(Ordering::SeqCst) {
            assert_eq!(front.get("/v1/hello/Ada").await.0, StatusCode::OK);
        }
    })
    .await;
}

#[test]
fn a_quick_start_is_flags_alone() {
    let first = "edge --listen 127.0.0.1:7 --upstream http://a:1 --descriptor-set a.binpb --access open";
    let second = "--upstream https://b:2,c:3 --reflection --services x.A,x.B";
    let command = clap::Command::new("edge").args(<Config as config::Configuration>::flags());
    let matches = command.get_matches_from(first.split(' ').chain(second.split(' ')));
    let flags = <Config as config::Configuration>::set_by_flags(&matches);
    assert_eq!(
        flags,
        [
            "server.listen=127.0.0.1:7",
            "upstream.0.address=http://a:1",
            "upstream.0.descriptor_set=a.binpb",
            "upstream.0.access=open",
            "upstream.1.address=https://b:2,c:3",
            "upstream.1.reflection=true",
            "upstream.1.services=x.A,x.B",
        ]
    );
}

#[test]
fn the_settings_of_an_upstream_come_from_a_file_or_from_variables_alike() {
    let toml = set_file(
        b"listen = '127.0.0.1:7'\n[[upstream]]\naddress = 'http://127.0.0.1:50051'\ndescriptor_set = 'orders.binpb'\nservices = ['orders.v1.Orders']\naccess = 'open'\n",
    );
    let from_file = Sources { file: Some(toml.to_path_buf()), ..Sources::default() };
    let variables = [
        ("JETWAY_EDGE_LISTEN", "127.0.0.1:7"),
        ("JETWAY_EDGE_UPSTREAM__0__ADDRESS", "http://127.0.0.1:50051"),
        ("JETWAY_EDGE_UPSTREAM__0__DESCRIPTOR_SET", "orders.binpb"),
        ("JETWAY_EDGE_UPSTREAM__0__SERVICES", "orders.v1.Orders"),
        ("JETWAY_EDGE_UPSTREAM__0__ACCESS", "open"),
    ];
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let from_environment = Sources { environment, ..Sources::default() };

    let [one, other] =
        [from_file, from_environment].map(|sources| config::load::<Config>("edge", &sources).expect("right"));

    assert_eq!(config::print(&one), config::print(&other));
    assert_eq!(one.server.listen.port(), 7);
    assert_eq!(one.upstream[0].services, ["orders.v1.Orders"]);
    assert!(!one.fronts_platform() && !one.checks_tokens(), "it needs nothing of the platform's");
}

#[test]
fn every_mistake_of_an_upstream_is_said_at_once_by_its_name() {
    let flags = [
        "upstream.0.address=127.0.0.1:50051",
        "upstream.0.access=closed",
        "upstream.0.colour=red",
        "upstream.1.address=http://a,https://b",
        "upstream.1.reflection=true",
        "upstream.1.descriptor_set=a.binpb",
        "upstream.2.address=http://a:1",
        "upstream.2.descriptor_set=a.binpb",
        "upstream.2.access=open",
        "upstream.2.workload=orders",
        "upstream.2.certificate=a.pem",
        "upstream.2.connections=0",
        "upstream.1.forward_authorization=true",
    ];
    let sources = Sources { flags: flags.map(str::to_owned).to_vec(), ..Sources::default() };
    let error = config::load::<Config>("edge", &sources).expect_err("wrong").to_string();
    for said in [
        "`upstream.0.address` must start with",
        "`upstream.0.access` (flag --set) must be one of policy, open",
        "`upstream.0.colour` (flag --set) is not a setting",
        "`upstream.0.descriptor_set` is missing",
        "`upstream.1.address` must not mix",
        "`upstream.1.reflection` and `descriptor_set` exclude each other",
        "`upstream.1.forward_authorization` needs `access = \"open\"`",
        "`upstream.2.workload` needs an address with `https://`",
        "`upstream.2.certificate` and `workload` exclude each other",
        "`upstream.2.certificate` and `key` go together",
        "`upstream.2.connections` must be at least 1",
        "`tls.certificate` is missing",
    ] {
        assert!(error.contains(said), "{said}: {error}");
    }
}
