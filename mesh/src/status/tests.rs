use super::*;

#[test]
fn a_stored_status_is_the_same_when_it_is_read_again() {
    let statuses = [
        Refusal::NotFound { resource: "bookings/7".to_owned() }.status(
            "bookings",
            "BOOKING_NOT_FOUND",
            "no booking 7",
        ),
        Refusal::Aborted.status_with_retry("bookings", "LOST_RACE", "lost", Duration::from_secs(2)),
        invalid_fields("mesh", "FIELD_INVALID", &[("items".to_owned(), "must not be empty".to_owned())]),
        Code::Unknown.into_status(),
    ];
    for status in statuses {
        let read = decode(&encode(&status)).expect("what was encoded");

        assert_eq!((read.code(), read.message()), (status.code(), status.message()));
        assert_eq!(reason(&read), reason(&status));
        let (read, stored) = (read.get_error_details(), status.get_error_details());
        assert_eq!(format!("{read:?}"), format!("{stored:?}"));
    }
}

trait IntoStatus {
    fn into_status(self) -> Status;
}

impl IntoStatus for Code {
    /// A status without details, as another implementation may send one.
    #[expect(clippy::disallowed_methods, reason = "a status that is not ours")]
    fn into_status(self) -> Status {
        Status::new(self, "bare")
    }
}

#[test]
fn bytes_that_are_no_status_are_refused() {
    decode(&[0x0a, 100]).expect_err("a length without content");
}

#[test]
fn every_refusal_says_its_domain_and_reason() {
    let wait = Duration::from_secs(3);
    let resource = || "bookings/7".to_owned();
    let refusals = [
        (Refusal::InvalidArgument { field: "items[0].seat_number".to_owned() }, Code::InvalidArgument),
        (Refusal::Unauthenticated, Code::Unauthenticated),
        (Refusal::PermissionDenied, Code::PermissionDenied),
        (Refusal::NotFound { resource: resource() }, Code::NotFound),
        (Refusal::AlreadyExists { resource: resource() }, Code::AlreadyExists),
        (Refusal::FailedPrecondition { subject: resource() }, Code::FailedPrecondition),
        (Refusal::Aborted, Code::Aborted),
        (Refusal::ResourceExhausted { retry_after: wait }, Code::ResourceExhausted),
        (Refusal::Unavailable { retry_after: wait }, Code::Unavailable),
        (Refusal::DeadlineExceeded, Code::DeadlineExceeded),
        (Refusal::Unimplemented, Code::Unimplemented),
        (Refusal::Internal, Code::Internal),
    ];
    for (refusal, code) in refusals {
        let status = refusal.clone().status("bookings", "A_REASON", "a message");
        let details = status.get_error_details();

        assert_eq!((status.code(), status.message()), (code, "a message"));
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("bookings", "A_REASON"));
        let waits = matches!(refusal, Refusal::ResourceExhausted { .. } | Refusal::Unavailable { .. });
        assert_eq!(
            details.retry_info().and_then(|info| info.retry_delay),
            waits.then_some(wait),
            "{refusal:?}"
        );
        let named = matches!(refusal, Refusal::NotFound { .. } | Refusal::AlreadyExists { .. });
        let info =
            details.resource_info().map(|info| (info.resource_type.as_str(), info.resource_name.as_str()));
        assert_eq!(info, named.then_some(("bookings", "bookings/7")), "{refusal:?}");
        let field = details.bad_request().map(|bad| bad.field_violations[0].field.as_str());
        assert_eq!(field.is_some(), code == Code::InvalidArgument, "{refusal:?}");
        assert_eq!(details.precondition_failure().is_some(), code == Code::FailedPrecondition, "{refusal:?}");
    }
}

#[test]
fn a_status_without_details_has_no_reason() {
    assert_eq!(reason(&Code::NotFound.into_status()), "");
}
