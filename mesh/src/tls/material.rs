//! From three PEM files to the configurations that rustls wants.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::verify::{WorkloadClientVerifier, WorkloadServerVerifier};
use super::{ALPN_H2, TlsError, TlsFiles, Workload, life, peer_identity, provider};

/// What the three files hold, unparsed.
pub(crate) struct Files {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    roots: Vec<u8>,
}

impl Files {
    pub(crate) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
        };
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: Zeroizing::new(read(&files.key)?),
            roots: read(&files.roots)?,
        })
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [&self.certificate, &*self.key, &self.roots] {
            // Each part's own digest, so that bytes cannot move from one file to the next unseen.
            digest.update(Sha256::digest(part));
        }
        digest.finalize().into()
    }
}

/// Certificates that were found to fit together.
pub(crate) struct Material {
    pub(crate) workload: Workload,
    pub(crate) not_after: jiff::Timestamp,
    /// Length of the own certificate's life, in seconds.
    pub(crate) life_seconds: i64,
    pub(crate) server: Arc<ServerConfig>,
    own: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
}

impl Material {
    pub(crate) fn build(read: &Files, files: &TlsFiles) -> Result<Self, TlsError> {
        let unusable = |source| TlsError::Unusable { path: files.certificate.clone(), source };

        let chain = certificates(&read.certificate, &files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read.key)
            .map_err(|_| TlsError::Parse { path: files.key.clone(), what: "private key" })?;
        let mut roots = RootCertStore::empty();
        for root in certificates(&read.roots, &files.roots)? {
            roots
                .add(root)
                .map_err(|_| TlsError::Parse { path: files.roots.clone(), what: "certificate" })?;
        }
        let roots = Arc::new(roots);

        // Refuses a key that is not the certificate's.
        let own = Arc::new(CertifiedKey::from_der(chain, key, &provider()).map_err(unusable)?);
        let leaf = own.end_entity_cert().map_err(unusable)?;
        verify_chain(leaf, &own.cert[1..], &roots, UnixTime::now()).map_err(unusable)?;
        let workload = peer_identity(leaf)?;
        let (end, life_seconds) = life(leaf)?;
        let not_after = jiff::Timestamp::from_second(end).unwrap_or(jiff::Timestamp::MAX);

        Ok(Self {
            workload,
            not_after,
            life_seconds,
            server: server_config(&own, &roots, files)?,
            own,
            roots,
        })
    }

    pub(crate) fn client_config(&self, expected_service: &str) -> Arc<ClientConfig> {
        let verifier: Arc<dyn ServerCertVerifier> =
            Arc::new(WorkloadServerVerifier::new(Arc::clone(&self.roots), expected_service));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("AWS-LC has the cipher suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.own))));
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    /// Shows the end of the certificate's life to the operators.
    pub(crate) fn publish(&self) {
        metrics::gauge!("tls_cert_not_after_seconds", "workload" => self.workload.name().to_owned())
            .set(self.not_after.duration_since(jiff::Timestamp::UNIX_EPOCH).as_secs_f64());
    }
}

/// Checks a leaf's chain, its dates and that it may be a server's.
pub(crate) fn verify_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf)?,
        roots,
        intermediates,
        now,
        provider().signature_verification_algorithms.all,
    )
}

fn server_config(
    own: &Arc<CertifiedKey>,
    roots: &Arc<RootCertStore>,
    files: &TlsFiles,
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|_| TlsError::Parse { path: files.roots.clone(), what: "certificate" })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("AWS-LC has the cipher suites of TLS 1.3")
        .with_client_cert_verifier(Arc::new(WorkloadClientVerifier::new(chain)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own))));
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

pub(super) fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let parse = || TlsError::Parse { path: path.to_owned(), what: "certificate" };
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| parse())?;
    if found.is_empty() { Err(parse()) } else { Ok(found) }
}
