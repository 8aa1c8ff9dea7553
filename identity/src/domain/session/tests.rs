use jiff::{SignedDuration, Timestamp};
use mesh::auth::PrincipalId;

use super::{Lifetimes, Presented, Session, SessionId};

const LIFETIMES: Lifetimes =
    Lifetimes { idle: SignedDuration::from_hours(7 * 24), absolute: SignedDuration::from_hours(30 * 24) };

fn noon() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// Refreshed five times, the last time at noon.
fn session() -> Session {
    let session = Session::begin(
        SessionId::generate(),
        PrincipalId::generate(),
        Vec::new(),
        String::new(),
        LIFETIMES,
        noon(),
    );
    Session { counter: 5, ..session }
}

#[test]
fn the_current_token_is_good_until_the_session_idles_out() {
    let end = noon() + LIFETIMES.idle;
    assert_eq!(session().presented(5, noon()), Presented::Current);
    assert_eq!(session().presented(5, end - seconds(1)), Presented::Current);
    assert_eq!(session().presented(5, end), Presented::Void);
}

#[test]
fn no_refresh_outlives_the_absolute_end() {
    let end = noon() + LIFETIMES.absolute;
    let busy = Session { idle_expires_at: end + seconds(3600), ..session() };
    assert_eq!(busy.presented(5, end - seconds(1)), Presented::Current);
    assert_eq!(busy.presented(5, end), Presented::Void);
}

#[test]
fn the_token_before_the_current_one_is_forgiven_for_ten_seconds() {
    assert_eq!(session().presented(4, noon()), Presented::JustSpent);
    assert_eq!(session().presented(4, noon() + seconds(10)), Presented::JustSpent);
    assert_eq!(session().presented(4, noon() + seconds(11)), Presented::Replayed);
    // The other refresh read the clock a little later.
    assert_eq!(session().presented(4, noon() - seconds(1)), Presented::JustSpent);
}

#[test]
fn older_tokens_are_replays_at_once() {
    assert_eq!(session().presented(3, noon()), Presented::Replayed);
    assert_eq!(session().presented(0, noon()), Presented::Replayed);
}

#[test]
fn a_token_that_was_never_given_out_ends_nothing() {
    assert_eq!(session().presented(6, noon()), Presented::Void);
    assert_eq!(session().presented(-1, noon()), Presented::Void);
    assert_eq!(session().presented(i64::MAX, noon()), Presented::Void);
    assert_eq!(session().presented(i64::MIN, noon()), Presented::Void);
}

#[test]
fn nothing_counts_after_the_end() {
    let revoked = Session { revoked_at: Some(noon()), ..session() };
    for counter in 0..7 {
        assert_eq!(revoked.presented(counter, noon()), Presented::Void);
    }
}
