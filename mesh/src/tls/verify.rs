//! Which certificates of peers are accepted, and which service they name.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::material::verify_chain;
use super::{NAMESPACE, TRUST_DOMAIN, TlsError, provider};

/// A service of the platform, as its certificate names it: `bookings`.
///
/// There are two ways to one: a verified certificate, and the own configuration.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload(Arc<str>);

impl Workload {
    /// The service's name: lower-case letters, digits and hyphens, at most 63 (a Kubernetes service account).
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The SPIFFE id in the certificate of this service.
    pub fn spiffe_id(&self) -> String {
        spiffe_id(&self.0)
    }

    /// The service with this name.
    ///
    /// # Errors
    ///
    /// Names that no service account can have.
    pub fn named(name: &str) -> Result<Self, TlsError> {
        let fits = !name.is_empty()
            && name.len() <= 63
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if fits {
            Ok(Self(name.into()))
        } else {
            Err(TlsError::NotAWorkload { rule: "malformed service name" })
        }
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workload({})", self.0)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn spiffe_id(service: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{service}")
}

/// The service that a certificate names. The certificate's chain is not looked at here.
///
/// # Errors
///
/// The certificate has not exactly one URI subject alternative name, or that is no SPIFFE id of a service of the platform.
pub fn peer_identity(certificate: &CertificateDer<'_>) -> Result<Workload, TlsError> {
    let refuse = |rule| TlsError::NotAWorkload { rule };

    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| refuse("not an X.509 certificate"))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| refuse("malformed subject alternative name"))?
        .ok_or(refuse("no subject alternative name"))?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(refuse("not exactly one URI subject alternative name"));
    };

    let rest = uri.strip_prefix("spiffe://").ok_or(refuse("the URI is no SPIFFE id"))?;
    let (domain, path) = rest.split_once('/').ok_or(refuse("the SPIFFE id has no path"))?;
    if domain != TRUST_DOMAIN {
        return Err(refuse("another trust domain"));
    }
    let service = path
        .strip_prefix("ns/")
        .and_then(|path| path.strip_prefix(NAMESPACE))
        .and_then(|path| path.strip_prefix("/sa/"))
        .ok_or(refuse("the SPIFFE id is no service's of this namespace"))?;
    Workload::named(service)
}

/// For the server: the client's chain leads to the roots, and its leaf names a workload.
#[derive(Debug)]
pub(crate) struct WorkloadClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
}

impl WorkloadClientVerifier {
    pub(crate) fn new(chain: Arc<dyn ClientCertVerifier>) -> Self {
        Self { chain }
    }
}

impl ClientCertVerifier for WorkloadClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        peer_identity(end_entity).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// For the client: the server's chain leads to the roots, and its leaf names the service that was meant to be reached.
#[derive(Debug)]
pub(crate) struct WorkloadServerVerifier {
    roots: Arc<RootCertStore>,
    expected: String,
}

impl WorkloadServerVerifier {
    pub(crate) fn new(roots: Arc<RootCertStore>, expected: &str) -> Self {
        Self { roots, expected: expected.to_owned() }
    }
}

impl ServerCertVerifier for WorkloadServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_chain(end_entity, intermediates, &self.roots, now)?;
        let workload = peer_identity(end_entity).map_err(refused)?;
        if workload.name() == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate that names no workload, in the words of rustls.
fn refused(error: TlsError) -> rustls::Error {
    CertificateError::Other(rustls::OtherError(Arc::new(error))).into()
}
