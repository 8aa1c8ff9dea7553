use std::path::Path;

use super::{PidFile, disown, retire};

const READY: &str = "4711\n/data\n1790000000\n54321\n\n127.0.0.1\n    123456    98304\nready   \n";

#[test]
fn a_ready_server_accepts_on_its_own_port_only() {
    let pid_file = PidFile::parse(READY).expect("a whole file");

    assert!(pid_file.accepts_on(54321));
    assert!(!pid_file.accepts_on(54322));
}

#[test]
fn a_starting_server_and_an_unfinished_file_do_not_accept() {
    let starting = PidFile::parse(&READY.replace("ready", "starting")).expect("a whole file");
    let unfinished = PidFile::parse("4711\n/data\n").expect("a pid is enough");

    assert!(!starting.accepts_on(54321));
    assert!(!unfinished.accepts_on(54321));
    assert!(PidFile::parse("").is_none());
}

#[test]
fn a_disowned_file_keeps_all_lines_but_the_first_and_no_longer_accepts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("postmaster.pid"), READY).expect("writable");

    disown(dir.path()).expect("disowned");

    let text = std::fs::read_to_string(dir.path().join("postmaster.pid")).expect("still there");
    assert_eq!(text.split_once('\n').expect("lines").1, READY.split_once('\n').expect("lines").1);
    assert!(!PidFile::parse(&text).expect("a whole file").accepts_on(54321));
}

#[test]
fn a_process_that_is_no_server_of_the_directory_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let own = std::process::id().to_string();
    std::fs::write(dir.path().join("postmaster.pid"), READY.replace("4711", &own)).expect("writable");

    retire(dir.path(), std::time::Duration::from_secs(5)).expect("nothing to wait for");

    // Still here to read it: the signal would have ended this process.
    let text = std::fs::read_to_string(Path::new(dir.path()).join("postmaster.pid")).expect("still there");
    assert!(!text.starts_with(&own), "{text}");
}
