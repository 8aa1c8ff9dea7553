//! The transcoder in the plainest server that there is: what is left of the edge without everything around the library.

use std::net::SocketAddr;

use tonic::transport::Endpoint;
use tower::Service as _;
use transcoder::Transcoder;

/// Serves until killed.
pub(crate) async fn serve(listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{upstream}"))?
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect_lazy();
    let transcoder = Transcoder::builder(edge_bench::DESCRIPTOR_SET)
        .upstream("bench.v1.FlightService", channel)
        .build()?;
    super::serve_http1(listen, move |request| {
        let mut transcoder = transcoder.clone();
        async move { transcoder.call(request).await }
    })
    .await
}
