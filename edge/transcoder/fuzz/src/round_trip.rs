//! There and back: what the transcoder prints, it reads, and prints the same again.

use super::reference::as_it_is;
use super::subject::{NASTY, Subject, difference};
use super::tree::parse;

/// Data: wire bytes.
pub fn check(data: &[u8]) {
    check_wire(&NASTY, data);
}

pub fn check_wire(subject: &Subject, wire: &[u8]) {
    let Ok(first) = subject.json_of(wire) else {
        assert!(
            subject.verbose_json_of(wire).is_err(),
            "prints with defaults what it does not print without: {wire:x?}"
        );
        return;
    };
    let Some(again) = read_back(subject, &first) else { return };
    let second = subject.json_of(&again).unwrap_or_else(|why| panic!("{why}: {first}"));
    assert_eq!(between(&first, &second), None, "{first}");
    let full =
        subject.verbose_json_of(wire).unwrap_or_else(|why| panic!("only without defaults: {why}: {first}"));
    let Some(again) = read_back(subject, &full) else { return };
    let third = subject.json_of(&again).unwrap_or_else(|why| panic!("{why}: {full}"));
    assert_eq!(between(&first, &third), None, "{full}");
}

/// By value: a message that was merged has its maps in any order.
fn between(first: &str, second: &str) -> Option<String> {
    let json = |text| parse(text).and_then(|tree| as_it_is(&tree).ok()).expect("JSON without a key twice");
    difference("", &json(first), &json(second))
}

fn read_back(subject: &Subject, text: &str) -> Option<Vec<u8>> {
    match subject.wire_of(text) {
        Ok(wire) => Some(wire),
        // A reply may hold what a request may not: an Any of an unknown type, and more levels.
        Err(why) if why.contains("is not a type known here") || why.contains("nested too deep") => None,
        Err(why) => panic!("does not read what it prints ({why}): {text}"),
    }
}
