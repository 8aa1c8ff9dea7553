//! The directory that everything of a platform on one machine is kept in.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use rand::TryRngCore as _;
use serde::{Serialize, de::DeserializeOwned};

/// The files that hold what the platform remembers from start to start.
pub const DATABASES: &str = "databases.json";
/// The demo accounts.
pub const ACCOUNTS: &str = "accounts.json";
/// Until when there are flights.
pub const TIMETABLE: &str = "timetable.json";

/// All of them.
const SECRETS: [&str; 3] = [DATABASES, ACCOUNTS, TIMETABLE];

/// The layout of a data directory.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// The directory at `path`, made if it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("make the data directory {}", path.display()))?;
        let path =
            path.canonicalize().with_context(|| format!("find the data directory {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Deletes everything of ours in it, but for PostgreSQL's files. What else is there stays: the directory may be somebody's home.
    ///
    /// # Errors
    ///
    /// When something cannot be deleted.
    pub fn clear(&self) -> io::Result<()> {
        let gone = |outcome: io::Result<()>| match outcome {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        };
        for directory in [self.ca(), self.certificates()] {
            gone(fs::remove_dir_all(directory))?;
        }
        let secrets = SECRETS.map(|name| self.0.join(name));
        let keys = ["edge", "identity", "payments"].map(|service| self.keys(service));
        let files = [self.log(), self.clock()];
        for file in secrets.iter().chain(&keys).chain(&files) {
            gone(fs::remove_file(file))?;
        }
        Ok(())
    }

    /// PostgreSQL's own directory.
    pub fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    /// The private certificate authority.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// Workload certificates, a directory for each service.
    pub fn certificates(&self) -> PathBuf {
        self.0.join("certificates")
    }

    /// The keys of `service`: those that encrypt other keys, and for the edge those of CSRF tokens.
    pub fn keys(&self, service: &str) -> PathBuf {
        self.0.join(format!("{service}.keys"))
    }

    /// What all services write.
    pub fn log(&self) -> PathBuf {
        self.0.join("jetway.log")
    }

    /// The offset of the platform's clock, in seconds.
    pub fn clock(&self) -> PathBuf {
        self.0.join("clock")
    }

    /// A secret file of ours, as the value that it holds; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or holds something else.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map(Some).with_context(|| format!("read {}", path.display()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Writes a secret file of ours, whole or not at all, readable by its owner only.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write<T: Serialize>(&self, name: &str, value: &T) -> anyhow::Result<()> {
        let (path, draft) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let bytes = serde_json::to_vec_pretty(value)?;
        let write = || -> io::Result<()> {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().with_context(|| format!("write {}", path.display()))
    }
}

/// A new password: 32 hexadecimal digits.
///
/// # Errors
///
/// When the system gives no random numbers.
pub fn random_password() -> anyhow::Result<String> {
    let high = rand::rngs::OsRng.try_next_u64().context("random numbers")?;
    let low = rand::rngs::OsRng.try_next_u64().context("random numbers")?;
    Ok(format!("{high:016x}{low:016x}"))
}
