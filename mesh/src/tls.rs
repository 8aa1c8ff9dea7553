//! Workload identity: the certificate this process shows, and how it checks the certificates of its peers.
//!
//! A certificate names exactly one service by a SPIFFE id, `spiffe://jetway.local/ns/jetway/sa/bookings`, in a URI subject alternative name. Common name
//! and DNS names count for nothing. TLS 1.3 only, both sides show a certificate, and no session is resumed: the life of a certificate bounds the life of
//! what it opens (SPIFFE X.509-SVID; gRFC A87).
//!
//! [`Identity`] is asked for a configuration once per connection, so that new handshakes use what the files hold now and open connections go on.

mod client;
mod material;
mod server;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

pub use self::client::{TlsClient, TlsClientFiles};
pub use self::server::{ServerCertificate, ServerFiles};
pub use self::verify::{Workload, peer_identity};

use self::material::{Files, Material};

/// The trust domain of the platform: the authority of every SPIFFE id that is accepted.
pub const TRUST_DOMAIN: &str = "jetway.local";

/// The namespace of the platform's services: the `ns` of every SPIFFE id that is accepted.
pub const NAMESPACE: &str = "jetway";

/// What HTTP/2 is called in the handshake (RFC 9113, section 3.1).
pub(crate) const ALPN_H2: &[u8] = b"h2";

/// What HTTP/1.1 is called in the handshake (RFC 7301, section 6).
pub(crate) const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// How often [`Identity::watch`] reads the files.
const WATCH_PERIOD: Duration = Duration::from_secs(2);

/// Why certificates could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was looked for: `certificate` or `private key`.
        what: &'static str,
    },
    /// The key is not the certificate's, or the certificate does not chain to the roots, or is not valid now.
    #[error("the certificate in {} cannot be used", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The certificate does not name one service of the platform.
    #[error("certificate names no workload: {rule}")]
    NotAWorkload {
        /// The broken rule.
        rule: &'static str,
    },
}

/// Where the own certificate, its key and the trust roots are: three PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The own certificate, then its intermediates.
    pub certificate: PathBuf,
    /// The private key of the own certificate.
    pub key: PathBuf,
    /// The certificates of the authorities that peers' certificates must chain to.
    pub roots: PathBuf,
}

impl TlsFiles {
    /// The three files of one directory, under the names that Kubernetes gives them: `tls.crt`, `tls.key` and `ca.crt`.
    pub fn in_dir(dir: &Path) -> Self {
        Self { certificate: dir.join("tls.crt"), key: dir.join("tls.key"), roots: dir.join("ca.crt") }
    }

    /// Which of the three settings are missing, one sentence each, for [`crate::config::Configuration::check`].
    pub fn check(&self) -> Vec<String> {
        [("certificate", &self.certificate), ("key", &self.key), ("roots", &self.roots)]
            .into_iter()
            .filter(|(_, path)| path.as_os_str().is_empty())
            .map(|(name, _)| format!("`tls.{name}` is missing"))
            .collect()
    }
}

