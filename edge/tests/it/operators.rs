//! What operators see: the access log, the metrics, the admin port.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tonic_prost::ProstCodec;

use crate::{
    greeter::{self, Greeter, Hello, Reflection},
    harness::TestEdge,
    process::EdgeProcess,
};

/// An edge in front of a service without policies, whose `SayHello` has this path and this further field.
async fn in_front_of(
    greeter: &greeter::Running,
    path: &str,
    further: &str,
    settings: &[&str],
) -> (EdgeProcess, tempfile::NamedTempFile) {
    let set = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(set.path(), greeter::descriptor_set_with(path, further)).expect("written");
    let mut all = vec![
        format!("upstream.0.address=http://{}", greeter.address),
        format!("upstream.0.descriptor_set={}", set.path().display()),
        "upstream.0.access=open".to_owned(),
    ];
    all.extend(settings.iter().map(|setting| (*setting).to_owned()));
    (EdgeProcess::start(&all).await, set)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_with_the_value_of_a_redacted_field_is_not_logged() {
    let greeter = Greeter::default().start(Reflection::None, &[]).await;
    let path = "/v1/hello/{name}/{code}";
    let (edge, _set) = in_front_of(&greeter, path, "string code = 2 [debug_redact = true];", &[]).await;
    let asked = edge.ask(Method::GET, "/v1/hello/ada/planted-code", &[("x-request-id", "r-1")], "").await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.body);
    let line = edge.access("r-1").await;
    assert_eq!((&line["rpc"], &line["path"]), (&json!("/hello.v1.Greeter/SayHello"), &Value::Null));
    assert!(!edge.log().contains("planted"), "{}", edge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_service_without_policies_are_counted_by_network_before_they_are_made() {
    let greeter = Greeter::default().start(Reflection::None, &[]).await;
    let (edge, _set) = in_front_of(&greeter, "/v1/hello/{name}", "", &["limits.default_per_minute=1"]).await;
    assert_eq!(edge.ask(Method::GET, "/v1/hello/ada", &[], "").await.status, StatusCode::OK);
    let refused = edge.ask(Method::GET, "/v1/hello/ada", &[("authorization", "Bearer any")], "").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers.contains_key("retry-after") && refused.headers.contains_key("ratelimit"));
    let called = "edge_calls_total{rpc_method=\"/hello.v1.Greeter/SayHello\",rpc_status_code=\"0\"}";
    assert_eq!(edge.metric(called).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_logged_when_it_is_over_with_how_it_ended() {
    let greeter = Greeter::default().start(Reflection::None, &[]).await;
    let (edge, _set) = in_front_of(&greeter, "/v1/hello/{name}", "", &[]).await;
    for (id, leaves, code) in [("ends", false, "OK"), ("leaves", true, "CANCELLED")] {
        // The client's connection ends with its runtime, as with a process.
        let clients = tokio::runtime::Runtime::new().expect("a runtime");
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", edge.address()));
        let connecting = clients.spawn(async { endpoint.expect("an address").connect().await });
        let channel = connecting.await.expect("no panic").expect("the edge answers");
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.expect("it is");
        let (hellos, sent) = futures::channel::mpsc::unbounded();
        let mut call = tonic::Request::new(sent);
        call.metadata_mut().insert("x-request-id", id.parse().expect("ASCII"));
        let path = http::uri::PathAndQuery::from_static("/hello.v1.Greeter/Echo");
        hellos.unbounded_send(Hello { name: "ada".to_owned() }).expect("it is read");
        let codec = ProstCodec::<Hello, Hello>::default();
        let mut echoed = client.streaming(call, path, codec).await.expect("it streams").into_inner();
        assert_eq!(echoed.message().await.expect("well").expect("a message").name, "ada");
        assert!(!edge.log().contains(&format!("\"request_id\":\"{id}\"")), "it is not over");
        if leaves {
            clients.shutdown_background();
        } else {
            drop(hellos);
            assert!(echoed.message().await.expect("well").is_none());
            clients.shutdown_background();
        }
        let line = edge.access(id).await;
        assert_eq!((&line["code"], &line["rpc"]), (&json!(code), &json!("/hello.v1.Greeter/Echo")), "{line}");
        assert_eq!(line["cut_off"] == true, leaves, "{line}");
        assert_eq!((&line["protocol"], &line["status"]), (&json!("HTTP/2.0"), &json!(200)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_it_is_answered_is_told_of_with_499() {
    let service = Greeter::default();
    let greeter = service.clone().start(Reflection::None, &[]).await;
    let (edge, _set) = in_front_of(&greeter, "/v1/hello/{name}", "", &[]).await;

    tokio::select! {
        answer = edge.ask(Method::GET, "/v1/hello/slow", &[("x-request-id", "r-1")], "") => panic!("{}", answer.body),
        () = service.has_slow_call() => {}
    }

    let line = edge.access("r-1").await;
    assert_eq!((&line["status"], &line["code"]), (&json!(499), &json!("CANCELLED")), "{line}");
    assert_eq!((&line["cut_off"], &line["rpc"]), (&json!(true), &json!("/hello.v1.Greeter/SayHello")));
    assert_eq!(edge.metric("edge_responses_total{status=\"499\"}").await, Some(1.0));
    let calls = "edge_calls_total{rpc_method=\"/hello.v1.Greeter/SayHello\",rpc_status_code=\"1\"}";
    assert_eq!(edge.metric(calls).await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_one_line_of_log_without_its_secrets() {
    let t = TestEdge::start().await;
    let edge = EdgeProcess::start(&t.settings()).await;
    let bearer = format!("Bearer {}", t.token(&["customer"]));
    let headers = [
        ("authorization", bearer.as_str()),
        ("cookie", "session=planted-cookie"),
        ("x-request-id", "r-1"),
        ("user-agent", "probe/1 \"x\""),
    ];
    let hold = "/api/v1/holds/0198c0de-0000-7000-8000-000000000001";
    let path = format!("{hold}?view=planted-query");
    assert_eq!(edge.ask(Method::GET, &path, &headers, "").await.status, StatusCode::BAD_REQUEST);
    let line = edge.access("r-1").await;
    assert_eq!((&line["method"], &line["status"], &line["path"]), (&json!("GET"), &json!(400), &json!(hold)));
    assert_eq!(line["rpc"], "/jetway.bookings.v1.HoldService/GetHold");
    assert_eq!((&line["code"], &line["user_agent"]), (&json!("INVALID_ARGUMENT"), &json!("probe/1 \"x\"")));
    assert_eq!((&line["address"], &line["protocol"]), (&json!("127.0.0.1"), &json!("HTTP/1.1")));
    assert_eq!(line["user"].as_str().map(str::len), Some(36));

    let body = json!({ "email": "planted-email@jetway.example", "password": "planted-password" }).to_string();
    let headers = [("content-type", "application/json"), ("x-request-id", "r-2")];
    edge.ask(Method::POST, "/api/v1/auth/signin", &headers, &body).await;
    let line = edge.access("r-2").await;
    assert_eq!((&line["bytes_in"], &line["user"]), (&json!(body.len()), &Value::Null));
    assert!(line["bytes_out"].as_u64().unwrap() > 0 && line["elapsed_ms"].is_number());

    edge.ask(Method::GET, "/healthz", &[("x-request-id", "r-3")], "").await;
    edge.ask(Method::GET, "/nothing", &[("x-request-id", "r-4")], "").await;
    let line = edge.access("r-4").await;
    assert_eq!(
        (&line["status"], &line["code"], &line["rpc"]),
        (&json!(404), &json!("NOT_FOUND"), &Value::Null)
    );
    let log = edge.log();
    assert!(!log.contains("planted") && !log.contains(&bearer[7..]), "{log}");
    assert!(!log.contains("\"r-3\""), "probes that are well are not logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_filter_is_read_and_replaced_while_the_edge_runs() {
    let t = TestEdge::start().await;
    let edge = EdgeProcess::start(&t.settings()).await;
    let ask = async |id: &str| edge.ask(Method::GET, "/nothing", &[("x-request-id", id)], "").await;
    assert_eq!(edge.operate(Method::GET, "/debug/log", "").await.body, "info\n");

    let changed = edge.operate(Method::PUT, "/debug/log", "info,edge::access=off").await;
    assert_eq!((changed.status, &*changed.body), (StatusCode::OK, "info,edge::access=off\n"));
    ask("unseen").await;
    for wrong in ["", "edge=loudly", "a=b=c"] {
        let refused = edge.operate(Method::PUT, "/debug/log", wrong).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    assert_eq!(edge.operate(Method::GET, "/debug/log", "").await.body, "info,edge::access=off\n");
    edge.operate(Method::PUT, "/debug/log", "info").await;
    ask("seen").await;
    edge.access("seen").await;
    assert!(!edge.log().contains("unseen"));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_channels_are_shown_on_the_admin_port_and_only_there() {
    let t = TestEdge::start().await;
    let edge = EdgeProcess::start(&t.settings()).await;
    let bearer = format!("Bearer {}", t.token(&["customer"]));
    let hold = "/api/v1/holds/0198c0de-0000-7000-8000-000000000001";
    for _ in 0..2 {
        let answer = edge.ask(Method::GET, hold, &[("authorization", &bearer)], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    }
    edge.ask(Method::GET, "/nothing", &[], "").await;

    let get_hold = "/jetway.bookings.v1.HoldService/GetHold";
    for (metric, expected) in [
        (format!("edge_calls_total{{rpc_method=\"{get_hold}\",rpc_status_code=\"0\"}}"), 2.0),
        (format!("edge_request_duration_seconds_count{{rpc_method=\"{get_hold}\"}}"), 2.0),
        ("edge_responses_total{status=\"200\"}".to_owned(), 2.0),
        ("edge_responses_total{status=\"404\"}".to_owned(), 1.0),
        ("edge_requests_in_flight".to_owned(), 0.0),
        ("token_cache_total{result=\"hit\"}".to_owned(), 1.0),
        ("token_cache_total{result=\"miss\"}".to_owned(), 1.0),
        (
            "edge_rate_limit_decisions_total{limit=\"default\",result=\"allowed\",store=\"local\"}"
                .to_owned(),
            3.0,
        ),
    ] {
        assert_eq!(edge.metric(&metric).await, Some(expected), "{metric}");
    }

    let channels = edge.operate(Method::GET, "/debug/channels", "").await.body;
    let channels: Value = serde_json::from_str(&channels).expect("JSON");
    let of = |service: &str| {
        let channels = channels.as_array().expect("a list");
        channels.iter().find(|channel| channel["service"] == service).expect("it has a channel").clone()
    };
    let open = |service: &str| {
        let connections = of(service)["connections"].as_array().expect("a list").clone();
        connections.iter().filter(|connection| connection["open"] == true).count()
    };
    assert!(open("bookings") > 0, "{channels}");
    assert_eq!(open("payments"), 0, "{channels}");

    for path in ["/metrics", "/debug/log", "/debug/channels"] {
        assert_eq!(edge.ask(Method::GET, path, &[], "").await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_shows_no_address_of_a_service_and_no_text_of_a_library() {
    let t = TestEdge::start().await;
    let edge = EdgeProcess::start(&t.settings()).await;
    let bearer = format!("Bearer {}", t.token(&["customer"]));
    let answer = edge.ask(Method::GET, "/api/v1/paymentMethods", &[("authorization", &bearer)], "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let shown = format!("{}{:?}", answer.body, answer.headers);
    for hidden in ["127.0.0.1", ":9", "os error", "hyper", "tonic", "h2", "refused", "connect"] {
        assert!(!shown.contains(hidden), "{hidden}: {shown}");
    }
}
