//! The rules of `ARCHITECTURE.md` that neither the compiler nor clippy can hold: which crate may use which, what may be built into
//! the programs, where the delicate calls are, and what every contract file owes its readers.

mod crates;
mod errors;
mod licences;
mod protos;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above this crate")
}

/// What cargo prints, run in the workspace.
fn cargo(arguments: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// Every package that can become part of a program of ours on any platform, once for each version, with the field that cargo calls
/// `field` (`{l}` is the licence).
fn built_packages(edges: &str, field: &str) -> Vec<(String, String, String)> {
    let format = format!("{{p}}|{field}");
    let arguments =
        ["tree", "--workspace", "--locked", "--edges", edges, "--target", "all", "--prefix", "none"];
    let text = cargo(&[&arguments[..], &["--format", &format]].concat());
    let mut packages: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let (package, field) = line.trim_end_matches(" (*)").split_once('|')?;
            let mut words = package.split(' ');
            Some((words.next()?.to_owned(), words.next()?.to_owned(), field.to_owned()))
        })
        .collect();
    packages.sort();
    packages.dedup();
    assert!(packages.len() > 100, "cargo tree printed only {} packages", packages.len());
    packages
}

/// The files under `directory` of the workspace whose names end in `.<extension>`, with their paths from the root. What is built, what
/// is hidden and what is not ours is passed over.
fn files(directory: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("our names are UTF-8");
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "third_party" {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|its| its == extension) {
                let text = fs::read_to_string(&path).expect("readable");
                found.push((path.strip_prefix(root()).expect("below the root").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}
