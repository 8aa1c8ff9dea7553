//! A gRPC service and its REST face in one process.
//!
//! ```sh
//! cargo run -p transcoder --example helloworld
//! curl localhost:8081/v1/hello/Ada
//! curl localhost:8081/v1/hello -H 'content-type: application/json' -d '{"name": "Ada"}'
//! curl -N 'localhost:8081/v1/hello/Ada/again?times=3'
//! curl -i localhost:8081/v1/hello -H 'content-type: application/json' -d '{"nmae": "Ada"}'
//! ```
#![expect(clippy::print_stdout, reason = "an example talks to the person who runs it")]
#![expect(
    clippy::disallowed_methods,
    reason = "the greeter has no error type of its own to make statuses from"
)]

use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use futures::future::BoxFuture;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};
use transcoder::Transcoder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compiler = protox::Compiler::new([root.join("examples"), root.join("proto/third_party")])?;
    compiler.include_imports(true).open_file("helloworld.proto")?;

    // Any gRPC service will do: here tonic's own router, in this process; else a `tonic::transport::Channel`.
    let transcoder = Transcoder::builder(&compiler.encode_file_descriptor_set())
        .upstream("helloworld.v1.Greeter", tonic::service::Routes::new(Greeter))
        .build()?;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:8081").await?;
    println!("try: curl http://{}/v1/hello/Ada", listener.local_addr()?);
    axum::serve(listener, axum::Router::new().fallback_service(transcoder)).await?;
    Ok(())
}

#[derive(Clone, PartialEq, prost::Message)]
struct SayHelloRequest {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    times: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SayHelloResponse {
    #[prost(string, tag = "1")]
    message: String,
}

/// What `tonic-prost-build` would generate and a handler would fill in.
#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "helloworld.v1.Greeter";
}

async fn say_hello(request: Request<SayHelloRequest>) -> Result<Response<SayHelloResponse>, Status> {
    let name = request.into_inner().name;
    Ok(Response::new(SayHelloResponse { message: format!("Hello, {name}!") }))
}

type Greetings = Pin<Box<dyn Stream<Item = Result<SayHelloResponse, Status>> + Send>>;

async fn keep_greeting(request: Request<SayHelloRequest>) -> Result<Response<Greetings>, Status> {
    let SayHelloRequest { name, times } = request.into_inner();
    if times > 100 {
        return Err(Status::invalid_argument("`times` is at most 100"));
    }
    let greetings = (1..=times)
        .map(move |time| Ok(SayHelloResponse { message: format!("Hello for the {time}. time, {name}!") }));
    Ok(Response::new(Box::pin(futures::stream::iter(greetings))))
}

impl Service<http::Request<tonic::body::Body>> for Greeter {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(async move {
            let path = request.uri().path();
            Ok(if path.ends_with("/SayHello") {
                Grpc::new(ProstCodec::default()).unary(service_fn(say_hello), request).await
            } else if path.ends_with("/KeepGreeting") {
                Grpc::new(ProstCodec::default()).server_streaming(service_fn(keep_greeting), request).await
            } else {
                Status::unimplemented("no such method").into_http()
            })
        })
    }
}
