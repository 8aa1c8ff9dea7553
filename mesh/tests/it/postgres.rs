//! The private PostgreSQL, against the real binaries.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mesh::postgres::{Binaries, Cluster, Error, Options};
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid, User};
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::TempDir;

/// Set in a process that a test starts to be killed: the data directory it is to run.
const VICTIM: &str = "JETWAY_TEST_POSTGRES_VICTIM";

/// What such a process prints before its data directory once it runs.
const READY: &str = "the victim is ready in ";

/// A directory that every user may pass through, as root's server is another user's.
fn directory() -> TempDir {
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary directory")
}

fn options(data_dir: &Path) -> Options {
    Options { durable: false, ..Options::new(data_dir) }
}

/// Runs one statement as `url` and returns the first column of its rows.
fn query(url: &SecretString, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(url.expose_secret(), tokio_postgres::NoTls).await?;
        let rows = async {
            let rows = client.query(sql, &[]).await?;
            drop(client);
            Ok(rows.iter().map(|row| row.get(0)).collect())
        };
        let (rows, _) = tokio::join!(rows, connection);
        rows
    })
}

fn store(cluster: &Cluster, word: &str) {
    query(&cluster.admin_url(), "CREATE TABLE IF NOT EXISTS words (word text)").expect("created");
    query(&cluster.admin_url(), &format!("INSERT INTO words VALUES ('{word}')")).expect("inserted");
}

fn stored(cluster: &Cluster) -> Vec<String> {
    query(&cluster.admin_url(), "SELECT word FROM words ORDER BY word").expect("selected")
}

fn server_pid(data_dir: &Path) -> Pid {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).expect("a running server");
    Pid::from_raw(text.lines().next().expect("a line").parse().expect("a number"))
}

/// Waits for the process to be gone.
fn await_end(pid: Pid) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while kill(pid, None).is_ok() {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::yield_now();
    }
}

/// This test binary again, running only `test`.
fn myself(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args([&format!("postgres::{test}"), "--exact", "--nocapture", "--test-threads=1"]);
    command
}

/// Starts `test` in a process of its own, which runs a cluster in `data_dir`, or a temporary one if that is empty, until it is
/// killed. Returns once the cluster is ready, with its data directory.
fn victim(test: &str, data_dir: &Path) -> (Child, PathBuf) {
    let mut child = myself(test)
        .env(VICTIM, data_dir)
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .expect("spawned");
    let stdout = child.stdout.take().expect("piped");
    let ready = BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once(READY).map(|(_, data_dir)| PathBuf::from(data_dir)));
    (child, ready.expect("the victim runs its cluster"))
}

/// In a process started by [`victim`]: runs the cluster until killed.
fn be_victim() {
    let data_dir = victim_directory().expect("started by `victim`");
    let cluster = if data_dir.as_os_str().is_empty() {
        Cluster::temporary().expect("started")
    } else {
        Cluster::start(&Options::new(data_dir)).expect("started")
    };
    store(&cluster, "written by the victim");
    writeln!(std::io::stdout(), "{READY}{}", cluster.data_dir().display()).expect("the parent reads");
    let _ = std::io::stdin().read(&mut [0]);
    // The parent is gone without killing us.
    drop(cluster);
}

/// The data directory to run, in a process started by [`victim`].
#[expect(
    clippy::disallowed_methods,
    reason = "the variable is this file's own way to tell its child who it is"
)]
fn victim_directory() -> Option<PathBuf> {
    std::env::var_os(VICTIM).map(PathBuf::from)
}

