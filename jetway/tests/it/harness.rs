//! The platform as its users have it: the real binaries as real processes.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use jetway::rest::{Answer, Rest};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a start may take on a busy machine, first migrations and demo data included.
const START_MAX: Duration = Duration::from_mins(3);

/// Enough of the demo timetable for every test.
const SCHEDULE_DAYS: &str = "45";

/// How long a wait for a condition may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A data directory that every account can reach, deleted with the value.
pub(crate) fn data_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("jetway-it-").tempdir().expect("a temporary directory");
    // PostgreSQL runs as another account than root.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("our own directory");
    dir
}

/// A running `jetway up`.
pub(crate) struct Up {
    child: Child,
    /// The edge.
    pub(crate) url: String,
    /// Everything that it printed.
    pub(crate) welcome: String,
}

impl Up {
    /// Starts the platform on `data`, on free ports, and waits until it is ready.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// As [`Up::start`], with further arguments.
    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_jetway"))
            .args(["up", "--any-port", "--listen", "127.0.0.1:0", "--schedule-days", SCHEDULE_DAYS, "--data"])
            .arg(data)
            .args(arguments)
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let lines = read_lines(child.stderr.take().expect("standard error is piped"));
        let mut welcome = String::new();
        let deadline = started + START_MAX;
        while !welcome.contains("Ctrl-C stops.") {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(line) => welcome.push_str(&line),
                Err(error) => {
                    let _ = child.kill();
                    panic!(
                        "the platform did not start ({error}); it said:\n{welcome}\nlog:\n{}",
                        tail(&data.join("jetway.log"))
                    );
                }
            }
        }
        let url = welcome
            .lines()
            .find_map(|line| line.trim().strip_prefix("REST"))
            .map(|url| url.trim().trim_end_matches("/api/v1").to_owned())
            .expect("the welcome names the address");
        Self { child, url, welcome }
    }

    /// A client of the edge.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(&self.url).expect("the welcome names a URL")
    }

    /// E-mail and password of the demo account with this role.
    pub(crate) fn account(&self, role: &str) -> (String, String) {
        let line = self
            .welcome
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{role} ")))
            .unwrap_or_else(|| panic!("no {role} account in:\n{}", self.welcome));
        let mut words = line.split_whitespace();
        let email = words.nth(1).expect("the line has an e-mail address").to_owned();
        (email, words.nth(1).expect("the line has a password").to_owned())
    }

    /// A client signed in as the demo account with this role.
    pub(crate) async fn signed_in_as(&self, role: &str) -> Rest {
        let (email, password) = self.account(role);
        sign_in(&self.rest(), &email, &password).await
    }

    /// SIGSTOP: nothing happens in the process any more, until [`Up::thaw`].
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(pid(&self.child), signal).expect("our own child");
    }

    /// SIGKILL, and wait until the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// SIGINT as Ctrl-C does it, and wait for an orderly end.
    pub(crate) fn interrupt(mut self) {
        let status = stop(&mut self.child, Signal::SIGINT);
        assert!(status.success(), "the platform ended with {status}");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One service as a process of its own.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts the binary `name` with these environment variables and nothing else that concerns it.
    pub(crate) fn start(name: &'static str, environment: &[(String, String)], log: &Path) -> Self {
        let binary = binary(name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("the log opens");
        let child = Command::new(&binary)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not run: {error}", binary.display()));
        Self { name, child }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// SIGTERM, and wait for an orderly end.
    pub(crate) fn terminate(mut self) {
        let status = stop(&mut self.child, Signal::SIGTERM);
        assert!(status.success(), "{} ended with {status}", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}

/// Sends the signal and waits for the end. A process that goes on is killed in the end, so that its test fails instead of waiting for ever.
fn stop(child: &mut Child, signal: Signal) -> ExitStatus {
    let pid = pid(child);
    let (ended, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    kill(pid, signal).expect("our own child");
    let status = child.wait().expect("our own child");
    drop(ended);
    watchdog.join().expect("the watchdog does not panic");
    status
}

/// The binary of a service, built when it is not there: cargo builds only this crate's own binaries for its tests.
fn binary(name: &str) -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        // With the features of `cargo test --workspace`, so that what it compiled is used.
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--quiet", "--workspace", "--bins", "--features", "mesh/testing"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace"))
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the binaries do not build");
    });
    Path::new(env!("CARGO_BIN_EXE_jetway")).with_file_name(name)
}

