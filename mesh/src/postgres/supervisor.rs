//! The shell that stands between us and the server; see `supervise.sh`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use super::POLL;
use super::account::Account;

const SCRIPT: &str = include_str!("supervise.sh");

/// A supervised server. Dropping it stops the server at once, without waiting for it.
#[derive(Debug)]
pub(super) struct Supervisor {
    shell: Child,
    /// The pipe whose end means our death.
    orders: ChildStdin,
}

impl Supervisor {
    /// Starts `program` with `arguments` as `account`, printing to `log`; `discard` is deleted after its end.
    pub(super) fn spawn(
        account: &Account,
        program: &Path,
        arguments: &[OsString],
        log: File,
        discard: Option<&Path>,
    ) -> io::Result<Self> {
        let mut shell = account
            .command(Path::new("/bin/sh"))
            .args(["-c", SCRIPT, "supervise.sh"])
            .arg(discard.unwrap_or(Path::new("")))
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Out of the terminal's reach: Ctrl-C is for us, and the database goes last.
            .process_group(0)
            .spawn()?;
        let orders = shell.stdin.take().expect("standard input is piped");
        Ok(Self { shell, orders })
    }

    /// Whether the server has ended.
    pub(super) fn ended(&mut self) -> io::Result<bool> {
        Ok(self.shell.try_wait()?.is_some())
    }

    /// Stops the server the fast way, and after `limit` the immediate way. Returns whether it has ended.
    pub(super) fn stop(mut self, limit: Duration) -> io::Result<bool> {
        // SIGINT is PostgreSQL's fast shutdown. The pipe is broken if the server ended by itself.
        let _ = self.orders.write_all(b"INT\n");
        if self.wait(limit)? {
            return Ok(true);
        }
        let Self { mut shell, orders } = self;
        drop(orders);
        wait(&mut shell, limit)
    }

    fn wait(&mut self, limit: Duration) -> io::Result<bool> {
        wait(&mut self.shell, limit)
    }
}

fn wait(shell: &mut Child, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    while shell.try_wait()?.is_none() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
    Ok(true)
}
