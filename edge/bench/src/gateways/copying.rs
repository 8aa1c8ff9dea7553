//! The physical limit: a proxy from HTTP/1.1 to HTTP/2 that copies bytes and understands none. Its answers are gRPC frames.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, TE},
};
use http_body_util::{BodyExt as _, Either, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// An empty message.
const EMPTY_FRAME: Bytes = Bytes::from_static(&[0; 5]);

/// Serves until killed.
#[expect(clippy::disallowed_methods, reason = "a process of a bench is killed; nobody waits for its tasks")]
pub(crate) async fn serve(listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let stream = connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    super::serve_http1(listen, move |request: Request<Incoming>| {
        let mut sender = sender.clone();
        async move {
            let answer = match translate(request).await {
                Some(request) => sender.send_request(request).await.ok(),
                None => None,
            };
            let Some(answer) = answer else {
                let mut response = Response::new(Either::Right(Empty::new().map_err(|never| match never {})));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                return Ok(response);
            };
            let (parts, body) = answer.into_parts();
            let mut response = Response::new(Either::Left(body));
            if let Some(content_type) = parts.headers.get(CONTENT_TYPE) {
                response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
            }
            Ok(response)
        }
    })
    .await
}

/// Waits for the upstream, which is started at the same time.
async fn connect(upstream: SocketAddr) -> anyhow::Result<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect(upstream).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
            outcome => return outcome.context("connect to the upstream"),
        }
    }
}

async fn translate(request: Request<Incoming>) -> Option<Request<Full<Bytes>>> {
    let method = match request.uri().path() {
        "/v1/flights" => "ListFlights",
        "/v1/bookings" => "CreateBooking",
        "/v1/flights:watch" => "WatchFlights",
        _ => "GetFlight",
    };
    let body = request.into_body().collect().await.ok()?.to_bytes();
    let body = if body.is_empty() { EMPTY_FRAME } else { body };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = format!("http://upstream/bench.v1.FlightService/{method}").parse().ok()?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    Some(request)
}
