//! Services that take only so many calls at once, and say so (`SETTINGS_MAX_CONCURRENT_STREAMS`).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use futures::FutureExt as _;
use mesh::accept::Limits;
use mesh::client::{Channel, Options, Security, authorities};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::echo::soon;
use crate::peers::{Server, answer, code, header};

const UNAVAILABLE: i32 = 14;

/// A service that takes one call at a time on each connection, and keeps calls of `/held` until they are released.
struct Busy {
    held: Arc<AtomicUsize>,
    release: Arc<Semaphore>,
    server: Server,
}

impl Busy {
    fn start() -> Self {
        let held = Arc::<AtomicUsize>::default();
        let release = Arc::new(Semaphore::new(0));
        let (entered, released) = (Arc::clone(&held), Arc::clone(&release));
        let router = Router::new().fallback(move |request: Request| {
            let (entered, released) = (Arc::clone(&entered), Arc::clone(&released));
            async move {
                if request.uri().path() == "/held" {
                    entered.fetch_add(1, Ordering::SeqCst);
                    released.acquire().await.expect("never closed").forget();
                }
                answer(0)
            }
        });
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let limits = Limits { max_concurrent_streams: 1, ..Limits::default() };
        Self { held, release, server: Server::start_at(at, None, router, limits) }
    }

    /// A channel whose connections, so many, are open and know the limit.
    async fn channel(&self, connections: usize) -> Channel {
        let address = authorities([self.server.address.to_string()]).expect("an address");
        let options = Options { connections, deadline_is_callers: true, of_contract: false };
        let channel = Channel::to_any("upstream", address, Security::Clear, options);
        soon(async {
            loop {
                assert_eq!(code(&call(&channel, "/", None).await), 0);
                if channel.connections().iter().all(|connection| connection.open) {
                    break;
                }
            }
        })
        .await;
        // Turn by turn, so that each has answered.
        for _ in 0..connections * 4 {
            assert_eq!(code(&call(&channel, "/", None).await), 0);
        }
        channel
    }

    async fn holds(&self, calls: usize) {
        soon(async {
            while self.held.load(Ordering::SeqCst) < calls {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

async fn call(channel: &Channel, path: &str, timeout: Option<&str>) -> http::Response<Body> {
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", timeout);
    }
    let Ok(response) = channel.clone().oneshot(request.body(Body::empty()).expect("a request")).await;
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_to_a_connection_on_which_the_peer_takes_one_more() {
    let busy = Busy::start();
    let channel = busy.channel(3).await;
    let mut held = [Box::pin(call(&channel, "/held", None)), Box::pin(call(&channel, "/held", None))];
    for held in &mut held {
        assert!(held.now_or_never().is_none(), "it is held");
    }
    busy.holds(2).await;

    // Every pair of connections has its turn, also the two that take no more.
    for _ in 0..12 {
        assert_eq!(code(&soon(call(&channel, "/", None)).await), 0);
    }

    busy.release.add_permits(2);
    for held in held {
        assert_eq!(code(&soon(held).await), 0);
    }
    busy.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_past_every_limit_waits_for_a_place_and_is_sent_then() {
    let busy = Busy::start();
    let channel = busy.channel(1).await;
    let mut held = Box::pin(call(&channel, "/held", None));
    assert!((&mut held).now_or_never().is_none(), "it is held");
    busy.holds(1).await;
    let mut waiting: Vec<_> = (0..8).map(|_| Box::pin(call(&channel, "/", None))).collect();
    for waiting in &mut waiting {
        assert!(waiting.now_or_never().is_none(), "there is no place for it");
    }
    assert_eq!(channel.connections()[0].in_flight, 1, "it was not sent");
    // One that its caller gives up is in nobody's way.
    drop(waiting.pop());

    busy.release.add_permits(1);

    assert_eq!(code(&soon(held).await), 0);
    for response in soon(futures::future::join_all(waiting)).await {
        assert_eq!(code(&response), 0);
    }
    assert_eq!(channel.connections_made(), 1);
    busy.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_finds_no_place_in_half_of_its_time_is_unavailable() {
    let busy = Busy::start();
    let channel = busy.channel(1).await;
    let mut held = Box::pin(call(&channel, "/held", None));
    assert!((&mut held).now_or_never().is_none(), "it is held");
    busy.holds(1).await;

    let refused = soon(call(&channel, "/held", Some("100m"))).await;

    assert_eq!(code(&refused), UNAVAILABLE);
    let message = header(refused.headers(), "grpc-message");
    assert_eq!(message, "upstream%20has%20as%20many%20calls%20as%20it%20takes%20at%20once");
    assert_eq!(busy.held.load(Ordering::SeqCst), 1, "it was never sent");
    busy.release.add_permits(1);
    assert_eq!(code(&soon(held).await), 0);
    busy.server.stop().await;
}