/// The certificate this process shows and the roots it trusts, as the files hold them now.
///
/// Clones share what is loaded.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    files: TlsFiles,
    material: ArcSwap<Material>,
    /// Digest of what was last tried, good or bad: bad files are tried, and complained of, once.
    tried: Mutex<[u8; 32]>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("workload", &self.workload()).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the files and checks that they fit together.
    ///
    /// # Errors
    ///
    /// A file cannot be read or parsed, the key is not the certificate's, the certificate does not chain to the roots or is not valid now, or it names
    /// no service of the platform.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = Files::read(files)?;
        let material = Material::build(&read, files)?;
        material.publish();
        Ok(Self {
            inner: Arc::new(Inner {
                files: files.clone(),
                material: ArcSwap::from_pointee(material),
                tried: Mutex::new(read.digest()),
            }),
        })
    }

    /// The service that the own certificate names.
    pub fn workload(&self) -> Workload {
        self.inner.material.load().workload.clone()
    }

    /// When the own certificate ends.
    pub fn not_after(&self) -> jiff::Timestamp {
        self.inner.material.load().not_after
    }

    /// What to accept one connection with: TLS 1.3, a client certificate of a workload is required, ALPN `h2`.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.inner.material.load().server)
    }

    /// What to open one connection with: TLS 1.3, ALPN `h2`, and the server must show the certificate of `expected_service`.
    pub fn client_config(&self, expected_service: &str) -> Arc<ClientConfig> {
        self.inner.material.load().client_config(expected_service)
    }

    /// Reads the files again, and uses them when they changed and fit together. Returns whether they are used.
    ///
    /// # Errors
    ///
    /// As [`Identity::load`]; what was loaded before stays in use. The same bad files are refused once: the next time they count as not changed.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let read = Files::read(&self.inner.files)?;
        let digest = read.digest();
        {
            let mut tried = self.inner.tried.lock().unwrap_or_else(PoisonError::into_inner);
            if *tried == digest {
                return Ok(false);
            }
            *tried = digest;
        }
        let material = Material::build(&read, &self.inner.files)?;
        material.publish();
        self.inner.material.store(Arc::new(material));
        Ok(true)
    }

    /// Follows the files for ever: new ones are used within about two seconds, bad ones are reported once and the old ones kept.
    pub async fn watch(self) {
        let identity = self.clone();
        let loaded = move || {
            tracing::info!(workload = self.workload().name(), not_after = %self.not_after(), "certificate loaded");
        };
        watch(move || identity.reload(), loaded).await;
    }
}

/// Calls `reload` again and again, and `loaded` when it says that something new is in use. Complains of the same bad files once.
async fn watch(reload: impl Fn() -> Result<bool, TlsError> + Clone + Send + 'static, loaded: impl Fn()) {
    let mut ticks = tokio::time::interval(WATCH_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut unreadable = false;
    loop {
        ticks.tick().await;
        let reloaded = tokio::task::spawn_blocking(reload.clone()).await;
        match reloaded {
            Ok(Ok(changed)) => {
                unreadable = false;
                if changed {
                    loaded();
                }
            }
            Ok(Err(TlsError::Read { .. })) if unreadable => {}
            Ok(Err(error)) => {
                unreadable = matches!(error, TlsError::Read { .. });
                metrics::counter!("tls_reload_failures_total").increment(1);
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "new certificate refused, the old one stays in use");
            }
            // Only at the end of the runtime, or when the reload panicked, which the panic hook has reported.
            Err(_) => {}
        }
    }
}

/// The one source of cryptography: AWS-LC, with the hybrid post-quantum key exchange preferred.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Makes AWS-LC the process's default for every library that asks rustls for one. May be called any number of times.
pub fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        // Lost a race against another caller of this function: the provider is the same.
        let _lost = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
}

/// The fraction of the certificate's life that is left, when the files fit together, are valid now and are the workload's.
pub(crate) fn remaining_life(files: &TlsFiles, workload: &Workload) -> Option<f64> {
    let material = Material::build(&Files::read(files).ok()?, files).ok()?;
    let now = i64::try_from(rustls_pki_types::UnixTime::now().as_secs()).ok()?;
    let left = jiff::SignedDuration::from_secs(material.not_after.as_second().saturating_sub(now));
    let life = jiff::SignedDuration::from_secs(material.life_seconds);
    (material.workload == *workload).then(|| left.as_secs_f64() / life.as_secs_f64())
}

/// The end of life of a certificate, in seconds since 1970, and the length of its life in seconds.
pub(crate) fn life(certificate: &CertificateDer<'_>) -> Result<(i64, i64), TlsError> {
    use x509_parser::prelude::{FromDer, X509Certificate};

    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| TlsError::NotAWorkload { rule: "not an X.509 certificate" })?;
    let (start, end) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    Ok((end, end.saturating_sub(start)))
}
