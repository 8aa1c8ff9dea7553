//! What the fuzz targets check, over their corpus and over random bytes.

use std::path::Path;

use proptest::prelude::*;

use crate::fuzz;

/// Runs `check` over the corpus of a target, and names the input that it panics over.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the target has a corpus") {
        let path = entry.expect("readable").path();
        let data = std::fs::read(&path).expect("readable");
        if let Err(panic) = std::panic::catch_unwind(|| check(&data)) {
            eprintln!("with {}", path.display());
            std::panic::resume_unwind(panic);
        }
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn the_corpus_of_json_in_holds() {
    replay("json_in", fuzz::json_in::check);
}

#[test]
fn the_corpus_of_wire_in_holds() {
    replay("wire_in", fuzz::wire_in::check);
}

#[test]
fn the_corpus_of_round_trip_holds() {
    replay("round_trip", fuzz::round_trip::check);
}

#[test]
fn the_corpus_of_random_descriptors_holds() {
    replay("random_descriptors", fuzz::random_descriptors::check);
}

#[test]
fn the_corpus_of_paths_holds() {
    replay("paths", fuzz::paths::check);
}

#[test]
fn the_corpus_of_headers_holds() {
    replay("headers", fuzz::headers::check);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn random_messages_of_random_descriptors_are_the_same_for_prost_reflect(
        bytes in proptest::collection::vec(any::<u8>(), 200..3000),
    ) {
        fuzz::random_descriptors::check(&bytes);
    }

    #[test]
    fn random_messages_of_every_kind_of_field_are_the_same_for_prost_reflect(
        bytes in proptest::collection::vec(any::<u8>(), 50..2000),
    ) {
        let subject = &*fuzz::subject::NASTY;
        let mut source = arbitrary::Unstructured::new(&bytes);
        let message = fuzz::message::random(&subject.descriptor, &mut source, 0).expect("zeros follow the last byte");
        let wire = prost::Message::encode_to_vec(&message);
        fuzz::wire_in::check_wire(subject, &wire);
        fuzz::round_trip::check_wire(subject, &wire);
        if let Ok(json) = fuzz::subject::reflected(&message) {
            fuzz::json_in::check_text(subject, &json.to_string());
        }
    }

    #[test]
    fn a_message_that_breaks_off_into_noise_is_refused_or_the_same_for_prost_reflect(
        bytes in proptest::collection::vec(any::<u8>(), 50..1000),
        noise in proptest::collection::vec(any::<u8>(), 0..40),
        at in any::<prop::sample::Index>(),
    ) {
        let subject = &*fuzz::subject::NASTY;
        let mut source = arbitrary::Unstructured::new(&bytes);
        let message = fuzz::message::random(&subject.descriptor, &mut source, 0).expect("zeros follow the last byte");
        let mut wire = prost::Message::encode_to_vec(&message);
        wire.truncate(at.index(wire.len() + 1));
        wire.extend_from_slice(&noise);
        fuzz::wire_in::check_wire(subject, &wire);
        fuzz::round_trip::check_wire(subject, &wire);
    }
}
