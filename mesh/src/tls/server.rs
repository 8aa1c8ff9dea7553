//! The certificate that a listener shows the world: nothing of the mesh, clients show none.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, UnixTime};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::material::certificates;
use super::{ALPN_H2, ALPN_HTTP_1_1, TlsError, life, provider, watch};

/// Where the certificate and its key are: two PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The certificate, then its intermediates.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// The certificate as the files hold it now. Clones share what is loaded.
#[derive(Clone)]
pub struct ServerCertificate {
    inner: Arc<Inner>,
}

struct Inner {
    files: ServerFiles,
    config: ArcSwap<ServerConfig>,
    /// Digest of what was last tried, good or bad.
    tried: Mutex<[u8; 32]>,
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCertificate").field("files", &self.inner.files).finish_non_exhaustive()
    }
}

/// What the two files hold, unparsed.
struct Read {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl ServerCertificate {
    /// Reads the files and checks that they fit together.
    ///
    /// # Errors
    ///
    /// A file cannot be read or parsed, the key is not the certificate's, or the certificate has ended.
    pub fn load(files: ServerFiles) -> Result<Self, TlsError> {
        let read = read(&files)?;
        let config = build(&read, &files)?;
        let tried = Mutex::new(digest(&read));
        Ok(Self { inner: Arc::new(Inner { files, config: ArcSwap::new(config), tried }) })
    }

    /// What to accept one connection with: TLS 1.2 or 1.3, ALPN `h2` or `http/1.1`.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.inner.config.load_full()
    }

    /// Reads the files again, and uses them when they changed and fit together. Returns whether they are used.
    ///
    /// # Errors
    ///
    /// As [`ServerCertificate::load`]; what was loaded before stays in use. The same bad files are refused once.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let read = read(&self.inner.files)?;
        let digest = digest(&read);
        {
            let mut tried = self.inner.tried.lock().unwrap_or_else(PoisonError::into_inner);
            if *tried == digest {
                return Ok(false);
            }
            *tried = digest;
        }
        self.inner.config.store(build(&read, &self.inner.files)?);
        Ok(true)
    }

    /// Follows the files for ever: new ones are used within about two seconds, bad ones are reported once and the old ones kept.
    pub async fn watch(self) {
        watch(move || self.reload(), || tracing::info!("public certificate loaded")).await;
    }
}

fn read(files: &ServerFiles) -> Result<Read, TlsError> {
    let read =
        |path: &PathBuf| std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source });
    Ok(Read { certificate: read(&files.certificate)?, key: Zeroizing::new(read(&files.key)?) })
}

fn digest(read: &Read) -> [u8; 32] {
    let mut digest = Sha256::new();
    // Each part's own digest, so that bytes cannot move from one file to the other unseen.
    digest.update(Sha256::digest(&read.certificate));
    digest.update(Sha256::digest(&*read.key));
    digest.finalize().into()
}

fn build(read: &Read, files: &ServerFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let unusable = |source| TlsError::Unusable { path: files.certificate.clone(), source };
    let chain = certificates(&read.certificate, &files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read.key)
        .map_err(|_| TlsError::Parse { path: files.key.clone(), what: "private key" })?;
    // Refuses a key that is not the certificate's.
    let own = CertifiedKey::from_der(chain, key, &provider()).map_err(unusable)?;
    let (end, _) = life(own.end_entity_cert().map_err(unusable)?)?;
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
    if end <= now {
        return Err(unusable(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired)));
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("AWS-LC has the cipher suites of both")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}
