//! The gateways that the edge is compared with, each as a process of its own.

pub(crate) mod bare;
pub(crate) mod copying;
pub(crate) mod library;
pub(crate) mod typed;

use std::{convert::Infallible, net::SocketAddr};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Serves HTTP/1.1 with one function.
#[expect(clippy::disallowed_methods, reason = "a process of a bench is killed; nobody waits for its tasks")]
async fn serve_http1<F, R, B>(listen: SocketAddr, handler: F) -> anyhow::Result<()>
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = handler.clone();
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service_fn(handler));
            // The load generator hangs up when it is done.
            let _ = connection.await;
        });
    }
}
