//! JSON text in: the transcoder takes what ProtoJSON takes and nothing else, and makes the same message of it as prost-reflect.

use super::reference::{Refusal, normalised};
use super::subject::{NASTY, Subject, difference, reflected};
use super::tree;

/// Data: the text.
pub fn check(data: &[u8]) {
    if let Ok(text) = str::from_utf8(data) {
        check_text(&NASTY, text);
    }
}

/// Objects and lists beyond this depth are refused.
const DEPTH_MAX: usize = 100;

/// prost takes no message nested deeper than 100, and each level of JSON can be two or three of messages.
const REFERENCE_DEPTH_MAX: usize = 30;

pub fn check_text(subject: &Subject, text: &str) {
    let ours = subject.wire_of(text);
    let Some(tree) = tree::parse(text) else {
        assert!(ours.is_err(), "takes what is not JSON: {text:?}");
        return;
    };
    if tree.depth() > DEPTH_MAX {
        assert!(ours.is_err(), "takes what is too deep: {text:?}");
        return;
    }
    if tree.depth() > REFERENCE_DEPTH_MAX {
        return;
    }
    let json = match normalised(&subject.descriptor, &tree) {
        Ok(json) => json,
        Err(Refusal::Broken(rule)) => {
            assert!(ours.is_err(), "takes {rule}: {text:?}");
            return;
        }
        Err(Refusal::NoReference) => return,
    };
    let theirs = subject.deserialize(&json);
    match (&ours, theirs) {
        (Ok(wire), Ok(theirs)) => {
            let decoded = subject.decode(wire).expect("what the transcoder writes can be decoded");
            match (reflected(&decoded), reflected(&theirs)) {
                (Ok(decoded), Ok(expected)) => {
                    assert_eq!(difference("", &decoded, &expected), None, "{text:?}");
                }
                (decoded, expected) => assert_eq!(decoded.is_ok(), expected.is_ok(), "{text:?}"),
            }
            let canonical = prost::Message::encoded_len(&theirs);
            // prost-reflect takes -0.0 for a default, which has a sign to lose.
            assert!(
                wire.len() <= canonical || text.contains("-0"),
                "{} bytes, not {canonical}: {text:?}",
                wire.len()
            );
        }
        (Ok(_), Err(why)) => panic!("takes what prost-reflect refuses ({why}): {text:?}"),
        (Err(why), Ok(_)) => panic!("refuses what prost-reflect takes ({why}): {text:?}"),
        (Err(_), Err(_)) => {}
    }
}
