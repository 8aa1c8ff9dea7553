//! One attempt: one POST, to an address that was judged before.

use std::{net::SocketAddr, path::Path, pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::future::{Either, select};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use mesh::clock::Clock;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Host;

use super::{
    address::{Refused, Resolve, Rules, SystemResolver, Target},
    sign::Signed,
};
use crate::domain::webhook::{Answer, Failure};

/// The most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long one address of a host is tried, and how many are.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ADDRESSES_MAX: usize = 3;

/// Who we are.
const USER_AGENT: &str = "Jetway-Webhooks/1";

/// What makes attempts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    rules: Rules,
    resolver: Arc<dyn Resolve>,
    tls: TlsConnector,
    timeout: Duration,
}

impl Client {
    /// A client that trusts the certificates in the PEM file `roots`, else those that the system trusts. It waits for `timeout`, from the name of the
    /// host to the head of the answer.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub(crate) fn new(rules: Rules, roots: Option<&Path>, timeout: Duration) -> anyhow::Result<Self> {
        let config = ClientConfig::builder().with_root_certificates(trusted(roots)?).with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { rules, resolver: Arc::new(SystemResolver), tls, timeout })
    }

    /// How long an attempt takes at most.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Posts a signed body to a URL, and says what came of it. The answer's body is not read.
    pub(crate) async fn post(&self, url: &str, signed: &Signed, body: String) -> Answer {
        match timeout(self.timeout, self.attempt(url, signed, body)).await {
            Ok(Ok(response)) => judge(&response, Clock::system_now()),
            Ok(Err(failure)) => Answer::failed(failure),
            Err(_) => Answer::failed(Failure::Timeout),
        }
    }

    async fn attempt(&self, url: &str, signed: &Signed, body: String) -> Result<Response<Incoming>, Failure> {
        let target = self.rules.target(url).map_err(failure)?;
        let addresses = self.rules.addresses(&target, self.resolver.as_ref()).await.map_err(failure)?;
        let request = request(&target, signed, body).map_err(|_| Failure::AddressForbidden)?;
        let stream = connect(&addresses).await?;
        if !target.tls {
            return exchange(stream, request).await;
        }
        let name = match &target.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| Failure::TlsFailed)?,
            Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(*address)),
            Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(*address)),
        };
        let stream = self.tls.connect(name, stream).await.map_err(|_| Failure::TlsFailed)?;
        exchange(stream, request).await
    }
}

fn failure(refused: Refused) -> Failure {
    match refused {
        Refused::Url | Refused::Address => Failure::AddressForbidden,
        Refused::Name => Failure::NameNotResolved,
    }
}

fn trusted(roots: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    if let Some(path) = roots {
        let read = || format!("read {}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(read)? {
            store.add(certificate.with_context(read)?).with_context(read)?;
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = store.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!("this system trusts no certificate: no webhook can be delivered by TLS");
        }
    }
    Ok(store)
}

fn request(target: &Target, signed: &Signed, body: String) -> Result<Request<Full<Bytes>>, http::Error> {
    Request::post(target.path.as_str())
        .header(header::HOST, target.authority.as_str())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .header("jetway-signature", signed.jetway.as_str())
        .header("webhook-id", signed.id.as_str())
        .header("webhook-timestamp", signed.timestamp.as_str())
        .header("webhook-signature", signed.standard.as_str())
        .body(Full::new(Bytes::from(body)))
}

/// Connects to the first of these that answers. One that does not leaves time for the next.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    for address in addresses.iter().take(ADDRESSES_MAX) {
        if let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    Err(Failure::ConnectionFailed)
}

/// Sends the request and waits for the head of the answer.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |_| Failure::ConnectionFailed;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let sending = pin!(sender.send_request(request));
    match select(sending, pin!(connection)).await {
        Either::Left((answer, _)) => answer.map_err(broken),
        // The connection is at its end, and the answer, if it brought one, is there already.
        Either::Right((_, sending)) => sending.await.map_err(broken),
    }
}

/// What an answer means. `now` is the world's time, which dates in it are of.
fn judge<B>(response: &Response<B>, now: Timestamp) -> Answer {
    let status = response.status();
    if status.is_success() {
        return Answer::Accepted { status: status.as_u16() };
    }
    if status == StatusCode::GONE {
        return Answer::Gone { status: status.as_u16() };
    }
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value.trim(), now));
    Answer::Failed { failure: Failure::HttpStatus, status: Some(status.as_u16()), retry_after }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More than fits is a long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now).max(SignedDuration::ZERO)).unwrap_or_default())
}

#[cfg(test)]
mod tests;
