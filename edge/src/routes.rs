//! Where a request is answered: by the services behind the gateway, but for a few pages of its own.

use std::sync::Arc;

use axum::{Router, body::Body, extract::Request};
use http::Response;
use http_body_util::Either;
use tower::Service as _;

use crate::upstreams::Upstreams;

/// The body of an answer: a service's, or the gateway's own. Neither is put on the heap for the other's sake.
pub(crate) type Content = Either<transcoder::Body, Body>;

/// Everything that requests can be for.
pub(crate) struct Routes {
    /// The gateway's own pages, and the only paths for which they are asked: a router costs more than a path's comparison with a few others.
    pages: Router,
    paths: Vec<&'static str>,
    upstreams: Arc<Upstreams>,
}

impl Routes {
    /// The pages of `pages`, which has these paths, and the services of `upstreams`.
    pub(crate) fn new(pages: Router, paths: Vec<&'static str>, upstreams: Arc<Upstreams>) -> Self {
        Self { pages, paths, upstreams }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request) -> Response<Content> {
        if self.paths.contains(&request.uri().path()) {
            let Ok(answer) = self.pages.clone().call(request).await;
            return own(answer);
        }
        // The request holds on to the routes that it begins with.
        let answer = self.upstreams.serving().transcoder.clone().call(request);
        let Ok(answer) = answer.await;
        answer.map(Content::Left)
    }
}

/// An answer of the gateway's own.
pub(crate) fn own(answer: Response<Body>) -> Response<Content> {
    answer.map(Content::Right)
}
