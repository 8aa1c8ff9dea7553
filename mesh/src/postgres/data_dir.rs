//! The data directory and our files beside it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rand::distr::{Alphanumeric, SampleString as _};
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::NamedTempFile;

use super::account::Account;
use super::{ADMIN, Binaries, Error};

/// Letters and digits in the superuser's password: more than 190 bits.
const PASSWORD_LENGTH: usize = 32;

/// The file of ours beside the data directory `d` that is called `d.<what>`.
pub(super) fn beside(data_dir: &Path, what: &str) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// Makes the parents of `data_dir` and returns its absolute path, free of symbolic links above it: the server's command line and
/// `postmaster.pid` are compared with it.
pub(super) fn prepare_parent(data_dir: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(data_dir).map_err(Error::io("find", data_dir))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Error::NotACluster { data_dir: absolute });
    };
    fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
    Ok(parent.canonicalize().map_err(Error::io("find", parent))?.join(name))
}

/// Takes the lock that says who runs the cluster. The kernel gives it back when we die.
pub(super) fn lock(data_dir: &Path) -> Result<File, Error> {
    let path = beside(data_dir, "lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { data_dir: data_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
    }
}

/// Deletes the cluster and our files beside it, except the lock, which its holder still holds.
pub(super) fn delete(data_dir: &Path) -> Result<(), Error> {
    let gone = |outcome: io::Result<()>| match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    };
    gone(fs::remove_dir_all(data_dir)).map_err(Error::io("delete", data_dir))?;
    for what in ["password", "port"] {
        let path = beside(data_dir, what);
        gone(fs::remove_file(&path)).map_err(Error::io("delete", &path))?;
    }
    Ok(())
}

/// Whether there is a cluster in `data_dir` that `binaries` can run; false if there is nothing.
pub(super) fn holds_cluster(data_dir: &Path, binaries: &Binaries) -> Result<bool, Error> {
    let version_file = data_dir.join("PG_VERSION");
    match fs::read_to_string(&version_file) {
        Ok(found) if found.trim() == binaries.major().to_string() => Ok(true),
        Ok(found) => Err(Error::OtherVersion {
            data_dir: data_dir.to_owned(),
            found: found.trim().to_owned(),
            binaries: binaries.clone(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match fs::read_dir(data_dir).map(Iterator::count) {
                Ok(0) => Ok(false),
                Ok(_) => Err(Error::NotACluster { data_dir: data_dir.to_owned() }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(Error::io("read directory", data_dir)(error)),
            }
        }
        Err(error) => Err(Error::io("read", &version_file)(error)),
    }
}

/// Makes a cluster with a new password. It is made beside its place and then renamed, so one that is cut short is never taken for
/// whole.
pub(super) fn initialise(
    data_dir: &Path,
    binaries: &Binaries,
    account: &Account,
) -> Result<SecretString, Error> {
    let unfinished = beside(data_dir, "new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(Error::io("delete", &unfinished))?;
    }
    fs::create_dir(&unfinished).map_err(Error::io("create directory", &unfinished))?;
    account.give(&unfinished)?;

    let password = SecretString::from(Alphanumeric.sample_string(&mut rand::rng(), PASSWORD_LENGTH));
    // `initdb` runs as another user than we do, so it gets a file of its own, deleted at the end of this function.
    let mut handed_over = NamedTempFile::new_in(parent_of(&unfinished))
        .map_err(Error::io("create a file beside", &unfinished))?;
    handed_over
        .write_all(password.expose_secret().as_bytes())
        .map_err(Error::io("write", handed_over.path()))?;
    account.give(handed_over.path())?;

    let initdb = binaries.program("initdb");
    let output = account
        .command(&initdb)
        .arg("--pgdata")
        .arg(&unfinished)
        .arg("--pwfile")
        .arg(handed_over.path())
        .args(["--username", ADMIN, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .arg(format!("--lc-ctype={LC_CTYPE}"))
        .output()
        .map_err(Error::io("run", &initdb))?;
    if !output.status.success() {
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        return Err(Error::Initdb { status: output.status, output: text });
    }
    // The password first: a cluster without one is of no use, and a password without a cluster is replaced.
    write_atomically(&beside(data_dir, "password"), password.expose_secret())?;
    fs::rename(&unfinished, data_dir).map_err(Error::io("rename", &unfinished))?;
    Ok(password)
}

/// Text is ordered by its bytes, the same on every machine; upper and lower case are known for all of Unicode.
const LC_CTYPE: &str = if cfg!(target_os = "macos") { "en_US.UTF-8" } else { "C.UTF-8" };

fn parent_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

pub(super) fn read_password(data_dir: &Path) -> Result<SecretString, Error> {
    let file = beside(data_dir, "password");
    match fs::read_to_string(&file) {
        Ok(password) => Ok(SecretString::from(password)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::PasswordMissing { data_dir: data_dir.to_owned(), file })
        }
        Err(error) => Err(Error::io("read", &file)(error)),
    }
}

/// Replaces the file at `path`, mode 0600, in one step.
pub(super) fn write_atomically(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let mut file = NamedTempFile::new_in(parent_of(path))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}
