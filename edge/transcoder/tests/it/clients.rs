//! Clients of other projects against the transcoder on a socket, in front of a server of tonic.
//!
//! `scripts/peers/grpc-clients` installs them.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Output;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _};
use http_body::Frame;
use http_body_util::BodyExt as _;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};
use transcoder::Transcoder;

use crate::harness::DESCRIPTOR_SET;

#[derive(Clone, PartialEq, prost::Message)]
struct Animal {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    legs: i32,
}

/// What the calls use of `Everything`: the rest is dropped.
#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "14")]
    string_value: String,
}

/// Counts the endless streams that were dropped.
struct Left(Arc<watch::Sender<usize>>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.send_modify(|left| *left += 1);
    }
}

/// A zoo with one lion.
#[derive(Clone)]
struct Zoo {
    left: Arc<watch::Sender<usize>>,
}

impl NamedService for Zoo {
    const NAME: &'static str = "zoo.v1.Zoo";
}

type Animals = Pin<Box<dyn Stream<Item = Result<Animal, Status>> + Send>>;
type Texts = Pin<Box<dyn Stream<Item = Result<Text, Status>> + Send>>;

/// A status with everything that one can have.
fn gone(code: Code) -> Status {
    let info = tonic_types::pb::ErrorInfo { reason: "GONE".to_owned(), ..Default::default() };
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    let message = "no lion: “ä” 100%";
    let details =
        tonic_types::pb::Status { code: code.into(), message: message.to_owned(), details: vec![detail] };
    let mut status = Status::with_details(code, message, details.encode_to_vec().into());
    status.metadata_mut().insert("x-why", "away".parse().unwrap());
    status
}

/// An answer that repeats what it was told.
fn with_metadata<T>(reply: T, request: &MetadataMap) -> Response<T> {
    let mut response = Response::new(reply);
    if let Some(value) = request.get("x-tenant") {
        response.metadata_mut().insert("x-tenant", value.clone());
    }
    if let Some(value) = request.get_bin("x-trace-bin") {
        response.metadata_mut().insert_bin("x-trace-bin", value.clone());
    }
    response
}

async fn get_animal(request: Request<Animal>) -> Result<Response<Animal>, Status> {
    let (metadata, _, animal) = request.into_parts();
    match &*animal.name {
        "gone" => Err(gone(Code::NotFound)),
        "asleep" => std::future::pending().await,
        _ => Ok(with_metadata(Animal { legs: animal.legs + 1, ..animal }, &metadata)),
    }
}

async fn echo(request: Request<Text>) -> Result<Response<Text>, Status> {
    Ok(Response::new(request.into_inner()))
}

fn watch_animal(left: Arc<watch::Sender<usize>>, request: Request<Animal>) -> Response<Animals> {
    let Animal { name, legs } = request.into_inner();
    if name == "endless" {
        let held = Left(left);
        let first = futures::stream::once(async { Ok(Animal { legs: 1, ..Animal::default() }) });
        let silence = futures::stream::once(async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(Animal::default())
        });
        return Response::new(Box::pin(first.chain(silence)));
    }
    let animals = (1..=legs).map(|legs| Ok(Animal { legs, ..Animal::default() }));
    let last = (name == "gone").then(|| Err(gone(Code::FailedPrecondition)));
    Response::new(Box::pin(futures::stream::iter(animals.chain(last).collect::<Vec<_>>())))
}

async fn feed(request: Request<Streaming<Animal>>) -> Result<Response<()>, Status> {
    let mut animals = request.into_inner();
    let mut sum = 0;
    while let Some(animal) = animals.message().await? {
        sum += animal.legs;
    }
    let mut response = Response::new(());
    response.metadata_mut().insert("x-sum", sum.to_string().parse().unwrap());
    Ok(response)
}

async fn chat(request: Request<Streaming<Text>>) -> Result<Response<Texts>, Status> {
    Ok(Response::new(Box::pin(request.into_inner())))
}

impl Service<http::Request<tonic::body::Body>> for Zoo {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        const GZIP: CompressionEncoding = CompressionEncoding::Gzip;
        let left = Arc::clone(&self.left);
        let animals = || Grpc::new(ProstCodec::default()).accept_compressed(GZIP).send_compressed(GZIP);
        let texts = || Grpc::new(ProstCodec::default()).accept_compressed(GZIP).send_compressed(GZIP);
        let fed = || Grpc::new(ProstCodec::default()).accept_compressed(GZIP).send_compressed(GZIP);
        Box::pin(async move {
            let response = match request.uri().path().rsplit('/').next().unwrap_or_default() {
                "GetAnimal" => animals().unary(service_fn(get_animal), request).await,
                "Echo" => texts().unary(service_fn(echo), request).await,
                "Watch" => {
                    let watch =
                        move |request| std::future::ready(Ok(watch_animal(Arc::clone(&left), request)));
                    animals().server_streaming(service_fn(watch), request).await
                }
                "Feed" => fed().client_streaming(service_fn(feed), request).await,
                "Chat" => texts().streaming(service_fn(chat), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            };
            // tonic has no way to give a good answer trailers of its own.
            Ok(response.map(|body| {
                tonic::body::Body::new(body.map_frame(|frame| match frame.into_trailers() {
                    Ok(mut trailers) => {
                        trailers.insert("x-last", http::HeaderValue::from_static("end"));
                        Frame::trailers(trailers)
                    }
                    Err(frame) => frame,
                }))
            }))
        })
    }
}

