//! Who runs the server.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, fchown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User};

use super::Error;

/// The users that root runs a new cluster as, the first that exists.
const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// The user a server runs as.
#[derive(Debug)]
pub(super) enum Account {
    /// Whoever we are.
    Own,
    /// We are root, and the server is run by this user.
    Other { uid: Uid, gid: Gid, name: String },
}

impl Account {
    /// The user to run the cluster in `data_dir` as; the directory need not exist.
    ///
    /// # Errors
    ///
    /// [`Error::OtherOwner`], [`Error::NoAccount`] or [`Error::Io`].
    pub(super) fn for_data_dir(data_dir: &Path) -> Result<Self, Error> {
        let owner = match fs::metadata(data_dir) {
            Ok(metadata) => Some((metadata.uid(), metadata.gid())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("read", data_dir)(error)),
        };
        let own = Uid::effective();
        if !own.is_root() {
            return match owner {
                Some((uid, _)) if uid != own.as_raw() => {
                    Err(Error::OtherOwner { data_dir: data_dir.to_owned(), owner: uid })
                }
                Some(_) | None => Ok(Self::Own),
            };
        }
        if let Some((uid, gid)) = owner.filter(|(uid, _)| *uid != 0) {
            return Ok(Self::Other { uid: uid.into(), gid: gid.into(), name: uid.to_string() });
        }
        STAND_INS
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Other { uid: user.uid, gid: user.gid, name: user.name })
            .ok_or(Error::NoAccount)
    }

    /// A command that runs `program` as this user, in `/`, with an environment that holds nothing of ours.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C");
        match self {
            Self::Own => {}
            // The standard library also drops root's further groups.
            Self::Other { uid, gid, .. } => {
                command.uid(uid.as_raw()).gid(gid.as_raw());
            }
        }
        command
    }

    /// Makes `path` this user's, and closed to everyone else.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(Error::io("change the mode of", path))?;
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
                .map_err(Error::io("change the owner of", path)),
        }
    }

    /// Makes an open file this user's.
    pub(super) fn give_file(&self, file: &File) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other { uid, gid, .. } => fchown(file, Some(uid.as_raw()), Some(gid.as_raw())),
        }
    }

    /// Checks that this user can get to the directory `wanted`, by going there.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] or [`Error::Io`].
    pub(super) fn check_reach(&self, wanted: &Path) -> Result<(), Error> {
        let name = match self {
            Self::Own => return Ok(()),
            Self::Other { name, .. } => name,
        };
        let mut way: Vec<&Path> = wanted.ancestors().collect();
        way.reverse();
        let shell = Path::new("/bin/sh");
        let output = self
            .command(shell)
            .args(["-c", r#"for d do cd "$d" 2>/dev/null || { printf %s "$d"; exit; }; done"#, "sh"])
            .args(way)
            .output()
            .map_err(Error::io("run", shell))?;
        if output.stdout.is_empty() {
            return Ok(());
        }
        Err(Error::Unreachable {
            wanted: wanted.to_owned(),
            closed: PathBuf::from(std::ffi::OsString::from_vec(output.stdout)),
            account: name.clone(),
        })
    }
}
