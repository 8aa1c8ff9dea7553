//! Processes that tests start: the edge itself, and Redis.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::Notify,
};

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, with its body as text.
pub(crate) struct Text {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// What a process wrote, line by line.
#[derive(Clone, Default)]
struct Lines {
    written: Arc<Mutex<Vec<String>>>,
    more: Arc<Notify>,
    ended: Arc<AtomicBool>,
}

impl Lines {
    fn of(output: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let lines = Self::default();
        let reader = lines.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "reads until the process ends, and ends with the test"
        )]
        tokio::spawn(async move {
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                reader.written.lock().expect("no panic").push(line);
                reader.more.notify_waiters();
            }
            reader.ended.store(true, Ordering::SeqCst);
            reader.more.notify_waiters();
        });
        lines
    }

    /// The first line from `start` on that `wanted` finds something in.
    async fn find<T>(&self, start: usize, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let found = async {
            let mut next = start;
            loop {
                let more = self.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                let ended = self.ended.load(Ordering::SeqCst);
                let fresh = self.written.lock().expect("no panic")[next..].to_vec();
                if let Some(found) = fresh.iter().find_map(|line| wanted(line)) {
                    return Some(found);
                }
                if ended {
                    return None;
                }
                next += fresh.len();
                more.await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await.ok().flatten();
        found.unwrap_or_else(|| panic!("not written:\n{}", self.written.lock().expect("no panic").join("\n")))
    }

    fn count(&self) -> usize {
        self.written.lock().expect("no panic").len()
    }
}

/// An edge in a process of its own.
pub(crate) struct EdgeProcess {
    process: Child,
    log: Lines,
    public: String,
    admin: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl EdgeProcess {
    /// Starts one with these settings, and waits until it is ready.
    pub(crate) async fn start(settings: &[String]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edge"));
        for setting in ["server.listen", "server.admin_listen", "server.probe_listen"] {
            command.arg("--set").arg(format!("{setting}=127.0.0.1:0"));
        }
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        // Not the repository, whose `.env` is none of a test's business.
        command.current_dir(std::env::temp_dir()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the edge starts");
        let log = Lines::of(process.stderr.take().expect("it is piped"));
        let address = |line: &str, name: &str| Some(json(line)?[name].as_str()?.to_owned());
        let public = log.find(0, |line| address(line, "address").filter(|_| says(line, "serving"))).await;
        let admin = log.find(0, |line| address(line, "admin_address")).await;
        log.find(0, |line| says(line, "readiness changed").then_some(())).await;
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { process, log, public, admin, client }
    }

    /// Where clients come in.
    pub(crate) fn address(&self) -> SocketAddr {
        self.public.parse().expect("an address")
    }

    /// How much memory it has resident, and the most that it ever had, in bytes.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let status = format!("/proc/{}/status", self.process.id().expect("it runs"));
        let status = std::fs::read_to_string(status).expect("it runs");
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
            line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
        };
        (kib("VmRSS:"), kib("VmHWM:"))
    }

    /// Asks it to end, as an orchestrator does.
    pub(crate) fn terminate(&self) {
        let id = self.process.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
    }

    /// Waits until it has ended; whether it says that all went well.
    pub(crate) async fn ended(&mut self) -> bool {
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        ended.expect("it ends").expect("it is our child").success()
    }

    /// How much it has logged.
    pub(crate) fn mark(&self) -> usize {
        self.log.count()
    }

    /// The first line of its log from `mark` on with this message.
    pub(crate) async fn logged(&self, mark: usize, message: &str) -> Value {
        self.log.find(mark, |line| json(line).filter(|_| says(line, message))).await
    }

    /// The line of its access log for the request with this id.
    pub(crate) async fn access(&self, request_id: &str) -> Value {
        let wanted = |line: &Value| line["target"] == "edge::access" && line["request_id"] == request_id;
        self.log.find(0, |line| json(line).filter(wanted)).await
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.written.lock().expect("no panic").join("\n")
    }

    /// Asks on the public port.
    pub(crate) async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Text {
        self.request(&self.public, method, path, headers, body).await
    }

    /// Asks on the admin port.
    pub(crate) async fn operate(&self, method: Method, path: &str, body: &str) -> Text {
        self.request(&self.admin, method, path, &[], body).await
    }

    async fn request(
        &self,
        address: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Text {
        let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        let response = self.client.request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Text { status: head.status, headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// The value of a metric, by its name and labels as they are printed.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.operate(Method::GET, "/metrics", "").await.body;
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

fn json(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

fn says(line: &str, message: &str) -> bool {
    json(line).is_some_and(|line| line["message"] == message)
}

/// A Redis server of the test's own.
pub(crate) struct Redis {
    directory: tempfile::TempDir,
    process: Option<Child>,
    settings: Vec<String>,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with these further settings.
    pub(crate) async fn start_with(settings: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut redis = Self { directory, process: None, settings };
        redis.restart().await;
        redis
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Ends it, as if it had never been.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.expect("it ends");
        }
    }

    /// Starts it again, empty.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        let server = concat!(env!("CARGO_MANIFEST_DIR"), "/../.jetway/peers/bin/redis-server");
        let mut command = Command::new(server);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(self.socket());
        command.args(&self.settings);
        command.current_dir(self.directory.path()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process =
            command.spawn().expect("no redis-server: run scripts/peers/redis, which installs it");
        let log = Lines::of(process.stdout.take().expect("it is piped"));
        log.find(0, |line| line.contains("eady to accept connections").then_some(())).await;
        self.process = Some(process);
    }

    /// Stops it in its tracks, or lets it go on: a server that is there and does not answer.
    pub(crate) fn freeze(&self, frozen: bool) {
        let id = self.process.as_ref().and_then(Child::id).expect("it runs").to_string();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let sent = std::process::Command::new("kill").args([signal, &id]).status();
        assert!(sent.expect("kill is there").success());
    }
}
