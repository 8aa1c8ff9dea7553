//! A private PostgreSQL server, for one machine and for tests.
//!
//! `jetway up` and the integration tests need a real PostgreSQL on a machine that runs none, or runs one that is not ours to use.
//! [`Cluster::start`] makes one out of the installed binaries: its own data directory, a free port on the loopback address, no
//! Unix socket, passwords by SCRAM, and a superuser whose password only the starter knows.
//!
//! The rule of this module: **the server never outlives the process that started it**, not even one that was killed with SIGKILL.
//! A small shell script stands between the two and watches a pipe (`supervise.sh` says how). So what is found in a data directory
//! at the start is either at rest, or on its way out and waited for.
//!
//! Beside a data directory `d` there are three files of ours: `d.lock`, held while we run; `d.password`, of the superuser, mode
//! 0600; and `d.port`, the port to ask for again. The server's log is `d/server.log`; it holds neither statements nor values.
//!
//! PostgreSQL refuses to run as root. Started by root, it is run by the owner of the data directory, or for a new one by the user
//! `postgres`, else `nobody`.
//!
//! Everything here blocks: call it before the runtime starts, or from `spawn_blocking`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::TempDir;

use self::account::Account;
pub use self::binaries::{BINARIES_VARIABLE, Binaries, VERSION_MIN};
pub use self::error::Error;
use self::pid_file::PidFile;
use self::supervisor::Supervisor;

mod account;
mod binaries;
mod data_dir;
mod error;
mod pid_file;
mod supervisor;

/// The superuser of every private cluster.
pub const ADMIN: &str = "jetway_admin";

/// How long a start may take, recovery after a crash included.
const START_MAX: Duration = Duration::from_mins(1);
/// How long a shutdown may take before the next harder way is tried.
const STOP_MAX: Duration = Duration::from_secs(30);
/// How often a file or a process is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(5);
/// Where services listen by default: a database that settled there would be in the way for good.
const SERVICE_PORTS: RangeInclusive<u16> = 50_000..=53_000;
/// How many ports are tried: between our finding a port free and the server's binding it, another process may take it.
const PORTS_TRIED_MAX: u32 = 5;
/// A log longer than this is set aside at the next start; one older log is kept.
const LOG_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What cluster to start, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; made, with its parents, if it does not exist.
    pub data_dir: PathBuf,
    /// Whether what is committed survives a crash of the server, a killed process (which is one) and a crash of the machine. Without
    /// it everything is faster, and only an orderly stop keeps the data.
    pub durable: bool,
    /// The most connections the server accepts, 1 or more.
    pub max_connections: u16,
}

impl Options {
    /// A durable cluster of 200 connections in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), durable: true, max_connections: 200 }
    }
}

/// A running server of our own. Stopped by [`Cluster::stop`], by drop, and by the death of this process.
#[derive(Debug)]
pub struct Cluster {
    supervisor: Option<Supervisor>,
    data_dir: PathBuf,
    port: u16,
    password: SecretString,
    /// Held, not read: a second starter of the same directory is refused.
    _lock: File,
    /// The directory of [`Cluster::temporary`]. Last, so that it is deleted after the server's end.
    temporary: Option<TempDir>,
}

impl Cluster {
    /// Starts the cluster in `options.data_dir`, made first if it is not there. Returns when the server accepts connections:
    /// about 0.2 s for a cluster that is there, 0.8 s for a new one.
    ///
    /// A server left over from a process that was killed is waited for, and stopped if need be. Only one live process can have a
    /// cluster.
    ///
    /// # Errors
    ///
    /// Every variant of [`Error`]; the text of each says what to do.
    pub fn start(options: &Options) -> Result<Self, Error> {
        Self::start_in(options, None)
    }

