//! The README's tour, command by command, gives what the README shows.

use std::{fmt::Write as _, path::Path, process::Command};

use crate::harness::{Up, data_dir};

/// The heading of the part that is run.
const TOUR: &str = "## A five-minute tour";

/// The address that the README has, for the one that the test has.
const ADDRESS: &str = "http://127.0.0.1:8080";

#[test]
fn the_readmes_tour_gives_what_the_readme_shows() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"))
        .expect("there is a README");
    let steps = steps(&readme);
    assert!(steps.len() >= 8, "only {} steps in the tour", steps.len());
    let data = data_dir();
    let up = Up::start(data.path());

    // One shell for all commands, as one reader has it: variables live on. A line of its own ends each command's output.
    let mut script = String::from("set -u\n");
    for (index, step) in steps.iter().enumerate() {
        script.push_str(&step.command.replace(ADDRESS, &up.url));
        let _ = writeln!(script, "\nprintf '\\n=== %s\\n' {index}");
    }
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut rest = said.as_str();
    for (index, step) in steps.iter().enumerate() {
        let marker = format!("\n=== {index}\n");
        let (shown, after) = rest.split_once(&marker).unwrap_or_else(|| {
            panic!("the tour ended at step {index}:\n{said}\n{}", String::from_utf8_lossy(&output.stderr))
        });
        assert!(
            is_shown(&step.output, shown),
            "step {index}\n$ {}\nsays:\n{shown}\nand the README shows:\n{}",
            step.command,
            step.output
        );
        rest = after;
    }
}

struct Step {
    command: String,
    output: String,
}

/// Each `sh` block of the tour, with the `json` or `text` block that follows it at once as its output.
fn steps(readme: &str) -> Vec<Step> {
    let start = readme.find(TOUR).expect("the README has a tour");
    let tour = &readme[start + TOUR.len()..];
    let tour = &tour[..tour.find("\n## ").unwrap_or(tour.len())];
    let mut steps: Vec<Step> = Vec::new();
    for block in tour.split("```").skip(1).step_by(2) {
        let (language, content) = block.split_once('\n').expect("a fence has a line of its own");
        match language {
            "sh" => steps.push(Step { command: content.trim_end().to_owned(), output: String::new() }),
            "json" | "text" => {
                content.trim().clone_into(&mut steps.last_mut().expect("output follows a command").output);
            }
            other => panic!("a block of the tour is `{other}`, not sh, json or text"),
        }
    }
    steps
}

/// Whether `actual` is what the README shows: the same but for white space, and `…` stands for anything.
fn is_shown(shown: &str, actual: &str) -> bool {
    let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let (shown, actual) = (squeeze(shown), squeeze(actual));
    let parts: Vec<_> = shown.split('…').collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if parts.len() == 1 {
        return shown == actual;
    }
    let Some(mut rest) = actual.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[test]
fn an_ellipsis_stands_for_anything_and_nothing_else_does() {
    assert!(is_shown("{\"a\": …}", "{ \"a\":1}"));
    assert!(is_shown("{\"a\":…,\"b\":2}", "{\"a\":1,\"b\":2}"));
    assert!(!is_shown("{\"a\":…,\"b\":2}", "{\"a\":1,\"b\":3}"));
    assert!(!is_shown("{}", "{\"a\":1}"));
}
