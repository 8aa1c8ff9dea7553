//! Channels to services that are not of the platform, whose callers keep the deadline.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use bytes::Bytes;
use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full, StreamBody};
use mesh::accept::{self, Limits, Listener, Transport};
use mesh::client::{Channel, Options, Security, authorities};
use mesh::tls::{ServerCertificate, ServerFiles, TlsClient, TlsClientFiles};
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::echo::soon;
use crate::peers::{Server, answer, code};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn options(connections: usize) -> Options {
    Options { connections, deadline_is_callers: true, of_contract: false }
}

fn channel(at: &[String], connections: usize) -> Channel {
    let addresses = authorities(at).expect("addresses");
    Channel::to_any("upstream", addresses, Security::Clear, options(connections))
}

fn request(path: &str, body: Body) -> http::Request<Body> {
    let request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    request.body(body).expect("a request")
}

async fn call(channel: &Channel, path: &str) -> http::Response<Body> {
    let Ok(response) = channel.clone().oneshot(request(path, Body::empty())).await;
    response
}

fn in_clear(router: Router) -> Server {
    Server::start_at(LOOPBACK, None, router, Limits::default())
}

/// A service that never answers calls of `/stuck`.
fn partly_stuck(stuck: &Arc<AtomicUsize>) -> Router {
    let stuck = Arc::clone(stuck);
    Router::new().fallback(move |request: Request| {
        let stuck = Arc::clone(&stuck);
        async move {
            if request.uri().path() == "/stuck" {
                stuck.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            answer(0)
        }
    })
}

/// Servers of `h2` close a connection on which more than 20 calls are reset before they have been looked at, with everything else that is on it.
#[tokio::test(flavor = "multi_thread")]
async fn when_many_clients_are_dropped_at_once_nobody_elses_call_fails() {
    let stuck = Arc::default();
    let server = in_clear(partly_stuck(&stuck));
    let channel = channel(&[server.address.to_string()], 1);
    assert_eq!(code(&call(&channel, "/answered").await), 0);

    let over = AtomicBool::new(false);
    let others = join_all((0..8).map(|_| async {
        let mut answered = 0;
        while !over.load(Ordering::Relaxed) {
            assert_eq!(code(&call(&channel, "/answered").await), 0);
            answered += 1;
        }
        answered
    }));
    let dropped = async {
        for round in 1..=4 {
            let mut calls: Vec<_> = (0..64).map(|_| Box::pin(call(&channel, "/stuck"))).collect();
            for call in &mut calls {
                assert!(call.now_or_never().is_none(), "it is stuck");
            }
            // One half goes before the service has seen them, the other after.
            if round % 2 == 0 {
                soon(async {
                    while stuck.load(Ordering::SeqCst) < round * 64 - 64 {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
            }
            drop(calls);
            assert_eq!(code(&call(&channel, "/answered").await), 0);
        }
        // Those that were dropped are cancelled, too, each in its turn.
        soon(async {
            while stuck.load(Ordering::SeqCst) < 4 * 64 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        over.store(true, Ordering::Relaxed);
    };
    let (answered, ()) = tokio::join!(others, dropped);

    assert!(answered.iter().all(|answered| *answered > 0), "{answered:?}");
    assert_eq!(channel.connections_made(), 1, "the connection was kept");
    assert_eq!(channel.connections().iter().map(|state| state.in_flight).sum::<usize>(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_request_is_passed_on_as_it_comes() {
    let echo = Router::new().fallback(|request: Request| async {
        http::Response::builder()
            .header("content-type", "application/grpc")
            .body(request.into_body())
            .expect("a response")
    });
    let server = in_clear(echo);
    let channel = channel(&[server.address.to_string()], 2);
    let (messages, body) = mpsc::channel::<Bytes>(1);
    let body = futures::stream::unfold(body, async |mut body| Some((body.recv().await?, body)))
        .map(|data| Ok::<_, Infallible>(http_body::Frame::data(data)));

    let Ok(response) = soon(channel.oneshot(request("/echo", Body::new(StreamBody::new(body))))).await;
    let mut echoed = response.into_body();

    for message in ["one", "two", "three"] {
        messages.send(Bytes::from(message)).await.expect("it is read");
        let frame = soon(echoed.frame()).await.expect("an echo").expect("no error");
        assert_eq!(frame.into_data().expect("data"), message);
    }
    drop(messages);
    let rest = soon(echoed.collect()).await.expect("the end of the request is passed on, too");
    assert!(rest.to_bytes().is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_every_window_arrives_whole() {
    let count = Router::new().fallback(|body: Bytes| async move {
        let mut response = answer(0);
        response.headers_mut().insert("got-bytes", body.len().into());
        response
    });
    let count = count.layer(axum::extract::DefaultBodyLimit::disable());
    let server = in_clear(count);
    let channel = channel(&[server.address.to_string()], 1);
    let large = Bytes::from(vec![7; 5 << 20]);

    let whole = request("/count", Body::new(Full::new(large.clone())));
    let parts = futures::stream::iter((0..5).map(move |part| large.slice(part << 20..(part + 1) << 20)))
        .then(async |part| {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(http_body::Frame::data(part))
        });
    let streamed = request("/count", Body::new(StreamBody::new(parts)));

    for request in [whole, streamed] {
        let Ok(response) = soon(channel.clone().oneshot(request)).await;
        assert_eq!(response.headers()["got-bytes"], (5 << 20).to_string());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_connections_go_to_each_address_and_one_that_breaks_is_made_again() {
    let stuck = Arc::default();
    let first = in_clear(partly_stuck(&stuck));
    let second = in_clear(partly_stuck(&stuck));
    let address = first.address;
    let channel = channel(&[first.address.to_string(), second.address.to_string()], 2);
    let opened = async |channel: &Channel| {
        while channel.connections().iter().any(|state| !state.open) {
            assert_eq!(code(&call(channel, "/answered").await), 0);
        }
    };
    soon(opened(&channel)).await;
    assert_eq!(channel.connections().len(), 4);

    // No call fails while one of the two is away, nor when it is back.
    first.stop().await;
    for _ in 0..50 {
        assert_eq!(code(&call(&channel, "/answered").await), 0);
    }
    let first = Server::start_at(address, None, partly_stuck(&stuck), Limits::default());
    soon(opened(&channel)).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_looked_up_and_balanced_over() {
    let server = in_clear(partly_stuck(&Arc::default()));
    let channel = channel(&[format!("localhost:{}", server.address.port())], 1);

    // The name may also have an address that nobody listens at.
    for _ in 0..16 {
        assert_eq!(code(&call(&channel, "/answered").await), 0);
    }

    assert!(channel.connections().iter().any(|state| state.address == server.address && state.open));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_an_ordinary_certificate_is_trusted_by_its_authority_and_its_name() {
    mesh::tls::install_crypto_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let key = KeyPair::generate().expect("a key");
    let own = CertificateParams::new(["upstream.example".to_owned()]).expect("a name").self_signed(&key);
    let (certificate, private) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&certificate, own.expect("a certificate").pem()).expect("written");
    std::fs::write(&private, key.serialize_pem()).expect("written");
    let files = ServerFiles { certificate: certificate.clone(), key: private };
    let transport = Transport::Public(ServerCertificate::load(files).expect("a certificate"));
    let listener = Listener::bind(LOOPBACK).expect("a port");
    let address = authorities([listener.local_addr().to_string()]).expect("an address");
    let stop = CancellationToken::new();
    let router = partly_stuck(&Arc::default());
    let serving = accept::serve(listener, transport, router, Limits::default(), stop.clone());

    let calls = async {
        for (roots, name, expected) in [
            (Some(&certificate), "upstream.example", 0),
            (Some(&certificate), "another.example", 14),
            (None, "upstream.example", 14),
        ] {
            let files = TlsClientFiles { roots: roots.cloned(), certificate: None };
            // A machine without authorities of its own trusts nobody either.
            let Ok(client) = TlsClient::load(files) else { continue };
            let server_name = name.try_into().expect("a name");
            let security = Security::Tls { client, server_name };
            let channel = Channel::to_any("upstream", address.clone(), security, options(1));
            assert_eq!(code(&call(&channel, "/answered").await), expected, "{roots:?} {name}");
        }
        stop.cancel();
    };
    tokio::join!(serving, calls);
}
