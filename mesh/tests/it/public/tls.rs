//! The certificate for the world.

use std::path::Path;
use std::sync::Arc;

use mesh::tls::{ServerCertificate, ServerFiles, TlsError, install_crypto_provider};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// Writes a new certificate for `jetway.example` where `files` says.
fn issue(files: &ServerFiles) -> CertificateDer<'static> {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["jetway.example".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(&files.certificate, certificate.pem()).expect("written");
    std::fs::write(&files.key, key.serialize_pem()).expect("written");
    CertificateDer::from_pem_slice(certificate.pem().as_bytes()).expect("a certificate")
}

fn files(dir: &Path) -> ServerFiles {
    install_crypto_provider();
    ServerFiles { certificate: dir.join("tls.crt"), key: dir.join("tls.key") }
}

async fn open(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a root");
    let mut config = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("jetway.example").expect("a name");
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

async fn get(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(GET).await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"served 0") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_and_the_client_chooses_the_http() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = files(dir.path());
    let trusted = issue(&files);
    let transport = Transport::Public(ServerCertificate::load(files).expect("good files"));
    let server = Server::start_at((Ipv4Addr::LOCALHOST, 0).into(), transport, served(), limits());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for alpn in [vec![], vec![b"http/1.1".as_slice()]] {
            let mut stream = open(server.address, &trusted, version, &alpn).await.expect("TLS");
            assert_eq!(stream.get_ref().1.alpn_protocol(), alpn.first().copied());
            get(&mut stream).await;
        }
        let stream = open(server.address, &trusted, version, &[b"h2", b"http/1.1"]).await.expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (mut requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let (answer, _) = requests.send_request(http::Request::new(()), true).expect("sent");
        tokio::select! {
            answer = answer => assert_eq!(answer.expect("an answer").status(), StatusCode::OK),
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_is_replaced_and_open_connections_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = files(dir.path());
    let old = issue(&files);
    let certificate = ServerCertificate::load(files.clone()).expect("good files");
    let transport = Transport::Public(certificate.clone());
    let server = Server::start_at((Ipv4Addr::LOCALHOST, 0).into(), transport, served(), limits());
    let tls_1_3 = &rustls::version::TLS13;
    let mut before = open(server.address, &old, tls_1_3, &[]).await.expect("TLS");
    get(&mut before).await;

    let new = issue(&files);
    assert!(certificate.reload().expect("good files"));
    let mut after = open(server.address, &new, tls_1_3, &[]).await.expect("TLS with the new one");
    get(&mut after).await;
    open(server.address, &old, tls_1_3, &[]).await.expect_err("the old one is no longer shown");
    get(&mut before).await;

    // A key that is not the certificate's: refused once, and the old files stay.
    std::fs::write(&files.key, KeyPair::generate().expect("a key").serialize_pem()).expect("written");
    assert!(matches!(certificate.reload(), Err(TlsError::Unusable { .. })));
    assert!(!certificate.reload().expect("already refused"));
    get(&mut open(server.address, &new, tls_1_3, &[]).await.expect("TLS")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = files(dir.path());
    issue(&files);
    let transport = Transport::Public(ServerCertificate::load(files).expect("good files"));
    let limits = Limits { handshake_timeout: Duration::from_millis(50), ..limits() };
    let server = Server::start_at((Ipv4Addr::LOCALHOST, 0).into(), transport, served(), limits);
    assert!(ended(connect(server.address, b"\x16\x03\x01\x02\0\x01").await).await);
    server.stop().await;
}