#[test]
fn what_was_stored_is_there_after_a_stop_and_a_start() {
    let dir = directory();
    let data_dir = dir.path().join("deep/data");

    let first = Cluster::start(&options(&data_dir)).expect("started anew");
    store(&first, "kept");
    let port = first.port();
    let pid = server_pid(first.data_dir());
    first.stop().expect("stopped");
    assert!(kill(pid, None).is_err(), "the server is gone when `stop` returns");
    assert!(!data_dir.join("postmaster.pid").exists(), "it was an orderly stop");

    let second = Cluster::start(&options(&data_dir)).expect("started again");
    assert_eq!(stored(&second), ["kept"]);
    assert_eq!(second.port(), port, "the port is asked for again");
}

#[test]
fn a_taken_port_is_left_to_its_owner() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    let first = Cluster::start(&options(&data_dir)).expect("started anew");
    let port = first.port();
    first.stop().expect("stopped");
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");

    let second = Cluster::start(&options(&data_dir)).expect("started again");

    assert_ne!(second.port(), port);
    assert_eq!(query(&second.admin_url(), "SELECT 'answers'").expect("selected"), ["answers"]);
}

#[test]
fn dropping_the_cluster_stops_its_server() {
    let dir = directory();
    let cluster = Cluster::start(&options(&dir.path().join("data"))).expect("started");
    let pid = server_pid(cluster.data_dir());

    drop(cluster);

    assert!(kill(pid, None).is_err());
}

#[test]
fn a_killed_process_takes_its_server_down_and_loses_nothing_committed() {
    const THIS: &str = "a_killed_process_takes_its_server_down_and_loses_nothing_committed";
    if victim_directory().is_some() {
        return be_victim();
    }
    let dir = directory();
    let data_dir = dir.path().join("data");
    for round in 1..=3 {
        let (mut child, _) = victim(THIS, &data_dir);
        let pid = server_pid(&data_dir);

        child.kill().expect("killed");
        child.wait().expect("waited");
        if round != 2 {
            // Every other time, the next start finds it on its way out instead.
            await_end(pid);
        }
    }

    let cluster = Cluster::start(&options(&data_dir)).expect("started after the kills");
    assert_eq!(stored(&cluster), ["written by the victim"; 3]);
}

#[test]
fn a_server_that_nobody_supervises_is_stopped_by_the_next_start() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    let cluster = Cluster::start(&Options::new(&data_dir)).expect("started anew");
    store(&cluster, "kept");
    let port = cluster.port();
    cluster.stop().expect("stopped");
    let owner = fs::metadata(&data_dir).expect("there");
    let mut command = Command::new(Binaries::find().expect("found").dir().join("postgres"));
    command
        .arg("-D")
        .arg(&data_dir)
        .args(["-p", &port.to_string(), "-k", ""])
        .current_dir("/")
        .stderr(Stdio::null());
    if Uid::effective().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let mut orphan = command.spawn().expect("spawned");
    await_ready(&data_dir);

    let cluster = Cluster::start(&Options::new(&data_dir)).expect("started");

    assert!(orphan.try_wait().expect("our child").is_some(), "the old server is gone");
    assert_eq!(stored(&cluster), ["kept"]);
}

/// Waits until the server in `data_dir` accepts connections.
fn await_ready(data_dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fs::read_to_string(data_dir.join("postmaster.pid")).is_ok_and(|text| text.contains("ready")) {
        assert!(Instant::now() < deadline, "the server does not start");
        std::thread::yield_now();
    }
}

#[test]
fn a_stale_pid_file_that_names_a_live_process_is_no_obstacle() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    let cluster = Cluster::start(&options(&data_dir)).expect("started anew");
    store(&cluster, "kept");
    let pid_file = data_dir.join("postmaster.pid");
    let running = fs::read_to_string(&pid_file).expect("a running server");
    cluster.stop().expect("stopped");
    let (_, rest) = running.split_once('\n').expect("lines");
    fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).expect("written");

    let cluster = Cluster::start(&options(&data_dir)).expect("started over the stale file");

    assert_eq!(stored(&cluster), ["kept"]);
}

