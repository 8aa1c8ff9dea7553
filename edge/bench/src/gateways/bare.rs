//! The transcoder alone in front of the platform's contract, over the same channel as the edge: what the rest of the pipeline is measured against.

use std::{fs, net::SocketAddr, path::Path};

use mesh::{
    client::{Channel, Target},
    tls::Identity,
};
use tower::Service as _;
use transcoder::Transcoder;

use crate::platform::Platform;

/// Serves until killed.
pub(crate) async fn serve(listen: SocketAddr, platform: &Path) -> anyhow::Result<()> {
    mesh::tls::install_crypto_provider();
    let platform: Platform = serde_json::from_slice(&fs::read(platform)?)?;
    let target = Target::parse("bookings", [platform.bookings])?;
    let channel = Channel::connect_lazy(&target, &Identity::load(&platform.tls)?);
    let transcoder = Transcoder::builder(proto::DESCRIPTOR_SET)
        .always_print_primitive_fields(true)
        .gate(Forwarding)
        .upstream("jetway.bookings.v1.HoldService", channel)
        .build()?;
    super::serve_http1(listen, move |request| {
        let mut transcoder = transcoder.clone();
        async move { transcoder.call(request).await }
    })
    .await
}

/// Forwards the token, which the service asks for, and looks at nothing.
struct Forwarding;

impl transcoder::Gate for Forwarding {
    fn admit<'a>(
        &'a self,
        _method: &'a transcoder::Method,
        request: &'a http::request::Parts,
    ) -> futures::future::BoxFuture<'a, Result<transcoder::Admission, tonic::Status>> {
        let mut admission = transcoder::Admission::default();
        if let Some(token) = request.headers.get(http::header::AUTHORIZATION) {
            admission.metadata.insert(http::header::AUTHORIZATION, token.clone());
        }
        Box::pin(std::future::ready(Ok(admission)))
    }
}
