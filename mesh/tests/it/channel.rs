//! What a channel adds to a call, and what it does about failures.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::Full;
use mesh::accept::{Limits, Listener};
use mesh::call::Call;
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::peers::{
    Authority, Server, answer, call, call_with, channel, code, header, idempotent, not_idempotent,
};

const UNAVAILABLE: u8 = 14;
const DEADLINE_EXCEEDED: i32 = 4;

/// A service whose answers are up to `handler`, which is told how many calls came before.
fn service<F, Fut>(calls: &Arc<AtomicUsize>, handler: F) -> Router
where
    F: Fn(usize, HeaderMap) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<axum::body::Body>> + Send,
{
    let calls = Arc::clone(calls);
    Router::new().fallback(move |headers: HeaderMap| handler(calls.fetch_add(1, Ordering::SeqCst), headers))
}

/// A service that answers with what it was asked with, each header after `got-`.
fn echo(calls: &Arc<AtomicUsize>) -> Router {
    service(calls, |_, headers| {
        let mut response = answer(0);
        for (name, value) in &headers {
            let name = http::HeaderName::try_from(format!("got-{name}")).expect("a name");
            response.headers_mut().insert(name, value.clone());
        }
        std::future::ready(response)
    })
}

/// A service that is unavailable `times` times and works then.
fn flapping(calls: &Arc<AtomicUsize>, times: usize) -> Router {
    service(calls, move |before, headers| {
        let mut response = if before < times { answer(UNAVAILABLE) } else { answer(0) };
        if let Some(attempts) = headers.get("grpc-previous-rpc-attempts") {
            response.headers_mut().insert("got-attempts", attempts.clone());
        }
        std::future::ready(response)
    })
}

fn micros(headers: &HeaderMap) -> u64 {
    let text = header(headers, "got-grpc-timeout");
    text.strip_suffix('u').expect("microseconds").parse().expect("digits")
}

fn lasting(timeout: Duration) -> Call {
    Call { deadline: Instant::now() + timeout, ..Call::background(timeout) }
}

#[tokio::test]
async fn the_deadline_goes_along_and_shrinks() {
    let authority = Authority::new();
    let server = Server::start(authority.identity("bookings"), echo(&Arc::default()));
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));

    let alone = micros(call(&channel, idempotent()).await.headers());
    assert!(u128::from(alone) <= idempotent().timeout.as_micros(), "{alone}");

    let (first, second) = lasting(Duration::from_millis(1500))
        .scope(async {
            let first = micros(call(&channel, idempotent()).await.headers());
            (first, micros(call(&channel, idempotent()).await.headers()))
        })
        .await;
    assert!(first <= 1_495_000 && second < first && second > 0, "{first} {second}");
    server.stop().await;
}

#[tokio::test]
async fn after_the_deadline_nothing_is_sent() {
    let authority = Authority::new();
    let calls = Arc::default();
    let server = Server::start(authority.identity("bookings"), echo(&calls));
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));

    let response = lasting(Duration::ZERO).scope(call(&channel, idempotent())).await;

    assert_eq!((code(&response), calls.load(Ordering::SeqCst)), (DEADLINE_EXCEEDED, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up_at_the_deadline() {
    let authority = Authority::new();
    let calls = Arc::default();
    let server =
        Server::start(authority.identity("bookings"), service(&calls, |_, _| std::future::pending()));
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));

    let response = lasting(Duration::from_secs(2)).scope(call(&channel, idempotent())).await;

    assert_eq!((code(&response), calls.load(Ordering::SeqCst)), (DEADLINE_EXCEEDED, 1));
    server.stop().await;
}

