//! A service of somebody else's: plain gRPC in clear text, with server reflection, and without a policy.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use futures::{Stream, StreamExt as _, stream};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    server::{Grpc, NamedService, StreamingService, UnaryService},
    service::Routes,
};
use tonic_prost::ProstCodec;
use tower::Service;

/// The protos of the service, whose `SayHello` has this path and this further field.
fn proto(path: &str, further: &str) -> String {
    format!(
        r#"
        syntax = "proto3";
        package hello.v1;
        import "google/api/annotations.proto";
        service Greeter {{
          rpc SayHello(Hello) returns (Hello) {{ option (google.api.http) = {{ get: "{path}" }}; }}
          rpc Echo(stream Hello) returns (stream Hello) {{ option (google.api.http) = {{ post: "/v1/echo" body: "*" }}; }}
        }}
        message Hello {{ string name = 1; {further} }}
        "#
    )
}

/// A descriptor set in which `SayHello` has this path.
pub(crate) fn descriptor_set(path: &str) -> Vec<u8> {
    descriptor_set_with(path, "")
}

pub(crate) fn descriptor_set_with(path: &str, further: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("hello.proto"), proto(path, further)).expect("written");
    let third_party = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcoder/proto/third_party");
    let mut compiler = protox::Compiler::new([dir.path(), &third_party]).expect("a compiler");
    compiler.include_imports(true).open_file("hello.proto").expect("the proto compiles");
    compiler.encode_file_descriptor_set()
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// What it does besides greeting.
#[derive(Clone)]
pub(crate) struct Greeter {
    /// Has a permit for each call for `slow` that has come.
    pub(crate) entered: Arc<Semaphore>,
    /// Calls for `slow` wait until there are permits.
    pub(crate) gate: Arc<Semaphore>,
    /// Set when a greeting was cancelled while it waited, or a flood.
    pub(crate) cancelled: Arc<AtomicBool>,
    /// How many messages of a KiB were taken of the answers to the message `flood`, of which each has a gigabyte.
    pub(crate) flooded: Arc<AtomicUsize>,
    /// The metadata of the last greeting.
    pub(crate) told: Arc<Mutex<MetadataMap>>,
}

impl Default for Greeter {
    fn default() -> Self {
        let empty = || Arc::new(Semaphore::new(0));
        Self {
            entered: empty(),
            gate: empty(),
            cancelled: Arc::default(),
            flooded: Arc::default(),
            told: Arc::default(),
        }
    }
}

impl NamedService for Greeter {
    const NAME: &'static str = "hello.v1.Greeter";
}

/// Says when it is dropped unfinished.
struct Watched(Option<Arc<AtomicBool>>);

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(cancelled) = self.0.take() {
            cancelled.store(true, Ordering::SeqCst);
        }
    }
}

impl UnaryService<Hello> for Greeter {
    type Response = Hello;
    type Future = BoxFuture<'static, Result<Response<Hello>, Status>>;

    fn call(&mut self, request: Request<Hello>) -> Self::Future {
        let greeter = self.clone();
        Box::pin(async move {
            request.metadata().clone_into(&mut greeter.told.lock().expect("no panic"));
            let name = request.into_inner().name;
            if name == "slow" {
                let mut watched = Watched(Some(greeter.cancelled));
                greeter.entered.add_permits(1);
                greeter.gate.acquire().await.expect("never closed").forget();
                watched.0 = None;
            }
            Ok(Response::new(Hello { name: format!("Hello, {name}!") }))
        })
    }
}

impl StreamingService<Hello> for Greeter {
    type Response = Hello;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Hello, Status>> + Send>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Hello>>) -> Self::Future {
        let (flooded, cancelled) = (Arc::clone(&self.flooded), Arc::clone(&self.cancelled));
        let flood = move || {
            let (flooded, watched) = (Arc::clone(&flooded), Watched(Some(Arc::clone(&cancelled))));
            let pieces = stream::repeat_with(move || {
                let _held = &watched;
                flooded.fetch_add(1, Ordering::SeqCst);
                Ok(Hello { name: "x".repeat(1024) })
            });
            pieces.take(1 << 20).boxed()
        };
        let echoed: Self::ResponseStream =
            Box::pin(request.into_inner().flat_map(move |hello| match hello {
                Ok(hello) if hello.name == "flood" => flood(),
                echo => stream::once(std::future::ready(echo)).boxed(),
            }));
        Box::pin(std::future::ready(Ok(Response::new(echoed))))
    }
}

impl Service<http::Request<tonic::body::Body>> for Greeter {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let greeter = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(match request.uri().path() {
                "/hello.v1.Greeter/SayHello" => grpc.unary(greeter, request).await,
                "/hello.v1.Greeter/Echo" => grpc.streaming(greeter, request).await,
                _ => Status::from(std::io::Error::from(std::io::ErrorKind::Unsupported)).into_http(),
            })
        })
    }
}

impl Greeter {
    /// Completes when a call for `slow` has come.
    pub(crate) async fn has_slow_call(&self) {
        self.entered.acquire().await.expect("never closed").forget();
    }
}

/// A running one. It ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends it in order: it takes no more calls, and finishes those in flight.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.server.await.expect("it did not panic");
    }
}

/// Which version of server reflection it speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reflection {
    V1,
    V1Alpha,
    None,
}

impl Greeter {
    pub(crate) async fn start(self, reflection: Reflection, descriptors: &[u8]) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        self.serve(listener, reflection, descriptors)
    }

    /// Serves as most do: with tonic, and all of its defaults.
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    pub(crate) fn serve(self, listener: TcpListener, reflection: Reflection, descriptors: &[u8]) -> Running {
        let address = listener.local_addr().expect("bound");
        let mut routes = Routes::new(self);
        let builder = || {
            tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(descriptors)
        };
        match reflection {
            Reflection::V1 => routes = routes.add_service(builder().build_v1().expect("descriptors")),
            Reflection::V1Alpha => {
                routes = routes.add_service(builder().build_v1alpha().expect("descriptors"));
            }
            Reflection::None => {}
        }
        let connections = stream::unfold(listener, async |listener| {
            let (stream, _) = listener.accept().await.ok()?;
            Some((Ok::<_, std::io::Error>(stream), listener))
        });
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_routes(routes)
                .serve_with_incoming_shutdown(connections.boxed(), stopped)
                .await
                .expect("it serves");
        });
        Running { address, stop, server }
    }
}
