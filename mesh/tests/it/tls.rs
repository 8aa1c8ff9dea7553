//! Who may connect to whom, and certificates that change while services run.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::{Extension, Router};
use mesh::accept::PeerAddr;
use mesh::tls::{Identity, TlsError, Workload, install_crypto_provider, peer_identity};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::peers::{Authority, Server, answer, call, channel, code, header, idempotent, replace};

/// A service that counts its calls and answers with the name of its caller.
fn counting(calls: &Arc<AtomicUsize>) -> Router {
    let calls = Arc::clone(calls);
    Router::new().fallback(move |Extension(peer): Extension<Workload>, Extension(at): Extension<PeerAddr>| {
        calls.fetch_add(1, Ordering::SeqCst);
        assert!(at.0.ip().is_loopback());
        let mut response = answer(0);
        response.headers_mut().insert("peer", peer.name().parse().expect("a header"));
        std::future::ready(response)
    })
}

#[tokio::test]
async fn handlers_learn_the_callers_workload_from_its_certificate() {
    let authority = Authority::new();
    let server = Server::start(authority.identity("bookings"), counting(&Arc::default()));
    let channel = channel("bookings", &[server.address], &authority.identity("edge"));

    let response = call(&channel, idempotent()).await;

    assert_eq!((code(&response), header(response.headers(), "peer").as_str()), (0, "edge"));
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    install_crypto_provider();
    let authority = Authority::new();
    let server = Server::start(authority.identity("bookings"), counting(&Arc::default()));
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("bookings").expect("a name");

    let tcp = TcpStream::connect(server.address).await.expect("a connection");
    // In TLS 1.3 the client is done before the server has looked at its certificate.
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("half a handshake");
    let error = stream.read_to_end(&mut Vec::new()).await.expect_err("an alert");

    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let calls = Arc::default();
    let server = Server::start(ours.identity("bookings"), counting(&calls));

    // They trust us: only the server can refuse.
    let files = theirs.files("edge");
    let roots =
        [&files, &ours.files("edge")].map(|files| std::fs::read_to_string(&files.roots).expect("roots"));
    std::fs::write(&files.roots, roots.concat()).expect("roots");
    let intruder = Identity::load(&files).expect("an identity");
    let refused = call(&channel("bookings", &[server.address], &intruder), idempotent()).await;

    assert_eq!(code(&refused), 14);
    assert_eq!(header(refused.headers(), "grpc-message"), "bookings%20unavailable");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let files = theirs.files("bookings");
    let roots =
        [&files, &ours.files("edge")].map(|files| std::fs::read_to_string(&files.roots).expect("roots"));
    std::fs::write(&files.roots, roots.concat()).expect("roots");
    let calls = Arc::default();
    // It trusts us: only the client can refuse.
    let server = Server::start(Identity::load(&files).expect("an identity"), counting(&calls));

    let refused = call(&channel("bookings", &[server.address], &ours.identity("edge")), idempotent()).await;

    assert_eq!((code(&refused), calls.load(Ordering::SeqCst)), (14, 0));
    server.stop().await;
}

#[tokio::test]
async fn another_service_at_the_address_is_refused_by_the_client() {
    let authority = Authority::new();
    let calls = Arc::default();
    let server = Server::start(authority.identity("bookings"), counting(&calls));

    let refused =
        call(&channel("payments", &[server.address], &authority.identity("edge")), idempotent()).await;

    assert_eq!((code(&refused), calls.load(Ordering::SeqCst)), (14, 0));
    server.stop().await;
}

#[tokio::test]
async fn new_connections_use_new_files_and_open_ones_go_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = old.files("bookings");
    let identity = Identity::load(&files).expect("an identity");
    let server = Server::start(identity.clone(), counting(&Arc::default()));
    let open = channel("bookings", &[server.address], &old.identity("edge"));
    let newcomer = new.identity("edge");
    assert_eq!(code(&call(&open, idempotent()).await), 0);
    assert_eq!(code(&call(&channel("bookings", &[server.address], &newcomer), idempotent()).await), 14);

    replace(&files, &new.files("bookings"));
    assert!(identity.reload().expect("good files"));

    assert_eq!(code(&call(&channel("bookings", &[server.address], &newcomer), idempotent()).await), 0);
    assert_eq!(code(&call(&open, idempotent()).await), 0);
    // Those who do not trust the new authority notice that the certificate is another.
    let late = channel("bookings", &[server.address], &old.identity("edge"));
    assert_eq!(code(&call(&late, idempotent()).await), 14);
    server.stop().await;
}

