//! TLS to servers outside of the platform: ordinary names in ordinary certificates, instead of workloads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{ALPN_H2, TlsError, provider};

/// Whom to trust and what to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsClientFiles {
    /// PEM file of the authorities that may sign the server's certificate; `None`: those that the operating system trusts.
    pub roots: Option<PathBuf>,
    /// PEM files of the certificate to show, with its intermediates, and of its private key; `None`: no certificate is shown.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// A client's side of TLS 1.2 and 1.3 with ALPN `h2`. Clones share what is loaded.
#[derive(Clone)]
pub struct TlsClient {
    files: TlsClientFiles,
    config: Arc<ArcSwap<ClientConfig>>,
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient").field("files", &self.files).finish_non_exhaustive()
    }
}

impl TlsClient {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// A file cannot be read or parsed, the key is not the certificate's, or there is no authority to trust.
    pub fn load(files: TlsClientFiles) -> Result<Self, TlsError> {
        let config = Arc::new(ArcSwap::new(build(&files)?));
        Ok(Self { files, config })
    }

    /// What to open one connection with, as the files are now; bad ones are reported, and those before them used.
    pub(crate) async fn config(&self) -> Arc<ClientConfig> {
        let files = self.files.clone();
        match tokio::task::spawn_blocking(move || build(&files)).await {
            Ok(Ok(config)) => self.config.store(config),
            Ok(Err(error)) => {
                metrics::counter!("tls_reload_failures_total").increment(1);
                tracing::warn!(%error, "certificates of an upstream refused, the old ones stay in use");
            }
            // Only at the end of the runtime.
            Err(_) => {}
        }
        self.config.load_full()
    }
}

fn build(files: &TlsClientFiles) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("AWS-LC has the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots(files.roots.as_deref())?);
    let mut config = match &files.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let parse = |path: &Path, what| TlsError::Parse { path: path.to_owned(), what };
            let chain = pem(certificate)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| parse(key, "private key"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| TlsError::Unusable { path: certificate.clone(), source })?
        }
    };
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    Ok(Arc::new(config))
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let none = |path: &Path| TlsError::Parse { path: path.to_owned(), what: "certificate" };
    if let Some(path) = file {
        for root in pem(path)? {
            store.add(root).map_err(|_| none(path))?;
        }
        return Ok(store);
    }
    // Among a hundred authorities there may well be one that rustls cannot use.
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() { Err(none(Path::new("the trust store of the operating system"))) } else { Ok(store) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn pem(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    super::material::certificates(&read(path)?, path)
}