/// The address of a transcoder in front of a server of tonic, both on sockets.
async fn serve(left: Arc<watch::Sender<usize>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(Zoo { left });
    tokio::spawn(server.serve_with_incoming(incoming));
    let channel = tonic::transport::Endpoint::new(upstream).unwrap().connect_lazy();
    let transcoder = Transcoder::builder(&DESCRIPTOR_SET)
        .upstream("zoo.v1.Zoo", channel)
        .all_metadata(true)
        .build()
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(
        async move { axum::serve(listener, axum::Router::new().fallback_service(transcoder)).await },
    );
    address
}

/// A program or file that is installed for the tests.
fn peer(path: &str) -> PathBuf {
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.jetway/peers").join(path);
    assert!(peer.exists(), "{} is missing: run scripts/peers/grpc-clients", peer.display());
    peer
}

/// The descriptor set as a file.
fn descriptor_set() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &*DESCRIPTOR_SET).unwrap();
    file
}

async fn run(command: &mut Command) -> Output {
    let done = tokio::time::timeout(Duration::from_secs(120), command.kill_on_drop(true).output());
    done.await.expect("ends in time").unwrap()
}

/// What every client should see of a call.
fn expected(client: &str, call: &str) -> Value {
    let of_grpc_js = client.starts_with("grpc-js");
    let failed = |code: i32| {
        let mut told = json!({"code": code, "message": "no lion: “ä” 100%", "metadata": "away"});
        if of_grpc_js {
            // The client leaves them in the metadata.
            told["details"] = json!(1);
        } else if client.starts_with("connect") {
            told["details"] = json!(["google.rpc.ErrorInfo"]);
        }
        told
    };
    match call {
        "unary" => json!({"name": "leo", "legs": 5, "tenant": "t1", "trace": [0, 255, 3], "trailer": "end"}),
        "error" => failed(5),
        "deadline" | "serverStreamDeadline" => json!(4),
        "unknown" => json!(12),
        "large" => json!(300_000),
        "tooLarge" => json!(8),
        "serverStream" => json!([1, 2, 3]),
        "serverStreamError" => {
            let mut told = failed(9);
            // The client of grpc-js drops what it has not handed out when the error comes.
            if !of_grpc_js {
                told["legs"] = json!([1, 2]);
            }
            told
        }
        "cancel" => json!({"legs": [1], "code": 1}),
        "clientStream" => json!("6"),
        "bidirectional" => json!(["a", "b", "c"]),
        _ => panic!("an unknown call: {call}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_other_projects_see_the_same_in_every_protocol() {
    let (left, mut leavings) = watch::channel(0);
    let address = serve(Arc::new(left)).await;
    let set = descriptor_set();
    let output = run(Command::new(peer("bin/node"))
        .args(["--preserve-symlinks", "--preserve-symlinks-main"])
        .arg(peer("grpc-clients/main.mjs"))
        .arg(&address)
        .arg(set.path()))
    .await;
    let errors = String::from_utf8_lossy(&output.stderr);
    let seen: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    let seen = seen.as_object().unwrap();
    let mut wrong = Vec::new();
    let mut endless = 0;
    for (client, calls) in seen {
        for (call, result) in calls.as_object().unwrap() {
            endless += usize::from(["cancel", "serverStreamDeadline"].contains(&call.as_str()));
            let expected = expected(client, call);
            if *result != expected {
                wrong.push(format!("{client}: {call}: {result}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), 20, "{:?}", seen.keys());
    // Whoever leaves a stream, or is too late for it, ends it upstream.
    let all = tokio::time::timeout(Duration::from_secs(10), leavings.wait_for(|left| *left == endless));
    assert!(all.await.is_ok(), "{} of {endless} endless streams were ended", *leavings.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_calls_through_the_transcoder() {
    let (left, _) = watch::channel(0);
    let address = serve(Arc::new(left)).await;
    let set = descriptor_set();
    let call = async |method: &str, data: &str, flags: &[&str]| {
        run(Command::new(peer("bin/grpcurl"))
            .args(["-plaintext", "-protoset"])
            .arg(set.path())
            .args(flags)
            .args(["-d", data, &address, &format!("zoo.v1.Zoo/{method}")]))
        .await
    };
    let replies = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::Deserializer::from_str(&text).into_iter::<Value>().collect::<Result<Vec<_>, _>>().unwrap()
    };
    let unary = call("GetAnimal", r#"{"name": "leo", "legs": 4}"#, &[]).await;
    assert_eq!(replies(&unary), [json!({"name": "leo", "legs": 5})], "{unary:?}");
    let streamed = call("Watch", r#"{"legs": 3}"#, &[]).await;
    assert_eq!(replies(&streamed), [json!({"legs": 1}), json!({"legs": 2}), json!({"legs": 3})]);
    let both = call("Chat", r#"{"stringValue": "a"} {"stringValue": "b"}"#, &[]).await;
    assert_eq!(replies(&both), [json!({"stringValue": "a"}), json!({"stringValue": "b"})]);
    let fed = call("Feed", r#"{"legs": 1} {"legs": 2}"#, &["-v"]).await;
    assert!(String::from_utf8_lossy(&fed.stdout).contains("x-sum: 3"), "{fed:?}");
    let refused = call("GetAnimal", r#"{"name": "gone"}"#, &["-format-error"]).await;
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("no lion: “ä” 100%") && told.contains("CgRHT05F"), "{told}");
    let late = call("GetAnimal", r#"{"name": "asleep"}"#, &["-max-time", "0.3"]).await;
    assert!(String::from_utf8_lossy(&late.stderr).contains("DeadlineExceeded"), "{late:?}");
}
