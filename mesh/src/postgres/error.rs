//! Why there is no server, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::{BINARIES_VARIABLE, Binaries, VERSION_MIN};

/// Why a private PostgreSQL cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable server binaries on this machine.
    #[error(
        "no PostgreSQL {VERSION_MIN} or newer found (`initdb` and `postgres`); looked at:\n  {}\nrun `make setup`, or set {BINARIES_VARIABLE} to their directory",
        .looked.join("\n  ")
    )]
    BinariesNotFound {
        /// Each place, and what is wrong with it.
        looked: Vec<String>,
    },
    /// Another live process runs this cluster.
    #[error("{} is in use by another process: stop that one first, or choose another directory", .data_dir.display())]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The directory is not empty and holds no cluster.
    #[error("{} is not empty and holds no PostgreSQL cluster: choose another directory", .data_dir.display())]
    NotACluster {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The cluster was made by another major version.
    #[error(
        "{} was made by PostgreSQL {found} and the server at hand is {}, version {}: set {BINARIES_VARIABLE} to the binaries of version {found}, or start afresh in another directory",
        .data_dir.display(), .binaries.dir().display(), .binaries.major()
    )]
    OtherVersion {
        /// The data directory.
        data_dir: PathBuf,
        /// What its `PG_VERSION` says.
        found: String,
        /// The binaries that were chosen.
        binaries: Binaries,
    },
    /// The superuser's password is not where it was put.
    #[error("the cluster in {} is there, and its password file {} is not: put it back, or start afresh in another directory", .data_dir.display(), .file.display())]
    PasswordMissing {
        /// The data directory.
        data_dir: PathBuf,
        /// The password file.
        file: PathBuf,
    },
    /// The data directory is another user's.
    #[error("{} belongs to user id {owner}, and only that user or root can run it", .data_dir.display())]
    OtherOwner {
        /// The data directory.
        data_dir: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// We are root, and there is no user to run the server as.
    #[error(
        "PostgreSQL does not run as root, and this machine has neither a user `postgres` nor `nobody` to run it as"
    )]
    NoAccount,
    /// The user who will run the server cannot get to a directory.
    #[error(
        "PostgreSQL does not run as root, so it is run as user `{account}`, who cannot reach {}: {} is closed to that user; use a directory that everyone may pass through, or `chmod o+x {}`",
        .wanted.display(), .closed.display(), .closed.display()
    )]
    Unreachable {
        /// The directory that the server needs.
        wanted: PathBuf,
        /// The ancestor of it (or itself) that cannot be searched.
        closed: PathBuf,
        /// The user's name or number.
        account: String,
    },
    /// `initdb` failed.
    #[error("initdb failed ({status}):\n{output}")]
    Initdb {
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        output: String,
    },
    /// The server ended instead of starting.
    #[error("PostgreSQL did not start; the end of {}:\n{tail}", .log.display())]
    Start {
        /// The server's log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The server took too long.
    #[error("PostgreSQL in {} did not {verb} within {} s; see server.log there", .data_dir.display(), .limit.as_secs())]
    TimedOut {
        /// The data directory.
        data_dir: PathBuf,
        /// What was waited for: `start` or `stop`.
        verb: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The operating system said no.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// A verb and a noun: `create directory`.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl Error {
    /// Makes an error of an [`io::Error`] met when doing `action` to `path`.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