#[tokio::test]
async fn request_id_and_trace_of_the_call_go_along_and_the_users_token_only_where_it_is_meant_to() {
    let authority = Authority::new();
    let server = Server::start(authority.identity("bookings"), echo(&Arc::default()));
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));
    let current =
        Call { token: Some(SecretString::from("a.b.c")), ..Call::background(Duration::from_secs(5)) };

    let own = current.clone().scope(call(&channel, idempotent())).await;
    let users = current.clone().scope(call(&channel.on_behalf_of_user(), idempotent())).await;

    for response in [&own, &users] {
        assert_eq!(header(response.headers(), "got-x-request-id"), current.request_id);
        assert_eq!(header(response.headers(), "got-traceparent"), current.traceparent);
    }
    assert!(!own.headers().contains_key("got-authorization"));
    assert_eq!(header(users.headers(), "got-authorization"), "Bearer a.b.c");
    assert!(!format!("{current:?}").contains("a.b.c"));

    let outside = call(&channel.on_behalf_of_user(), idempotent()).await;
    assert!(!outside.headers().contains_key("got-authorization"));
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_may_be_repeated_is_tried_three_times() {
    let authority = Authority::new();
    for (failures, expected) in [(2, 0), (3, i32::from(UNAVAILABLE))] {
        let calls = Arc::default();
        let server = Server::start(authority.identity("bookings"), flapping(&calls, failures));
        let channel = channel("bookings", &[server.address], &authority.identity("edge"));

        let response = call(&channel, idempotent()).await;

        assert_eq!((code(&response), calls.load(Ordering::SeqCst)), (expected, 3));
        assert_eq!(header(response.headers(), "got-attempts"), "2");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_call_that_may_not_be_repeated_is_tried_once() {
    let authority = Authority::new();
    let calls = Arc::default();
    let server = Server::start(authority.identity("bookings"), flapping(&calls, 1));
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));

    let response = call(&channel, not_idempotent()).await;

    assert_eq!((code(&response), calls.load(Ordering::SeqCst)), (i32::from(UNAVAILABLE), 1));
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_request_is_the_same_and_a_large_one_is_not_repeated() {
    let authority = Authority::new();
    for (size, attempts, expected) in [(64 * 1024, 2, 0), (64 * 1024 + 1, 1, i32::from(UNAVAILABLE))] {
        let calls = Arc::new(AtomicUsize::new(0));
        let router = Router::new().fallback({
            let calls = Arc::clone(&calls);
            move |body: Bytes| {
                let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
                let mut response = answer(if first { UNAVAILABLE } else { 0 });
                response.headers_mut().insert("got-bytes", body.len().into());
                std::future::ready(response)
            }
        });
        let server = Server::start(authority.identity("bookings"), router);
        let channel = channel("bookings", &[server.address], &authority.identity("edge"));

        let body = tonic::body::Body::new(Full::new(Bytes::from(vec![7; size])));
        let response = call_with(&channel, idempotent(), body).await;

        assert_eq!((code(&response), calls.load(Ordering::SeqCst)), (expected, attempts));
        assert_eq!(header(response.headers(), "got-bytes"), size.to_string());
        server.stop().await;
    }
}

#[tokio::test]
async fn a_connection_lost_during_a_call_is_made_again_only_for_what_may_be_repeated() {
    let authority = Authority::new();
    for (method, expected) in [(idempotent(), 0), (not_idempotent(), i32::from(UNAVAILABLE))] {
        let entered = Arc::new(Notify::new());
        let stuck = service(&Arc::default(), {
            let entered = Arc::clone(&entered);
            move |_, _| {
                entered.notify_one();
                std::future::pending()
            }
        });
        let limits = Limits { drain: Duration::from_millis(10), ..Limits::default() };
        let at = (Ipv4Addr::LOCALHOST, 0).into();
        let server = Server::start_at(at, Some(authority.identity("bookings")), stuck, limits.clone());
        let address = server.address;
        let channel = channel("bookings", &[address], &authority.identity("edge"));
        let calls = Arc::default();

        let (response, server) = tokio::join!(call(&channel, method), async {
            entered.notified().await;
            server.stop().await;
            Server::start_at(address, Some(authority.identity("bookings")), echo(&calls), limits)
        });

        assert_eq!(code(&response), expected, "{}", method.path);
        assert_eq!(calls.load(Ordering::SeqCst), usize::from(expected == 0), "{}", method.path);
        server.stop().await;
    }
}

#[tokio::test]
async fn an_address_that_nobody_listens_at_costs_no_call() {
    let authority = Authority::new();
    let calls = Arc::default();
    let server = Server::start(authority.identity("bookings"), echo(&calls));
    let free = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let nobody = free.local_addr();
    drop(free);
    let channel = channel("bookings", &[nobody, server.address], &authority.identity("edge"));

    for _ in 0..16 {
        assert_eq!(code(&call(&channel, not_idempotent()).await), 0);
    }

    assert_eq!(calls.load(Ordering::SeqCst), 16);
    server.stop().await;
}

#[tokio::test]
async fn a_channel_connects_again_after_a_restart() {
    let authority = Authority::new();
    let server = Server::start(authority.identity("bookings"), echo(&Arc::default()));
    let address = server.address;
    let channel = channel("bookings", &[address], &authority.identity("edge"));
    assert_eq!(code(&call(&channel, not_idempotent()).await), 0);

    server.stop().await;
    let refused = call(&channel, not_idempotent()).await;
    assert_eq!(code(&refused), i32::from(UNAVAILABLE));
    assert_eq!(header(refused.headers(), "grpc-message"), "bookings%20unavailable");

    let identity = authority.identity("bookings");
    let server = Server::start_at(address, Some(identity), echo(&Arc::default()), Limits::default());
    assert_eq!(code(&call(&channel, not_idempotent()).await), 0);
    server.stop().await;
}

/// Waits until nobody listens at an address any more.
async fn closed(address: SocketAddr) {
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stop_lets_calls_in_flight_end() {
    let authority = Authority::new();
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = service(&Arc::default(), {
        let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
        move |_, _| {
            let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
            async move {
                entered.notify_one();
                leave.notified().await;
                answer(0)
            }
        }
    });
    let server = Server::start(authority.identity("bookings"), router);
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));

    let in_flight = call(&channel, not_idempotent());
    let meanwhile = async {
        entered.notified().await;
        server.begin_stop();
        closed(server.address).await;
        leave.notify_one();
    };
    let (response, ()) = tokio::join!(in_flight, meanwhile);

    assert_eq!(code(&response), 0);
    server.stop().await;
}

