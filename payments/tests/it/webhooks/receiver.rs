//! A receiver as its owner would write it from the contract: a server on a socket of this machine that checks signatures.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::{sync::watch, task::JoinSet};

/// Seconds that a signature's time may be away from ours.
const TOLERANCE: i64 = 300;

/// How to answer.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Status(u16),
    /// A status, and when to come again.
    Later(u16, &'static str),
    /// To another URL.
    Redirect(String),
    /// Not until [`Receiver::release`].
    Hang,
}

/// One delivery, as it came.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

#[derive(Debug)]
struct Shared {
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    replies: Mutex<VecDeque<Reply>>,
    usual: Mutex<Reply>,
    /// Requests that are answered at this moment, and the most of them ever.
    open: Mutex<(usize, usize)>,
    /// What those that wait are told in the end.
    released: watch::Sender<Option<u16>>,
}

/// A server that takes deliveries. It ends when it is dropped.
pub(super) struct Receiver {
    pub(super) url: String,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

impl Receiver {
    /// One that answers 204.
    pub(super) async fn start() -> Self {
        Self::that(Reply::Status(204)).await
    }

    /// One that answers so, if not told otherwise.
    pub(super) async fn that(usual: Reply) -> Self {
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            count: watch::Sender::new(0),
            replies: Mutex::default(),
            usual: Mutex::new(usual),
            open: Mutex::default(),
            released: watch::Sender::new(None),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?who=me", listener.local_addr().unwrap());
        let app = Router::new().fallback(receive).with_state(Arc::clone(&shared));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, shared, _server: server }
    }

    /// Answers so once, after what was said before.
    pub(super) fn reply(&self, reply: Reply) {
        self.shared.replies.lock().unwrap().push_back(reply);
    }

    /// Answers so from now on.
    pub(super) fn always(&self, reply: Reply) {
        *self.shared.usual.lock().unwrap() = reply;
    }

    /// Waits until this many deliveries came, and returns all that came.
    pub(super) async fn received(&self, count: usize) -> Vec<Received> {
        let mut counted = self.shared.count.subscribe();
        let limit = std::time::Duration::from_secs(60);
        let waited = tokio::time::timeout(limit, counted.wait_for(|received| *received >= count)).await;
        assert!(waited.is_ok(), "{count} deliveries never came: {:#?}", self.so_far());
        self.so_far()
    }

    pub(super) fn so_far(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Answers this to all that wait.
    pub(super) fn release(&self, status: u16) {
        self.shared.released.send_replace(Some(status));
    }

    /// The most requests that were open at the same time.
    pub(super) fn open_max(&self) -> usize {
        self.shared.open.lock().unwrap().1
    }
}

async fn receive(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let reply = shared.replies.lock().unwrap().pop_front();
    let reply = reply.unwrap_or_else(|| shared.usual.lock().unwrap().clone());
    let body = String::from_utf8(body.to_vec()).unwrap();
    {
        let mut open = shared.open.lock().unwrap();
        open.0 += 1;
        open.1 = open.1.max(open.0);
    }
    shared.received.lock().unwrap().push(Received { path: uri.to_string(), headers, body });
    shared.count.send_modify(|count| *count += 1);
    let response = match reply {
        Reply::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Reply::Later(status, when) => {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", when)]).into_response()
        }
        Reply::Redirect(url) => (StatusCode::FOUND, [("location", url)]).into_response(),
        Reply::Hang => {
            let mut released = shared.released.subscribe();
            let status = *released.wait_for(Option::is_some).await.unwrap();
            StatusCode::from_u16(status.unwrap()).unwrap().into_response()
        }
    };
    shared.open.lock().unwrap().0 -= 1;
    response
}

impl Received {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(super) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Whether it comes from somebody who knows the secret, by our own signature and now.
    pub(super) fn is_signed(&self, secret: &str, now: i64) -> bool {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut time = "";
        let mut signatures = Vec::new();
        for part in self.header("jetway-signature").split(',') {
            match part.split_once('=') {
                Some(("t", value)) => time = value,
                Some(("v1", value)) => signatures.push(hex::decode(value).unwrap()),
                _ => {}
            }
        }
        let at: i64 = time.parse().unwrap();
        let fresh = (now - at).abs() <= TOLERANCE;
        let text = format!("{time}.{}", self.body);
        fresh
            && signatures.iter().any(|signature| {
                let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
                mac.update(text.as_bytes());
                // In constant time.
                mac.verify_slice(signature).is_ok()
            })
    }
}