/// Runs `jetway` with these arguments to its end: success, and what it printed.
pub(crate) fn jetway(arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_jetway")).args(arguments).output().expect("the binary runs");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn read_lines(source: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(source);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                // Nobody reads any more; the pipe must be emptied all the same.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                return;
            }
        }
    });
    receiver
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Asks again and again until `check` gives something.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        if let Some(value) = check().await {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
    }
}

/// A new id, for keys and names.
pub(crate) fn unique() -> String {
    mesh::id::generate().to_string()
}

/// A client signed in with an e-mail address and a password.
pub(crate) async fn sign_in(rest: &Rest, email: &str, password: &str) -> Rest {
    let credentials = json!({ "email": email, "password": password });
    let answer = rest.post("/api/v1/auth/signin", &credentials).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    rest.signed_in(&answer.text("tokens.accessToken"))
}

/// A new customer, signed in.
pub(crate) async fn traveller(rest: &Rest) -> Rest {
    let (email, password) = (format!("{}@jetway.example", unique()), format!("secret {}", unique()));
    let account = json!({ "email": email, "password": password });
    let answer = rest.post("/api/v1/auth/signup", &account).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    sign_in(rest, &email, &password).await
}

/// The first of the flights from Delhi to Bengaluru in `days` days.
pub(crate) async fn flight(rest: &Rest, days: i64) -> String {
    let date = mesh::clock::Clock::system_now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = date.checked_add(jiff::Span::new().days(days)).expect("a date");
    let path = format!("/api/v1/flights?trips=DEL-BLR&tripDate={date}&travellers=1&pageSize=1");
    let answer = rest.get(&path).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.text("flights.0.name")
}

/// A hold on one seat.
pub(crate) async fn hold(rest: &Rest, flight: &str) -> Answer {
    let body = json!({ "items": [{ "flight": flight, "cabin": "ECONOMY", "fare": "FLEX" }] });
    rest.post_with_key("/api/v1/holds", &body, &unique()).await.expect("an answer")
}

/// A stored card with this number.
pub(crate) async fn card(rest: &Rest, number: &str) -> String {
    let body = json!({ "card": { "number": number, "expMonth": 12, "expYear": 2034, "cvc": "123" } });
    let answer = rest.post("/api/v1/paymentMethods", &body).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.text("name")
}

/// The body of a purchase for one passenger.
pub(crate) fn purchase(hold: &str, card: &str) -> Value {
    json!({ "hold": hold, "passengers": [{ "givenName": "Asha", "familyName": "Rao" }], "paymentMethod": card })
}

/// Buys one seat: the name of the booking, which may still be pending.
pub(crate) async fn buy(rest: &Rest, flight: &str, card: &str) -> String {
    let hold = hold(rest, flight).await;
    assert_eq!(hold.status, 200, "{}", hold.body);
    let body = purchase(&hold.text("name"), card);
    let booking = rest.post_with_key("/api/v1/bookings", &body, &unique()).await.expect("an answer");
    assert_eq!(booking.status, 200, "{}", booking.body);
    booking.text("name")
}

/// Waits until the booking is in one of `states`, and gives its body.
pub(crate) async fn until_state(rest: &Rest, booking: &str, states: &[&str]) -> Value {
    eventually(&format!("{booking} is {states:?}"), async || {
        let answer = rest.get(&format!("/api/v1/{booking}")).await.ok()?;
        (answer.status == 200 && states.contains(&answer.text("state").as_str())).then_some(answer.body)
    })
    .await
}