#[tokio::test]
async fn the_watch_picks_up_replaced_files() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = old.files("bookings");
    let identity = Identity::load(&files).expect("an identity");

    let replaced = async |by: &Authority| {
        let before = identity.server_config();
        replace(&files, &by.files("bookings"));
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while Arc::ptr_eq(&before, &identity.server_config()) {
            ticks.tick().await;
        }
    };
    tokio::select! {
        () = identity.clone().watch() => unreachable!("the watch has no end"),
        // Twice: the first may be what the watch finds when it starts.
        () = async {
            replaced(&new).await;
            replaced(&Authority::new()).await;
        } => {}
    }

    assert_eq!(identity.workload().name(), "bookings");
}

#[test]
fn bad_files_are_refused_once_and_the_old_ones_kept() {
    let authority = Authority::new();
    let files = authority.files("bookings");
    let identity = Identity::load(&files).expect("an identity");
    let before = identity.server_config();

    let other = authority.files("payments");
    std::fs::copy(&other.key, &files.key).expect("another key");
    let error = identity.reload().expect_err("a key that is not the certificate's");

    assert!(matches!(error, TlsError::Unusable { .. }), "{error:?}");
    assert!(!identity.reload().expect("already refused"));
    assert!(Arc::ptr_eq(&before, &identity.server_config()));
    assert!(matches!(Identity::load(&files), Err(TlsError::Unusable { .. })));
}

#[test]
fn missing_and_malformed_files_are_named() {
    let authority = Authority::new();
    let files = authority.files("bookings");

    std::fs::write(&files.roots, "no PEM").expect("a file");
    let error = Identity::load(&files).expect_err("no roots").to_string();
    assert!(error.contains("ca.crt holds no certificate"), "{error}");

    std::fs::remove_file(&files.key).expect("a file");
    let error = Identity::load(&files).expect_err("no key").to_string();
    assert!(error.contains("tls.key cannot be read"), "{error}");
}

#[test]
fn only_one_well_formed_spiffe_id_of_our_namespace_names_a_workload() {
    let named = |uris: &[&str]| {
        let mut params = CertificateParams::new(vec!["payments.jetway.svc".to_owned()]).expect("a name");
        params
            .subject_alt_names
            .extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("a URI"))));
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        peer_identity(certificate.der()).map(|workload| workload.name().to_owned())
    };

    let good = "spiffe://jetway.local/ns/jetway/sa/bookings";
    assert_eq!(named(&[good]).expect("a workload"), "bookings");
    for bad in [
        &[][..],
        &[good, good],
        &[good, "https://jetway.local/"],
        &["spiffe://jetway.example/ns/jetway/sa/bookings"],
        &["spiffe://jetway.local/ns/other/sa/bookings"],
        &["spiffe://jetway.local/ns/jetway/sa/"],
        &["spiffe://jetway.local/ns/jetway/sa/bookings/"],
        &["spiffe://jetway.local/ns/jetway/sa/Bookings"],
        &["spiffe://jetway.local/ns/jetwayish/sa/bookings"],
        &["SPIFFE://jetway.local/ns/jetway/sa/bookings"],
        &["https://jetway.local/ns/jetway/sa/bookings"],
    ] {
        assert!(matches!(named(bad), Err(TlsError::NotAWorkload { .. })), "{bad:?}");
    }
}

#[test]
fn the_private_authority_keeps_what_is_good_and_replaces_what_is_not() {
    let authority = Authority::new();
    let files = authority.files("bookings");
    let certificate = std::fs::read(&files.certificate).expect("a certificate");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&files.key), 0o600);
    assert_eq!(mode(&authority.dir.path().join("ca.key")), 0o600);

    let reopened = mesh::ca::PrivateCa::open_or_create(authority.dir.path()).expect("the same authority");
    reopened.issue("bookings", authority.dir.path()).expect("a certificate");
    assert_eq!(std::fs::read(&files.certificate).expect("a certificate"), certificate);

    let another = Authority::new();
    another.ca.issue("bookings", authority.dir.path()).expect("a certificate");
    assert_ne!(std::fs::read(&files.certificate).expect("a certificate"), certificate);
    Identity::load(&files).expect("files that fit together");
}

#[test]
fn services_that_are_no_service_account_get_no_certificate() {
    let authority = Authority::new();
    for name in ["", "../bookings", "Bookings", "book ings", "-bookings", &"b".repeat(64)] {
        assert!(authority.ca.issue(name, authority.dir.path()).is_err(), "{name}");
    }
}

/// Takes any server for the right one.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