#[test]
fn a_cluster_in_use_is_refused_to_a_second_starter() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    let first = Cluster::start(&options(&data_dir)).expect("started");

    let refused = Cluster::start(&options(&data_dir)).expect_err("it is in use");

    assert!(matches!(refused, Error::InUse { .. }), "{refused}");
    assert!(query(&first.admin_url(), "SELECT 'unharmed'").is_ok());
}

#[test]
fn a_temporary_cluster_leaves_nothing_behind() {
    let cluster = Cluster::temporary().expect("started");
    let root = cluster.data_dir().parent().expect("a parent").to_owned();
    assert!(root.is_dir());

    cluster.stop().expect("stopped");

    assert!(!root.exists(), "{} is still there", root.display());
}

#[test]
fn a_killed_process_leaves_nothing_of_its_temporary_cluster() {
    const THIS: &str = "a_killed_process_leaves_nothing_of_its_temporary_cluster";
    if victim_directory().is_some() {
        return be_victim();
    }
    let (mut child, data_dir) = victim(THIS, Path::new(""));
    let root = data_dir.parent().expect("a parent");
    assert!(root.is_dir());

    child.kill().expect("killed");
    child.wait().expect("waited");

    let deadline = Instant::now() + Duration::from_secs(20);
    while root.exists() {
        assert!(Instant::now() < deadline, "{} is still there", root.display());
        std::thread::yield_now();
    }
}

#[test]
fn only_a_password_opens_the_server_and_no_file_others_can_read_holds_it() {
    let dir = directory();
    let cluster = Cluster::start(&options(&dir.path().join("data"))).expect("started");
    let url = cluster.admin_url();
    let password = fs::read_to_string(dir.path().join("data.password")).expect("readable by its owner");
    assert!(url.expose_secret().contains(&password));

    let wrong = cluster.url("jetway_admin", &SecretString::from("wrong"), "postgres");
    assert!(query(&wrong, "SELECT 'in'").is_err());
    let mode = fs::metadata(dir.path().join("data.password")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{cluster:?}").contains(&password), "nor does `Debug` show it");
    assert!(!fs::read_to_string(cluster.log_path()).expect("a log").contains(&password));
}

#[test]
fn names_and_passwords_of_any_characters_survive_the_url() {
    let dir = directory();
    let cluster = Cluster::start(&options(&dir.path().join("data"))).expect("started");
    query(&cluster.admin_url(), r#"CREATE ROLE "a/b@c" LOGIN PASSWORD 'p%:@/?#é'"#).expect("created");

    let url = cluster.url("a/b@c", &SecretString::from("p%:@/?#é"), "postgres");

    assert_eq!(query(&url, "SELECT current_user::text").expect("connected"), ["a/b@c"]);
}

#[test]
fn the_log_holds_neither_statements_nor_values() {
    let dir = directory();
    let cluster = Cluster::start(&options(&dir.path().join("data"))).expect("started");
    query(&cluster.admin_url(), "CREATE TABLE guests (email text UNIQUE)").expect("created");
    query(&cluster.admin_url(), "INSERT INTO guests VALUES ('canary-4711')").expect("inserted");

    query(&cluster.admin_url(), "INSERT INTO guests VALUES ('canary-4711')").expect_err("a duplicate");
    query(&cluster.admin_url(), "CREATE ROLE postgres_x PASSWORD 'canary-4711' NONSENSE")
        .expect_err("no such word");

    let log = fs::read_to_string(cluster.log_path()).expect("a log");
    assert!(log.contains("duplicate key value"), "the errors are there: {log}");
    assert!(!log.contains("canary-4711"), "{log}");
}

#[test]
fn the_server_runs_as_an_unprivileged_user() {
    if Uid::effective().is_root() {
        let dir = directory();
        let cluster = Cluster::start(&options(&dir.path().join("data"))).expect("started");
        let status =
            fs::read_to_string(format!("/proc/{}/status", server_pid(cluster.data_dir()))).expect("alive");
        let uids = status.lines().find(|line| line.starts_with("Uid:")).expect("a line");
        assert!(uids.split_whitespace().skip(1).all(|uid| uid != "0"), "{uids}");
        let groups = status.lines().find(|line| line.starts_with("Groups:")).expect("a line");
        assert!(groups.split_whitespace().skip(1).all(|gid| gid != "0"), "{groups}");
        drop(cluster);

        // And the same for one who is not root to begin with.
        let nobody = User::from_name("nobody").expect("passwd is readable").expect("there is a nobody");
        let output = myself("what_was_stored_is_there_after_a_stop_and_a_start")
            .uid(nobody.uid.as_raw())
            .gid(nobody.gid.as_raw())
            .current_dir("/")
            .output()
            .expect("ran");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    } else {
        let refused =
            Cluster::start(&options(Path::new("/proc/jetway/data"))).expect_err("nobody can write there");
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
    }
}

#[test]
fn a_directory_that_the_servers_user_cannot_reach_is_refused_by_name() {
    let dir = directory();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).expect("created");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closed");
    let started = Cluster::start(&options(&closed.join("data")));

    if Uid::effective().is_root() {
        let refused = started.expect_err("root's server runs as another user");
        assert!(matches!(&refused, Error::Unreachable { .. }), "{refused}");
        let message = refused.to_string();
        assert!(message.contains(&format!("chmod o+x {}", closed.display())), "{message}");
        assert!(!closed.join("data").exists(), "nothing was made");
    } else {
        assert_eq!(
            query(&started.expect("it is our own").admin_url(), "SELECT 'mine'").expect("selected"),
            ["mine"]
        );
    }
}

#[test]
fn a_directory_with_something_else_in_it_is_left_alone() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    fs::create_dir(&data_dir).expect("created");
    fs::write(data_dir.join("thesis.txt"), "mine").expect("written");

    let refused = Cluster::start(&options(&data_dir)).expect_err("there is something");

    assert!(matches!(refused, Error::NotACluster { .. } | Error::OtherOwner { .. }), "{refused}");
    assert_eq!(fs::read_to_string(data_dir.join("thesis.txt")).expect("still there"), "mine");
}

