use super::*;

const NOW: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

/// Claims of the token of a session, of a user at a version, issued at [`NOW`] for a quarter of an hour.
fn claims(sid: u128, sub: u128, sv: i64) -> Claims {
    Claims {
        sub: Uuid::from_u128(sub),
        sid: Uuid::from_u128(sid),
        jti: Uuid::from_u128(7),
        iat: NOW,
        nbf: NOW,
        exp: NOW + 900,
        auth_time: NOW,
        sv,
        roles: Vec::new(),
    }
}

fn session(sid: u128) -> Revoked {
    Revoked::Session(Uuid::from_u128(sid))
}

fn version(sub: u128, sv: i64) -> Revoked {
    Revoked::UserVersion { user: Uuid::from_u128(sub), sv }
}

fn entry(what: Revoked, expires_at: i64) -> Revocation {
    Revocation { seq: 1, what, expires_at }
}

/// What is known after these were revoked at [`NOW`].
fn known(what: impl IntoIterator<Item = Revoked>) -> Revocations {
    let revocations = Revocations::default();
    let entries: Vec<_> = what.into_iter().map(|what| entry(what, NOW + ENTRY_LIFE_SECONDS)).collect();
    revocations.add(&entries, at(NOW));
    revocations
}

#[test]
fn a_session_that_was_revoked_is_over_and_every_other_goes_on() {
    let revocations = known([session(1)]);

    assert_eq!(revocations.check(&claims(1, 10, 1), "k"), Err(TokenError::Revoked));
    assert_eq!(revocations.check(&claims(2, 10, 1), "k"), Ok(()));
}

#[test]
fn a_token_from_before_a_change_of_rights_is_stale_and_one_from_after_is_not() {
    // Whatever the order in which they come.
    let revocations = known([version(10, 3), version(10, 2)]);

    assert_eq!(revocations.check(&claims(1, 10, 2), "k"), Err(TokenError::Stale));
    assert_eq!(revocations.check(&claims(1, 10, 3), "k"), Ok(()));
    assert_eq!(revocations.check(&claims(1, 11, 1), "k"), Ok(()));
}

#[test]
fn every_token_of_a_revoked_key_is_refused() {
    let revocations = known([Revoked::Key("bad".to_owned())]);

    assert_eq!(revocations.check(&claims(1, 10, 1), "bad"), Err(TokenError::Revoked));
    assert_eq!(revocations.check(&claims(1, 10, 1), "good"), Ok(()));
}

#[test]
fn what_has_ended_is_forgotten() {
    let revocations = known([session(1), version(10, 2), Revoked::Key("bad".to_owned())]);
    let later = NOW + ENTRY_LIFE_SECONDS + FORGET_SECONDS + 1;

    revocations.heard(at(later));

    let left = revocations.0.known.load();
    assert_eq!((left.sessions.len(), left.users.len(), left.keys.len()), (0, 0, 0));
}

#[test]
fn what_there_is_no_room_for_makes_tokens_as_old_stale_and_lets_none_through() {
    let count = u128::try_from(ENTRIES_MAX).expect("a small number") + 1;
    let revocations = Revocations::default();
    let entries: Vec<_> = (0..count)
        .map(|number| {
            // The first three ended their sessions a second before the others did.
            let end = NOW + ENTRY_LIFE_SECONDS - i64::from(number < 3);
            entry(session(number), end)
        })
        .collect();

    revocations.add(&entries, at(NOW));

    assert!(revocations.0.known.load().sessions.len() <= ENTRIES_MAX);
    for number in [0, 1, count - 1] {
        assert!(revocations.check(&claims(number, 10, 1), "k").is_err(), "{number} is let through");
    }
    // A session that nobody revoked has to refresh once; the token it gets then is good.
    assert_eq!(revocations.check(&claims(count, 10, 1), "k"), Err(TokenError::Stale));
    let issued = NOW + LEEWAY_SECONDS + 1;
    let refreshed = Claims { iat: issued, nbf: issued, exp: issued + 900, ..claims(count, 10, 1) };
    assert_eq!(revocations.check(&refreshed, "k"), Ok(()));
}

/// A moment so long ago.
fn ago(seconds: u64) -> Instant {
    Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the machine runs for longer")
}

#[test]
fn what_is_known_is_stale_before_the_first_heartbeat_and_ten_seconds_after_the_last() {
    let revocations = Revocations::default();
    assert!(revocations.is_stale(), "nothing was heard yet");
    assert_eq!(revocations.age(), None);

    revocations.heard_at(ago(9), at(NOW));
    assert!(!revocations.is_stale());
    revocations.heard_at(ago(10), at(NOW));
    assert!(revocations.is_stale());
    revocations.heard(at(NOW));
    assert!(!revocations.is_stale(), "heard again");
}
