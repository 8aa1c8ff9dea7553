//! Servers and channels with certificates of a private authority, for the tests of both.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use axum::Router;
use http::{HeaderMap, Request, Response};
use mesh::accept::{self, Limits, Listener, Shutdown, Transport};
use mesh::ca::PrivateCa;
use mesh::client::{Channel, Target};
use mesh::tls::{Identity, TlsFiles};
use proto::policy::{Idempotency, Method, TABLE};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt;

/// A private authority in a directory of its own.
pub(crate) struct Authority {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) ca: PrivateCa,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = PrivateCa::open_or_create(dir.path()).expect("an authority");
        Self { dir, ca }
    }

    pub(crate) fn files(&self, service: &str) -> TlsFiles {
        self.ca.issue(service, self.dir.path()).expect("a certificate")
    }

    pub(crate) fn identity(&self, service: &str) -> Identity {
        Identity::load(&self.files(service)).expect("an identity")
    }
}

/// Puts `from`'s certificate and key, and the roots of both, where `to`'s are.
pub(crate) fn replace(to: &TlsFiles, from: &TlsFiles) {
    let both = [&to.roots, &from.roots].map(|path| std::fs::read_to_string(path).expect("roots")).concat();
    copy(&from.certificate, &to.certificate);
    copy(&from.key, &to.key);
    std::fs::write(&to.roots, both).expect("roots");
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("a copy");
}

/// A listener that serves until it is stopped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    done: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(identity: Identity, router: Router) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), Some(identity), router, Limits::default())
    }

    pub(crate) fn start_at(
        at: SocketAddr,
        transport: impl Into<Transport>,
        router: Router,
        limits: Limits,
    ) -> Self {
        Self::start_announced(at, transport, router, limits, CancellationToken::new().into())
    }

    #[expect(clippy::disallowed_methods, reason = "the test waits for it in `stop`")]
    pub(crate) fn start_announced(
        at: SocketAddr,
        transport: impl Into<Transport>,
        router: Router,
        limits: Limits,
        shutdown: Shutdown,
    ) -> Self {
        let listener = Listener::bind(at).expect("a port");
        let address = listener.local_addr();
        let stop = shutdown.stop.clone();
        let done = tokio::spawn(accept::serve(listener, transport.into(), router, limits, shutdown));
        Self { address, stop, done }
    }

    /// Asks the server to stop, and does not wait.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops the server and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.done.await.expect("the server did not panic");
    }
}

pub(crate) fn channel(service: &str, at: &[SocketAddr], identity: &Identity) -> Channel {
    let target = Target::parse(service, at.iter().map(ToString::to_string)).expect("a target");
    Channel::connect_lazy(&target, identity)
}

/// Any method that may be repeated.
pub(crate) fn idempotent() -> &'static Method {
    TABLE
        .iter()
        .find(|method| method.idempotency == Idempotency::NoSideEffects && !method.client_streaming)
        .expect("the platform reads")
}

/// Any method that may not.
pub(crate) fn not_idempotent() -> &'static Method {
    TABLE.iter().find(|method| method.idempotency == Idempotency::Unknown).expect("the platform writes")
}

pub(crate) fn call(
    channel: &Channel,
    method: &Method,
) -> impl Future<Output = Response<Body>> + Send + use<> {
    call_with(channel, method, Body::empty())
}

pub(crate) fn call_with(
    channel: &Channel,
    method: &Method,
    body: Body,
) -> impl Future<Output = Response<Body>> + Send + use<> {
    let request = Request::post(method.path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request");
    let channel = channel.clone();
    async move {
        let answer = channel.oneshot(request).await;
        match answer {
            Ok(response) => response,
        }
    }
}

/// The gRPC code in the header of a response.
pub(crate) fn code(response: &Response<Body>) -> i32 {
    header(response.headers(), "grpc-status").parse().expect("a code")
}

pub(crate) fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("text").to_owned()
}

/// A response of a header only, with a gRPC code.
pub(crate) fn answer(code: u8) -> Response<axum::body::Body> {
    Response::builder()
        .header("content-type", "application/grpc")
        .header("grpc-status", code.to_string())
        .body(axum::body::Body::empty())
        .expect("a response")
}
