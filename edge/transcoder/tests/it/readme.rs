//! The README is held to the truth.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const README: &str = include_str!("../../README.md");
const CRATE_DOCUMENTATION: &str = include_str!("../../src/lib.rs");

/// The rows of the table under `heading`, as cells, without its head.
fn rows<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let (_, after) = text.split_once(heading).unwrap_or_else(|| panic!("no heading {heading}"));
    let mut rows: Vec<Vec<&str>> = Vec::new();
    for line in after.lines().map(|line| line.trim_start_matches("//! ")) {
        match line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) {
            Some(row) => rows.push(row.split(" | ").collect()),
            None if rows.is_empty() => {}
            None => break,
        }
    }
    assert!(rows.len() > 2, "a head, a rule and rows under {heading}");
    rows.split_off(2)
}

/// The names between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// The names of the tests in the sources of a folder, and of what is not a test: what matters is that none is missing.
fn tests(folder: &str) -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for attributed in text.split("test]\n").chain(text.split("test(")).skip(1) {
            let after = attributed.split_once("fn ").map_or("", |(_, after)| after);
            names.insert(after.split('(').next().unwrap_or_default().to_owned());
        }
    }
    names
}

/// Every section of the comparison, with its rules.
const SECTIONS: [&str; 12] = [
    "### Input",
    "### Routing",
    "### Query",
    "### JSON in",
    "### JSON out",
    "### HttpBody and PATCH",
    "### Streams",
    "### Errors",
    "### Metadata",
    "### Other protocols",
    "### OpenAPI",
    "### HTTP",
];

#[test]
fn every_rule_of_the_readme_has_a_test_that_exists() {
    let library = &tests("tests") | &tests("src");
    // The library owns no connection. What is a rule for the listener or the gateway around it is tested there.
    let gateway = tests("../tests/it");
    let listener = tests("../../mesh/tests/it");
    for section in SECTIONS {
        for row in rows(README, section) {
            let &[rule, _, _, _, test] = row.as_slice() else { panic!("five cells: {row:?}") };
            let (home, names) = match test.split_once(": ") {
                Some(("gateway", names)) => (&gateway, names),
                Some(("listener", names)) => (&listener, names),
                Some(_) | None => (&library, test),
            };
            assert!(quoted(names).next().is_some(), "no test: {rule}");
            for name in quoted(names) {
                assert!(home.contains(name), "no test `{name}`: {rule}");
            }
        }
    }
}

#[test]
fn the_reasons_of_errors_in_the_readme_are_those_of_the_crate_documentation() {
    let documented = rows(CRATE_DOCUMENTATION, "# Errors");
    assert_eq!(rows(README, "## Reasons of errors"), documented);
    // And those are the ones that the sources have.
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let made: BTreeSet<&str> =
        text.split("Self::own(").skip(1).filter_map(|call| call.split('"').nth(1)).collect();
    let told: BTreeSet<&str> = documented.iter().flat_map(|row| quoted(row[0])).collect();
    assert_eq!(made, told);
}
