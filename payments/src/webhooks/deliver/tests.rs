use std::{
    io,
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

fn answer(status: u16, retry_after: Option<&str>) -> Answer {
    let mut response = Response::builder().status(status);
    if let Some(value) = retry_after {
        response = response.header("retry-after", value);
    }
    judge(&response.body(()).unwrap(), "1994-11-06T08:49:30Z".parse().unwrap())
}

#[test]
fn what_an_answer_means() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(answer(status, None), Answer::Accepted { status }, "{status}");
    }
    assert_eq!(answer(410, None), Answer::Gone { status: 410 });
    // A redirect is a failure: it is not followed.
    for status in [300, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503, 599] {
        let failed = Answer::Failed { failure: Failure::HttpStatus, status: Some(status), retry_after: None };
        assert_eq!(answer(status, None), failed, "{status}");
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    for (value, seconds) in [
        ("120", Some(120)),
        ("0", Some(0)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
        ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
    ] {
        let wanted = seconds.map(Duration::from_secs);
        let Answer::Failed { retry_after, .. } = answer(503, Some(value)) else { panic!("a failure") };
        assert_eq!(retry_after, wanted, "{value}");
    }
}

/// Says at first that a name is this machine's, and later that it is the metadata service's.
#[derive(Default)]
struct Rebinding(AtomicUsize);

#[tonic::async_trait]
impl Resolve for Rebinding {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(vec![if first { "127.0.0.1" } else { "169.254.169.254" }.parse().unwrap()])
    }
}

#[tokio::test]
async fn an_attempt_goes_to_the_address_that_was_judged_and_a_name_that_moves_is_judged_again() {
    mesh::tls::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let rules = Rules { http: true, networks: vec!["127.0.0.0/8".parse().unwrap()] };
    let resolver = Arc::new(Rebinding::default());
    let client = Client { resolver: resolver.clone(), ..Client::new(rules, None, TIMEOUT).unwrap() };
    let signed = super::super::sign::sign(&[], "id", Timestamp::UNIX_EPOCH, b"{}");
    let url = format!("http://hooks.example:{port}/");
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8(head[..read].to_vec()).unwrap()
    };

    let (answer, head) = tokio::join!(client.post(&url, &signed, "{}".to_owned()), served);

    assert_eq!(answer, Answer::Accepted { status: 204 });
    assert_eq!(resolver.0.load(Ordering::SeqCst), 1, "asked for its address once");
    assert!(head.contains(&format!("host: hooks.example:{port}\r\n")), "{head}");
    assert_eq!(client.post(&url, &signed, "{}".to_owned()).await, Answer::failed(Failure::AddressForbidden));
}

#[tokio::test]
async fn who_never_answers_has_failed_after_the_time_that_was_set() {
    mesh::tls::install_crypto_provider();
    // It accepts connections, because it listens, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rules = Rules { http: true, networks: vec!["127.0.0.0/8".parse().unwrap()] };
    let client = Client::new(rules, None, Duration::from_millis(20)).unwrap();
    let signed = super::super::sign::sign(&[], "id", Timestamp::UNIX_EPOCH, b"{}");

    let answer =
        client.post(&format!("http://{}/", listener.local_addr().unwrap()), &signed, "{}".to_owned()).await;

    assert_eq!(answer, Answer::failed(Failure::Timeout));
}

/// Serves TLS with this certificate, and answers 204 to whoever comes that far.
async fn serve_tls(listener: TcpListener, key: rcgen::CertifiedKey<rcgen::KeyPair>) {
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        let _ = stream.shutdown().await;
    }
}

/// Says that every name is this machine's.
struct Here;

#[tonic::async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec!["127.0.0.1".parse().unwrap()])
    }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_of_the_host() {
    mesh::tls::install_crypto_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = rcgen::generate_simple_self_signed(["hooks.example".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, key.cert.pem()).unwrap();
    let mut server = tokio::task::JoinSet::new();
    server.spawn(serve_tls(listener, key));
    let rules = Rules { http: false, networks: vec!["127.0.0.0/8".parse().unwrap()] };
    let signed = super::super::sign::sign(&[], "id", Timestamp::UNIX_EPOCH, b"{}");
    let post = async |roots: Option<&Path>, host: &str| {
        let client = Client::new(rules.clone(), roots, TIMEOUT).unwrap();
        let client = Client { resolver: Arc::new(Here), ..client };
        client.post(&format!("https://{host}:{port}/"), &signed, "{}".to_owned()).await
    };

    assert_eq!(post(Some(&roots), "hooks.example").await, Answer::Accepted { status: 204 });
    assert_eq!(post(Some(&roots), "other.example").await, Answer::failed(Failure::TlsFailed));
    assert_eq!(post(None, "hooks.example").await, Answer::failed(Failure::TlsFailed));
}
