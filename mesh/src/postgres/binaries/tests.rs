use std::fs;

use super::{Binaries, newest_first, parse_major};

#[test]
fn the_major_version_is_read_from_what_servers_print() {
    assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
    assert_eq!(parse_major("postgres (PostgreSQL) 18rc1\n"), Some(18));
    assert_eq!(parse_major("postgres (PostgreSQL) 17\n"), Some(17));
    assert_eq!(parse_major("command not found\n"), None);
}

#[test]
fn versions_are_ordered_by_number_and_other_directories_are_passed_over() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["9", "15", "18", "common", "16beta"] {
        fs::create_dir(dir.path().join(name)).expect("writable");
    }

    let found = newest_first(dir.path(), "", "bin");

    assert_eq!(found, ["18", "15", "9"].map(|name| dir.path().join(name).join("bin")));
}

#[test]
fn a_directory_without_the_programs_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary directory");

    assert_eq!(Binaries::at(dir.path()), Err("no `initdb`".to_owned()));
}
