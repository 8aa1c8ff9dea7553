//! The upstream: gRPC answers that were encoded before, and the same answers as JSON over HTTP/1.1 for the direct comparison.

use std::{convert::Infallible, net::SocketAddr, sync::LazyLock};

use bytes::{BufMut as _, Bytes, BytesMut};
use edge_bench::samples;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;

/// How much of a stream a tonic server puts in one frame before it yields.
const STREAM_FRAME_BYTES: usize = 32 << 10;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer in both forms.
struct Answer {
    path: &'static str,
    rest: &'static str,
    frames: Vec<Bytes>,
    json: Bytes,
}

static ANSWERS: LazyLock<[Answer; 4]> = LazyLock::new(|| {
    let flights: Vec<_> = (0..samples::STREAM_LENGTH).map(samples::flight).collect();
    let unary =
        |path, rest, message: BytesMut, json| Answer { path, rest, frames: vec![message.freeze()], json };
    [
        unary(
            "/bench.v1.FlightService/GetFlight",
            "/v1/flights/",
            framed(&samples::flight(1)),
            json(&samples::flight(1)),
        ),
        unary(
            "/bench.v1.FlightService/ListFlights",
            "/v1/flights?",
            framed(&samples::list()),
            json(&samples::list()),
        ),
        unary(
            "/bench.v1.FlightService/CreateBooking",
            "/v1/bookings",
            framed(&samples::booking()),
            json(&samples::booking()),
        ),
        Answer {
            path: "/bench.v1.FlightService/WatchFlights",
            rest: "/v1/flights:watch",
            frames: batches(&flights),
            json: json(&flights),
        },
    ]
});

fn framed(message: &impl prost::Message) -> BytesMut {
    let mut frame = BytesMut::new();
    put_frame(message, &mut frame);
    frame
}

fn put_frame(message: &impl prost::Message, out: &mut BytesMut) {
    out.put_u8(0);
    out.put_u32(u32::try_from(message.encoded_len()).expect("samples are small"));
    message.encode(out).expect("the buffer grows");
}

fn batches(messages: &[edge_bench::pb::Flight]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut frame = BytesMut::new();
    for message in messages {
        put_frame(message, &mut frame);
        if frame.len() >= STREAM_FRAME_BYTES {
            frames.push(frame.split().freeze());
        }
    }
    frames.push(frame.freeze());
    frames
}

fn json(value: &impl serde::Serialize) -> Bytes {
    canonical(&serde_json::to_string(value).expect("samples are valid")).into()
}

/// `pbjson` writes UTC as an offset, where ProtoJSON wants `Z`.
pub(crate) fn canonical(json: &str) -> String {
    json.replace("+00:00\"", "Z\"")
}

/// The JSON that every gateway must give for a path, as a value.
pub(crate) fn expected(rest: &str) -> anyhow::Result<serde_json::Value> {
    let answer = ANSWERS.iter().find(|answer| rest.starts_with(answer.rest));
    Ok(serde_json::from_slice(&answer.expect("only known paths are measured").json)?)
}

/// Serves until killed.
#[expect(clippy::disallowed_methods, reason = "a process of a bench is killed; nobody waits for its tasks")]
pub(crate) async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    LazyLock::force(&ANSWERS);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
            // A connection that a gateway drops is no error of the upstream.
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
    let rpc = request.version() == Version::HTTP_2;
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let found =
        ANSWERS.iter().find(|answer| if rpc { path == answer.path } else { path.starts_with(answer.rest) });
    let Some(found) = found else {
        let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        return Ok(response);
    };
    let (body, content_type) = if rpc {
        (rpc_body(&found.frames), "application/grpc")
    } else {
        (Full::new(found.json.clone()).boxed_unsync(), "application/json")
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

fn rpc_body(frames: &[Bytes]) -> Body {
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let data: Vec<_> = frames.iter().cloned().map(Frame::data).collect();
    let frames = stream::iter(data).chain(stream::iter([Frame::trailers(trailers)]));
    StreamBody::new(frames.map(Ok)).boxed_unsync()
}
