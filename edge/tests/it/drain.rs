//! An edge that ends, and a certificate that changes, under load: no request fails.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::attacks::Target;

const GET: &[u8] = b"GET /v1/hello/ada HTTP/1.1\r\nhost: edge\r\n\r\n";
const END: &[u8] = br#"{"name":"Hello, ada!"}"#;

#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    failed: AtomicUsize,
}

impl Tally {
    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits until so many more have been answered.
    async fn more(&self, count: usize) {
        let until = self.answered() + count;
        while self.answered() < until {
            tokio::task::yield_now().await;
        }
    }
}

/// One request on a kept connection; whether the connection may be used again.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<bool> {
    stream.write_all(GET).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(END) {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    Ok(!answer.contains("connection: close"))
}

/// Asks on kept connections until nobody listens any more.
async fn http_1(address: SocketAddr, tally: Arc<Tally>) {
    // Refused: the edge has stopped. Reset at the first request: the kernel had connected us, and nobody accepted.
    while let Ok(mut stream) = TcpStream::connect(address).await {
        let Ok(mut kept) = ask(&mut stream).await else { continue };
        tally.answered.fetch_add(1, Ordering::SeqCst);
        while kept {
            match ask(&mut stream).await {
                Ok(keep) => {
                    tally.answered.fetch_add(1, Ordering::SeqCst);
                    kept = keep;
                }
                Err(error) => {
                    eprintln!("a request failed on a kept connection: {error}");
                    tally.failed.fetch_add(1, Ordering::SeqCst);
                    break;
                }
            }
        }
    }
}

/// Asks on streams of one connection, some at a time, until nobody listens any more.
async fn http_2(address: SocketAddr, tally: Arc<Tally>) {
    while let Ok(stream) = TcpStream::connect(address).await {
        let Ok((mut requests, connection)) = h2::client::handshake(stream).await else { continue };
        let asking = async {
            // An error here is a GOAWAY, before anything was sent.
            while let Ok(ready) = requests.clone().ready().await {
                requests = ready;
                let some = (0..4).filter_map(|_| {
                    let request = http::Request::get(format!("http://{address}/v1/hello/ada"));
                    let (answer, _) =
                        requests.send_request(request.body(()).expect("a request"), true).ok()?;
                    Some(async {
                        let mut body = answer.await?.into_body();
                        while let Some(data) = body.data().await {
                            body.flow_control().release_capacity(data?.len())?;
                        }
                        Ok::<_, h2::Error>(())
                    })
                });
                let some: Vec<_> = some.collect();
                for outcome in futures::future::join_all(some).await {
                    match outcome {
                        Ok(()) => tally.answered.fetch_add(1, Ordering::SeqCst),
                        Err(error) => {
                            eprintln!("a request failed on HTTP/2: {error}");
                            tally.failed.fetch_add(1, Ordering::SeqCst)
                        }
                    };
                }
            }
        };
        let _ended = tokio::join!(connection, asking);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_when_the_edge_is_told_to_end_under_load() {
    let mut t = Target::start(&[]).await;
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        clients.spawn(http_1(t.edge.address(), Arc::clone(&tally)));
    }
    for _ in 0..4 {
        clients.spawn(http_2(t.edge.address(), Arc::clone(&tally)));
    }
    tally.more(500).await;
    let before = tally.answered();
    t.edge.terminate();
    assert!(t.edge.ended().await, "it ends in order");
    tokio::time::timeout(Duration::from_secs(60), clients.join_all()).await.expect("the clients notice");

    let after = tally.answered() - before;
    let failed = tally.failed.load(Ordering::SeqCst);
    eprintln!("{before} answered before SIGTERM, {after} after, {failed} failed");
    assert!(after > 0, "it goes on while load balancers notice");
    assert_eq!(failed, 0);
}

/// Writes a new certificate for `jetway.example`.
fn issue(dir: &Path) -> CertificateDer<'static> {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["jetway.example".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    std::fs::write(dir.join("tls.crt"), certificate.pem()).expect("written");
    std::fs::write(dir.join("tls.key"), key.serialize_pem()).expect("written");
    CertificateDer::from_pem_slice(certificate.pem().as_bytes()).expect("a certificate")
}

async fn open(address: SocketAddr, roots: &RootCertStore) -> io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
    let name = ServerName::try_from("jetway.example").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_when_the_certificate_is_replaced_under_load() {
    mesh::tls::install_crypto_provider();
    let dir = tempfile::tempdir().expect("a directory");
    let old = issue(dir.path());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let files = [format!("public.certificate={}", at("tls.crt")), format!("public.key={}", at("tls.key"))];
    let t = Target::start_secure(&files).await;
    let address = t.edge.address();
    let mut roots = RootCertStore::empty();
    roots.add(old.clone()).expect("a root");
    let mut kept = open(address, &roots).await.expect("TLS");

    let new = issue(dir.path());
    roots.add(new.clone()).expect("a root");
    let roots = Arc::new(roots);
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (roots, new) = (Arc::clone(&roots), new.clone());
        clients.spawn(async move {
            // A new connection for each request, until three in a row have shown the new certificate.
            let (mut of_old, mut of_new) = (0, 0);
            while of_new < 3 {
                let mut stream = open(address, &roots).await.expect("a handshake with the one or the other");
                let shown = stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone();
                if shown == new {
                    of_new += 1;
                } else {
                    of_old += 1;
                }
                assert!(ask(&mut stream).await.expect("an answer"));
            }
            of_old
        });
    }
    let watched = async {
        let of_old: usize = clients.join_all().await.into_iter().sum();
        eprintln!("{of_old} answered with the old certificate while it was replaced");
    };
    tokio::time::timeout(Duration::from_secs(60), watched).await.expect("the new one is shown");
    assert!(ask(&mut kept).await.expect("an open connection goes on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_flight_is_finished_after_sigterm() {
    let mut t = Target::start(&["server.drain_delay_ms=0"]).await;
    let gate = Arc::clone(&t.greeter.gate);
    let address = t.edge.address();
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(b"GET /v1/hello/slow HTTP/1.1\r\nhost: edge\r\n\r\n").await.expect("written");
    // The first to answer shows that the call before it has been read; then nobody listens.
    let answer = t.edge.ask(Method::GET, "/v1/hello/ada", &[], "").await;
    assert_eq!(answer.status, 200);
    t.edge.terminate();
    while TcpStream::connect(address).await.is_ok() {}
    gate.add_permits(1);
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Hello, slow!"), "{answer}");
    assert!(t.edge.ended().await);
}
