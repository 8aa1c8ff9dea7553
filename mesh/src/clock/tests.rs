use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[test]
fn a_stopped_clock_stands_until_it_is_moved_for_all_its_clones() {
    let clock = Clock::stopped(at("2026-11-21T08:00:00.123456789Z"));
    let clone = clock.clone();
    assert_eq!(clock.now(), at("2026-11-21T08:00:00.123456Z"), "whole microseconds");

    clock.advance(SignedDuration::from_secs(90));

    assert_eq!(
        (clock.now(), clone.now()),
        (at("2026-11-21T08:01:30.123456Z"), at("2026-11-21T08:01:30.123456Z"))
    );
}

#[test]
fn system_time_is_moved_by_the_offset_file_alone() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let clock = Clock::system(Some(file.path().to_owned()));
    let offset = |text: &str| {
        std::fs::write(file.path(), text).expect("written");
        clock.now().duration_since(Clock::system_now()).as_secs_f64().round()
    };

    for (text, seconds) in [("3600\n", 3600.0), ("-86400", -86400.0), ("", 0.0), ("soon", 0.0)] {
        assert!((offset(text) - seconds).abs() < 2.0, "{text:?}");
    }
    assert_eq!((offset("9223372036854775807"), clock.now()).1, Timestamp::MAX, "no overflow");
    clock.advance(SignedDuration::from_hours(1));
    assert!(offset("0").abs() < 2.0, "nobody moves system time");
}

#[test]
fn a_time_that_protobuf_cannot_hold_is_none() {
    let proto = |seconds, nanos| from_proto(prost_types::Timestamp { seconds, nanos });

    assert_eq!(proto(0, 1_999), Some(at("1970-01-01T00:00:00.000001Z")));
    assert_eq!(from_proto(to_proto(at("2026-11-21T08:00:00.5Z"))), Some(at("2026-11-21T08:00:00.5Z")));
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, 1_000_000_000), (0, i32::MIN)] {
        assert_eq!(proto(seconds, nanos), None, "{seconds} {nanos}");
    }
}
