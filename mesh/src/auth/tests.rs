use proto::policy::TABLE;
use tonic::Code;

use super::*;

/// Claims of a user with these roles who signed in `seconds` ago.
fn claims(roles: &[&str], seconds: i64) -> Claims {
    let now = crate::clock::Clock::system_now().as_second();
    Claims {
        sub: uuid::Uuid::from_u128(1),
        sid: uuid::Uuid::from_u128(2),
        jti: uuid::Uuid::from_u128(3),
        iat: now,
        nbf: now,
        exp: now + 900,
        auth_time: now - seconds,
        sv: 1,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    }
}

fn outcome(access: &Access, claims: Option<&Claims>, workload: Option<&str>) -> Code {
    check(access, claims, workload).map_or_else(|status| status.code(), |()| Code::Ok)
}

const NOBODY: Access = Access { public: false, signed_in: false, roles: &[], workloads: &[], step_up: false };

#[test]
fn every_method_that_is_not_public_refuses_a_call_without_credentials() {
    let (mut public, mut refused) = (0, 0);
    for Method { path, access, .. } in TABLE {
        let wants_user = access.signed_in || !access.roles.is_empty();
        let expected = match (access.public, wants_user) {
            (true, _) => Code::Ok,
            (false, true) => Code::Unauthenticated,
            (false, false) => Code::PermissionDenied,
        };
        for workload in [None, Some("nobody")] {
            assert_eq!(outcome(access, None, workload), expected, "{path}");
        }
        if access.public { public += 1 } else { refused += 1 }
    }
    assert_eq!(public + refused, TABLE.len());
    assert!(public >= 4 && refused >= 40, "{public} public, {refused} not: the table is the platform's");
}

#[test]
fn over_every_method_a_user_is_admitted_by_its_classes_and_nothing_else() {
    let (stranger, mut examined) = (claims(&["nobody"], 0), 0);
    for Method { path, access, .. } in TABLE {
        // The peer does not count when a user's token came.
        for workload in [None].into_iter().chain(access.workloads.iter().copied().map(Some)) {
            let admitted = access.public || access.signed_in;
            let expected = if admitted { Code::Ok } else { Code::PermissionDenied };
            assert_eq!(outcome(access, Some(&stranger), workload), expected, "{path}");
        }
        for role in access.roles {
            assert_eq!(
                outcome(access, Some(&claims(&["customer", role], 0)), None),
                Code::Ok,
                "{path} {role}"
            );
        }
        for workload in access.workloads {
            assert_eq!(outcome(access, None, Some(workload)), Code::Ok, "{path} {workload}");
        }
        examined += 1;
    }
    assert_eq!(examined, TABLE.len());
}

#[test]
fn a_policy_without_a_class_admits_nobody() {
    let admin = claims(&["admin"], 0);

    assert_eq!(outcome(&NOBODY, None, None), Code::PermissionDenied);
    assert_eq!(outcome(&NOBODY, None, Some("edge")), Code::PermissionDenied);
    assert_eq!(outcome(&NOBODY, Some(&admin), Some("edge")), Code::PermissionDenied);
}

#[test]
fn a_role_matches_as_a_whole() {
    let access = Access { roles: &["admin"], ..NOBODY };

    for role in ["", "adm", "administrator", "Admin", "admin "] {
        assert_eq!(outcome(&access, Some(&claims(&[role], 0)), None), Code::PermissionDenied, "{role:?}");
    }
}

#[test]
fn a_method_that_wants_recent_authentication_refuses_older_ones_and_says_so() {
    let access = Access { signed_in: true, step_up: true, ..NOBODY };

    assert_eq!(outcome(&access, Some(&claims(&[], 290)), None), Code::Ok);
    let refused = check(&access, Some(&claims(&[], 310)), None).expect_err("too long ago");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(crate::status::reason(&refused), "STEP_UP_REQUIRED");
}

#[test]
fn a_request_that_did_not_pass_the_layer_has_no_caller() {
    let refused = Caller::of(&tonic::Request::new(())).expect_err("no caller");

    assert_eq!(refused.code(), Code::Internal);
}

#[test]
fn request_ids_belong_to_the_user_or_else_to_the_service() {
    let user = User { id: uuid::Uuid::from_u128(1).into(), session: uuid::Uuid::from_u128(2), roles: vec![] };
    let caller = |user: Option<&User>, workload: Option<&str>| Caller {
        user: user.cloned(),
        workload: workload.map(str::to_owned),
        session_is_over: false,
    };

    assert_eq!(
        caller(Some(&user), Some("edge")).idempotency_scope(),
        "users/00000000-0000-0000-0000-000000000001"
    );
    assert_eq!(caller(None, Some("bookings")).idempotency_scope(), "workloads/bookings");
    assert_eq!(caller(None, None).idempotency_scope(), "anonymous");
    assert_eq!(caller(Some(&user), Some("edge")).workload(), None, "the edge does not call for itself");
    assert_eq!(caller(None, Some("bookings")).workload(), Some("bookings"));
    assert_eq!(caller(None, Some("edge")).principal().expect_err("no user").code(), Code::Unauthenticated);
}

#[test]
fn without_news_of_revocations_a_users_sensitive_calls_are_refused_and_all_others_go_on() {
    let verifier = Verifier::new("https://identity.example");
    let user = claims(&["admin"], 0);
    let mut examined = 0;
    let now = crate::clock::Clock::system_now();
    verifier.revocations().heard(now);
    for method in TABLE {
        assert!(check_freshness(method, Some(&user), &verifier).is_ok(), "{}", method.path);
    }

    let long_ago = std::time::Instant::now().checked_sub(crate::token::revocations::STALE_AFTER);
    verifier.revocations().heard_at(long_ago.expect("the machine runs for longer"), now);

    for method in TABLE {
        assert!(check_freshness(method, None, &verifier).is_ok(), "{} without a user", method.path);
        match check_freshness(method, Some(&user), &verifier) {
            Ok(()) => assert!(!method.sensitive, "{}", method.path),
            Err(refused) => {
                assert!(method.sensitive, "{}", method.path);
                assert_eq!(refused.code(), Code::Unavailable);
                assert_eq!(crate::status::reason(&refused), "REVOCATION_FEED_STALE");
                examined += 1;
            }
        }
    }
    assert!(examined >= 2, "{examined} sensitive methods");
}