#[tokio::test]
async fn the_drain_is_bounded() {
    let authority = Authority::new();
    let entered = Arc::new(Notify::new());
    let router = service(&Arc::default(), {
        let entered = Arc::clone(&entered);
        move |_, _| {
            entered.notify_one();
            std::future::pending()
        }
    });
    let limits = Limits { drain: Duration::from_millis(10), ..Limits::default() };
    let at = (Ipv4Addr::LOCALHOST, 0).into();
    let server = Server::start_at(at, Some(authority.identity("bookings")), router, limits);
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));

    let in_flight = call(&channel, not_idempotent());
    let (response, ()) = tokio::join!(in_flight, async {
        entered.notified().await;
        server.stop().await;
    });

    assert_eq!(code(&response), i32::from(UNAVAILABLE));
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_replaced_and_no_call_fails() {
    let authority = Authority::new();
    let calls = Arc::default();
    let limits = Limits { max_connection_age: Duration::from_millis(20), ..Limits::default() };
    let at = (Ipv4Addr::LOCALHOST, 0).into();
    let peers = Arc::new(std::sync::Mutex::new(std::collections::HashSet::new()));
    let router = echo(&calls).layer(axum::middleware::from_fn({
        let peers = Arc::clone(&peers);
        move |request: axum::extract::Request, next: axum::middleware::Next| {
            let peer = *request.extensions().get::<mesh::accept::PeerAddr>().expect("a peer");
            peers.lock().expect("no panic").insert(peer.0);
            next.run(request)
        }
    }));
    let server = Server::start_at(at, Some(authority.identity("bookings")), router, limits);
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));

    while peers.lock().expect("no panic").len() < 3 {
        assert_eq!(code(&call(&channel, not_idempotent()).await), 0);
    }

    server.stop().await;
}
