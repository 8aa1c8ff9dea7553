//! The protocols besides REST that the same methods are served in, by their paths `/package.Service/Method`.

use http::Response;
use http::request::Parts;

use crate::body::Body;
use crate::service::Shared;

/// Which protocol a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {}

/// The protocol of a request; `None` for REST.
pub(crate) fn of(_shared: &Shared, _parts: &Parts) -> Option<Protocol> {
    None
}

/// Answers a request of `protocol`.
pub(crate) fn serve<B>(
    _shared: std::sync::Arc<Shared>,
    protocol: Protocol,
    _parts: Parts,
    _body: B,
) -> std::future::Ready<Response<Body>> {
    match protocol {}
}
