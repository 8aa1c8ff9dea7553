//! `postmaster.pid`: what a server says of itself in its data directory, and what is left of one that was killed.
//!
//! Source: `src/include/utils/pidfile.h` of PostgreSQL, which numbers the lines.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Error, POLL};

/// The process id written over that of a server that is gone. No process can have it.
const NOBODY: i32 = i32::MAX;

/// The lines that matter to us.
#[derive(Debug)]
pub(super) struct PidFile {
    /// Line 1.
    pid: i32,
    /// Line 4.
    port: Option<u16>,
    /// Line 8.
    ready: bool,
}

impl PidFile {
    /// Reads the file in `data_dir`; none if there is none, or it has just been made and is still empty.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(super) fn read(data_dir: &Path) -> Result<Option<Self>, Error> {
        let path = path(data_dir);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(Self {
            pid: lines.first()?.parse().ok()?,
            port: lines.get(3).and_then(|line| line.parse().ok()),
            ready: lines.get(7) == Some(&"ready"),
        })
    }

    /// Whether a live server accepts connections on `port`.
    pub(super) fn accepts_on(&self, port: u16) -> bool {
        self.ready && self.port == Some(port) && self.pid != NOBODY
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("postmaster.pid")
}

/// Sees to it that no server runs in `data_dir`, and that none seems to.
///
/// The caller holds the lock of the directory, so a server found there has lost its process and is, or will be, on its way out.
///
/// # Errors
///
/// [`Error::TimedOut`] when it does not end within `limit`, or [`Error::Io`].
pub(super) fn retire(data_dir: &Path, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let mut signalled = false;
    loop {
        let Some(left) = PidFile::read(data_dir)? else { return Ok(()) };
        if !is_server_of(left.pid, data_dir) {
            return disown(data_dir);
        }
        if !signalled {
            // An error means that it ended just now, which the next turn sees.
            let _ = kill(Pid::from_raw(left.pid), Signal::SIGQUIT);
            signalled = true;
        }
        if Instant::now() > deadline {
            return Err(Error::TimedOut { data_dir: data_dir.to_owned(), verb: "stop", limit });
        }
        std::thread::sleep(POLL);
    }
}

/// Writes [`NOBODY`] over the process id, whose number may be another process's by now: PostgreSQL would take that one for the
/// server and refuse to start, and we would take the file for the new server's. The other lines stay, since PostgreSQL finds by
/// them whether a connection of the old server is still alive.
fn disown(data_dir: &Path) -> Result<(), Error> {
    let path = path(data_dir);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    fs::write(&path, format!("{NOBODY}\n{rest}")).map_err(Error::io("write", &path))
}

/// Whether the process `pid` is a server with this data directory, by its command line.
fn is_server_of(pid: i32, data_dir: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_else(|_| {
        // Not Linux, or gone: `ps` knows.
        Command::new("ps")
            .args(["-ww", "-o", "args=", "-p", &pid.to_string()])
            .output()
            .map(|output| output.stdout)
            .unwrap_or_default()
    });
    String::from_utf8_lossy(&line).contains(&*data_dir.to_string_lossy())
}

#[cfg(test)]
mod tests;