#[test]
fn a_discarded_cluster_is_gone_whatever_its_state_and_one_in_use_is_not() {
    let directory = directory();
    let data_dir = directory.path().join("data");
    let cluster = Cluster::start(&options(&data_dir)).expect("a new cluster");
    Cluster::discard(&data_dir).expect_err("somebody runs it");
    cluster.stop().expect("it stops");

    fs::write(data_dir.join("PG_VERSION"), "9").expect("our own directory");
    Cluster::discard(&data_dir).expect("nobody runs it");

    assert!(!data_dir.exists());
    Cluster::discard(&data_dir).expect("there is nothing");
    Cluster::start(&options(&data_dir)).expect("a new cluster");
}

#[test]
fn a_cluster_of_another_version_is_refused_with_both_versions() {
    let dir = directory();
    let data_dir = dir.path().join("data");
    fs::create_dir(&data_dir).expect("created");
    fs::write(data_dir.join("PG_VERSION"), "9\n").expect("written");

    let refused = Cluster::start(&options(&data_dir)).expect_err("it is another version's").to_string();

    assert!(refused.contains("made by PostgreSQL 9"), "{refused}");
    assert!(refused.contains("JETWAY_POSTGRES_BIN"), "{refused}");
}

#[test]
fn the_server_listens_on_the_loopback_address_and_on_no_socket() {
    let dir = directory();
    let cluster = Cluster::start(&options(&dir.path().join("data"))).expect("started");

    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, cluster.port())).is_ok());
    assert_eq!(query(&cluster.admin_url(), "SHOW listen_addresses").expect("shown"), ["127.0.0.1"]);
    assert_eq!(query(&cluster.admin_url(), "SHOW unix_socket_directories").expect("shown"), [""]);
}
