//! What answers the requests of a listener.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use tower::Service as _;

/// An answer that is worked on.
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What answers the requests of a listener: a router, or one function that all requests go to. Clones share it.
#[derive(Clone)]
pub struct Handler(Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>);

impl Handler {
    /// A function that answers every request. A router passes each through a stack of services that it copies for it; this costs one allocation.
    pub fn new<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Body>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(answer(request))))
    }

    /// Begins to answer a request.
    pub(super) fn answer(&self, request: Request<Body>) -> Answer {
        (self.0)(request)
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

impl From<Router> for Handler {
    fn from(router: Router) -> Self {
        Self::new(move |request| {
            let answer = router.clone().call(request);
            async move { answer.await.unwrap_or_else(|never: Infallible| match never {}) }
        })
    }
}