    /// Starts a new cluster for a test: not durable, in a directory of its own under the system's temporary directory, deleted
    /// with everything in it when the server stops, also when the process is killed or forgets to stop it.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn temporary() -> Result<Self, Error> {
        let system = std::env::temp_dir();
        let root = tempfile::Builder::new()
            .prefix("jetway-postgres-")
            .tempdir_in(&system)
            .map_err(Error::io("create a directory in", &system))?;
        Account::for_data_dir(root.path())?.give(root.path())?;
        let options = Options { durable: false, ..Options::new(root.path().join("data")) };
        Self::start_in(&options, Some(root))
    }

    /// Deletes the cluster in `data_dir` and our files beside it, whatever state it is in: damaged, of another version, or not there at all. A
    /// server left over from a process that was killed is stopped first.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when a live process has the cluster, [`Error::Io`] when something cannot be deleted.
    pub fn discard(data_dir: &Path) -> Result<(), Error> {
        let data_dir = data_dir::prepare_parent(data_dir)?;
        let _lock = data_dir::lock(&data_dir)?;
        pid_file::retire(&data_dir, STOP_MAX)?;
        data_dir::delete(&data_dir)
    }

    fn start_in(options: &Options, temporary: Option<TempDir>) -> Result<Self, Error> {
        let binaries = Binaries::find()?;
        let data_dir = data_dir::prepare_parent(&options.data_dir)?;
        let lock = data_dir::lock(&data_dir)?;
        let account = Account::for_data_dir(&data_dir)?;
        account.check_reach(data_dir.parent().unwrap_or(&data_dir))?;
        account.check_reach(binaries.dir())?;

        let password = if data_dir::holds_cluster(&data_dir, &binaries)? {
            pid_file::retire(&data_dir, STOP_MAX)?;
            data_dir::read_password(&data_dir)?
        } else {
            data_dir::initialise(&data_dir, &binaries, &account)?
        };
        let mut cluster = Self { supervisor: None, data_dir, port: 0, password, _lock: lock, temporary };
        cluster.run(options, &binaries, &account)?;
        Ok(cluster)
    }

    /// Starts the server on the stored port if it is free, else on another.
    fn run(&mut self, options: &Options, binaries: &Binaries, account: &Account) -> Result<(), Error> {
        let port_file = data_dir::beside(&self.data_dir, "port");
        let mut preferred = fs::read_to_string(&port_file).ok().and_then(|text| text.trim().parse().ok());
        for attempt in 1.. {
            self.port =
                free_port(preferred.take()).map_err(Error::io("find a free port for", &self.data_dir))?;
            match self.run_on_port(options, binaries, account) {
                Err(Error::Start { tail, .. })
                    if tail.contains("could not bind") && attempt < PORTS_TRIED_MAX => {}
                outcome => {
                    outcome?;
                    break;
                }
            }
        }
        data_dir::write_atomically(&port_file, &self.port.to_string())
    }

    fn run_on_port(
        &mut self,
        options: &Options,
        binaries: &Binaries,
        account: &Account,
    ) -> Result<(), Error> {
        let log_path = self.log_path();
        let (log, log_start) = open_log(&log_path, account)?;
        let discard = self.temporary.as_ref().map(TempDir::path);
        let arguments = server_arguments(&self.data_dir, self.port, options);
        let mut supervisor =
            Supervisor::spawn(account, &binaries.program("postgres"), &arguments, log, discard)
                .map_err(Error::io("run", &binaries.program("postgres")))?;

        let deadline = Instant::now() + START_MAX;
        loop {
            if supervisor.ended().map_err(Error::io("wait for the server of", &self.data_dir))? {
                let tail = tail(&log_path, log_start);
                return Err(Error::Start { log: log_path, tail });
            }
            if PidFile::read(&self.data_dir)?.is_some_and(|pid_file| pid_file.accepts_on(self.port)) {
                self.supervisor = Some(supervisor);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::TimedOut {
                    data_dir: self.data_dir.clone(),
                    verb: "start",
                    limit: START_MAX,
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Stops the server the fast way: open transactions are rolled back, everything committed is written out.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when it does not stop even the immediate way, [`Error::Io`] when it cannot be waited for.
    pub fn stop(mut self) -> Result<(), Error> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), Error> {
        let Some(supervisor) = self.supervisor.take() else { return Ok(()) };
        let stopped =
            supervisor.stop(STOP_MAX).map_err(Error::io("wait for the server of", &self.data_dir))?;
        if stopped {
            Ok(())
        } else {
            Err(Error::TimedOut { data_dir: self.data_dir.clone(), verb: "stop", limit: STOP_MAX })
        }
    }

    /// The server's TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory, absolute.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The server's log.
    pub fn log_path(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    /// A connection URL for the superuser [`ADMIN`] and the database `postgres`.
    pub fn admin_url(&self) -> SecretString {
        self.admin_url_for("postgres")
    }

    /// A connection URL for the superuser [`ADMIN`] and `database`, whose name is as it is, not yet escaped.
    pub fn admin_url_for(&self, database: &str) -> SecretString {
        self.url(ADMIN, &self.password, database)
    }

    /// A connection URL for `user` with `password` and the database `database`; both names as they are, not yet escaped.
    pub fn url(&self, user: &str, password: &SecretString, database: &str) -> SecretString {
        let escape = |part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        SecretString::from(format!(
            "postgres://{}:{}@{}:{}/{}?sslmode=disable",
            escape(user),
            escape(password.expose_secret()),
            Ipv4Addr::LOCALHOST,
            self.port,
            escape(database),
        ))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down() {
            tracing::error!(error = %error, "a private PostgreSQL was left behind");
        }
    }
}

/// Whether the account that would run a cluster in `data_dir` can get there. It can as an ordinary user; as root, PostgreSQL runs as another
/// account, which cannot enter a home directory of mode 0700.
pub fn is_reachable(data_dir: &Path) -> bool {
    let Ok(absolute) = std::path::absolute(data_dir) else { return false };
    let existing = absolute.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(&absolute);
    Account::for_data_dir(&absolute).and_then(|account| account.check_reach(existing)).is_ok()
}

/// `preferred` if nobody listens there, else a port of the kernel's choice, but none of those that services listen on by default.
fn free_port(preferred: Option<u16>) -> io::Result<u16> {
    if let Some(port) = preferred.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()) {
        return Ok(port);
    }
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        if !SERVICE_PORTS.contains(&port) {
            return Ok(port);
        }
    }
}

fn server_arguments(data_dir: &Path, port: u16, options: &Options) -> Vec<OsString> {
    let mut settings = vec![
        ("listen_addresses", Ipv4Addr::LOCALHOST.to_string()),
        ("port", port.to_string()),
        ("unix_socket_directories", String::new()),
        ("max_connections", options.max_connections.to_string()),
        ("password_encryption", "scram-sha-256".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("huge_pages", "off".to_owned()),
        ("jit", "off".to_owned()),
        // Statements and the details of errors hold passwords, addresses and whatever else a row holds.
        ("log_statement", "none".to_owned()),
        ("log_min_error_statement", "panic".to_owned()),
        ("log_error_verbosity", "terse".to_owned()),
    ];
    if !options.durable {
        let fast = [
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("synchronous_commit", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            ("max_wal_size", "2GB"),
            ("checkpoint_timeout", "1h"),
        ];
        settings.extend(fast.map(|(name, value)| (name, value.to_owned())));
    }
    let mut arguments = vec!["-D".into(), data_dir.as_os_str().to_owned()];
    for (name, value) in settings {
        arguments.push("-c".into());
        arguments.push(format!("{name}={value}").into());
    }
    arguments
}

/// Opens the log to append to, and says where its new part will start.
fn open_log(path: &Path, account: &Account) -> Result<(File, u64), Error> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_BYTES_MAX) {
        fs::rename(path, path.with_extension("log.old")).map_err(Error::io("rename", path))?;
    }
    // Never through a symbolic link: we may be root, and the directory is another user's.
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
        .map_err(Error::io("open", path))?;
    let length = log.metadata().map_err(Error::io("read", path))?.len();
    account.give_file(&log).map_err(Error::io("change the owner of", path))?;
    Ok((log, length))
}

/// The log from byte `start` on, its last 20 lines.
fn tail(log: &Path, start: u64) -> String {
    let read = || {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(cannot be read: {error})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
