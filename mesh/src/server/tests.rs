use super::*;

fn parse_timeout(text: &str) -> Option<Duration> {
    let value = HeaderValue::from_bytes(text.as_bytes()).expect("a header may hold it");
    timeout::of(&HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), value)]))
}

#[test]
fn a_timeout_is_at_most_eight_digits_and_a_unit() {
    let right = [
        ("1H", Duration::from_hours(1)),
        ("2M", Duration::from_mins(2)),
        ("3S", Duration::from_secs(3)),
        ("4m", Duration::from_millis(4)),
        ("5u", Duration::from_micros(5)),
        ("99999999n", Duration::from_nanos(99_999_999)),
        ("0S", Duration::ZERO),
    ];
    for (text, expected) in right {
        assert_eq!(parse_timeout(text), Some(expected), "{text}");
    }
    for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "100000000S", " 1S", "1S ", "1é"] {
        assert_eq!(parse_timeout(text), None, "{text}");
    }
}

#[test]
fn nobody_gets_longer_than_the_methods_own_ceiling() {
    let method = &proto::policy::TABLE[0];
    let with = |text: &'static str| {
        HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-timeout"),
            HeaderValue::from_static(text),
        )])
    };

    assert_eq!(timeout_of(method.path, &HeaderMap::new()), method.timeout);
    assert_eq!(timeout_of(method.path, &with("9H")), method.timeout);
    assert_eq!(timeout_of(method.path, &with("nonsense")), method.timeout);
    assert_eq!(timeout_of(method.path, &with("7m")), Duration::from_millis(7));
    assert_eq!(timeout_of("/unknown", &with("9H")), TIMEOUT_DEFAULT);
}

#[test]
fn a_request_id_is_taken_over_when_it_is_a_plain_one() {
    let taken = |id: &HeaderValue| {
        incoming(
            &HeaderMap::from_iter([(http::HeaderName::from_static(REQUEST_ID), id.clone())]),
            TIMEOUT_DEFAULT,
        )
        .request_id
        .as_bytes()
            == id.as_bytes()
    };
    let text = |text: &str| HeaderValue::from_str(text).expect("a value");

    assert!(taken(&text("abc")) && taken(&text(&"x".repeat(128))));
    assert!(!taken(&text("")) && !taken(&text(&"x".repeat(129))));
    assert!(!taken(&HeaderValue::from_bytes(b"\xff").expect("a value")));
}
