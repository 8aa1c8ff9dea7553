//! What a call meets on its way to a handler: who may, with what, for how long.

use std::sync::Arc;

use mesh::auth::PrincipalId;
use mesh::call::Call;
use mesh::clock::Clock;
use mesh::status::reason;
use prost::Message as _;
use proto::identity::v1::AssignRoleRequest;
use proto::policy::TABLE;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::echo::{
    ASSIGN_ROLE, GET_JWKS, GET_ME, Handler, LIST_OPERATIONS, LIST_ROLES, Platform, SIGN_OUT, ask, bearer,
    send, soon,
};
use crate::peers::{answer, header};

/// The claims of a token that is right, but for its times, which start `age` seconds ago.
fn claims(user: PrincipalId, age: i64) -> Value {
    let start = Clock::system_now().as_second() - age;
    json!({
        "iss": mesh::run::ISSUER, "aud": mesh::token::AUDIENCE, "sub": user, "sid": user, "jti": user,
        "iat": start, "nbf": start, "exp": start + 900, "auth_time": start, "sv": 1, "roles": ["customer"],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_token_is_unauthenticated() {
    let platform = Platform::start(Handler::default()).await;

    for path in [GET_ME, LIST_ROLES] {
        let refused = ask(&platform.channel("edge"), path, &[]).await.expect_err("no token");

        assert_eq!(refused.code(), Code::Unauthenticated, "{path}");
        let info = refused.get_error_details().error_info().cloned().expect("an ErrorInfo");
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("mesh.jetway", "CREDENTIALS_REQUIRED"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_decide_who_administers() {
    let platform = Platform::start(Handler::default()).await;
    let (channel, user) = (platform.channel("edge"), PrincipalId::generate());
    let (customer, admin) =
        (platform.issuer.token(user, &["customer"]), platform.issuer.token(user, &["customer", "admin"]));

    let refused = ask(&channel, LIST_ROLES, &[bearer(&customer)]).await.expect_err("no admin");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "ACCESS_DENIED"));
    let admitted = ask(&channel, LIST_ROLES, &[bearer(&admin)]).await.expect("an admin");
    assert_eq!(header(&admitted, "got-user"), user.to_string());
    ask(&channel, GET_ME, &[bearer(&customer)]).await.expect("any user");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_for_a_service_wants_that_services_certificate_and_no_user() {
    let platform = Platform::start(Handler::default()).await;
    let admin = platform.issuer.token(PrincipalId::generate(), &["admin"]);
    let payments = platform.channel("payments");

    let admitted = ask(&payments, LIST_OPERATIONS, &[]).await.expect("payments itself");
    assert_eq!(
        (header(&admitted, "got-workload"), header(&admitted, "got-user")),
        ("payments".into(), String::new())
    );
    for (channel, headers) in [
        (platform.channel("edge"), vec![]),
        (platform.channel("bookings"), vec![]),
        (payments, vec![bearer(&admin)]),
        (platform.channel("edge"), vec![bearer(&admin)]),
    ] {
        let refused = ask(&channel, LIST_OPERATIONS, &headers).await.expect_err("not payments itself");
        assert_eq!(refused.code(), Code::PermissionDenied, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_says_who_is_calling() {
    let platform = Platform::start(Handler::default()).await;
    let (channel, user) = (platform.channel("edge"), PrincipalId::generate());
    let other = PrincipalId::generate();
    let forged: Vec<_> = [
        "x-user-id",
        "x-jetway-user",
        "x-user",
        "x-sub",
        "x-forwarded-user",
        "x-forwarded-client-cert",
        "x-workload",
    ]
    .into_iter()
    .map(|name| (name, other.to_string()))
    .chain([("x-roles", "admin".to_owned()), ("x-jetway-roles", "admin".to_owned())])
    .collect();

    let refused = ask(&channel, GET_ME, &forged).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let signed: Vec<_> =
        forged.into_iter().chain([bearer(&platform.issuer.token(user, &["customer"]))]).collect();
    let admitted = ask(&channel, GET_ME, &signed).await.expect("a token");
    assert_eq!(header(&admitted, "got-user"), user.to_string());
    let refused = ask(&channel, LIST_ROLES, &signed).await.expect_err("no admin");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_is_unimplemented_whoever_asks() {
    let platform = Platform::start(Handler::default()).await;
    let admin = platform.issuer.token(PrincipalId::generate(), &["admin"]);

    for path in ["/jetway.identity.v1.AccountService/Unknown", "/Unknown", "/jetway.Unknown/GetMe"] {
        for headers in [vec![], vec![bearer(&admin)], vec![bearer("nonsense")]] {
            let refused = ask(&platform.channel("edge"), path, &headers).await.expect_err("no method");
            assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unimplemented, "METHOD_UNKNOWN"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_every_method_only_the_public_ones_take_a_call_without_credentials() {
    let platform = Platform::start(Handler::default()).await;
    // A peer that no method names.
    assert!(TABLE.iter().all(|method| !method.access.workloads.contains(&"acquirer")));
    let channel = platform.channel("acquirer");
    let (mut public, mut refused) = (0, 0);

    for method in TABLE {
        match ask(&channel, method.path, &[]).await.map_err(|status| status.code()) {
            Err(Code::Unauthenticated | Code::PermissionDenied) => refused += 1,
            // Past the policy, an empty message may still break a rule.
            Ok(_) | Err(Code::InvalidArgument) if method.access.public => public += 1,
            other => panic!("{} answers {other:?}", method.path),
        }
    }

    let expected = TABLE.iter().filter(|method| method.access.public).count();
    assert_eq!((public, refused), (expected, TABLE.len() - expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_not_one_bearer_token_is_refused() {
    let platform = Platform::start(Handler::default()).await;
    let channel = platform.channel("edge");
    let token = platform.issuer.token(PrincipalId::generate(), &["customer"]);
    let basic = ("authorization", format!("Basic {token}"));

    for headers in [
        vec![bearer(&token), bearer(&token)],
        vec![bearer(&token), basic.clone()],
        vec![basic],
        vec![("authorization", token.clone())],
        vec![bearer("")],
    ] {
        let refused = ask(&channel, GET_ME, &headers).await.expect_err("not one token");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_INVALID"));
        assert!(!format!("{refused:?}").contains(&token), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_told_from_a_wrong_one() {
    let platform = Platform::start(Handler::default()).await;
    let expired = platform.issuer.sign(&claims(PrincipalId::generate(), 1000));

    let refused = ask(&platform.channel("edge"), GET_ME, &[bearer(&expired)]).await.expect_err("expired");

    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "TOKEN_EXPIRED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_method_knows_a_user_by_a_right_token_and_takes_a_wrong_one_for_none() {
    let platform = Platform::start(Handler::default()).await;
    let (channel, user) = (platform.channel("edge"), PrincipalId::generate());
    let right = platform.issuer.sign(&claims(user, 0));
    let expired = platform.issuer.sign(&claims(user, 1000));

    let known = ask(&channel, SIGN_OUT, &[bearer(&right)]).await.expect("public");
    assert_eq!((header(&known, "got-user"), header(&known, "got-token")), (user.to_string(), "yes".into()));
    for headers in
        [vec![], vec![bearer(&expired)], vec![bearer("x.y.z")], vec![bearer(&right), bearer(&right)]]
    {
        let anonymous = ask(&channel, SIGN_OUT, &headers).await.expect("public");
        // Nor does it go on to other services.
        assert_eq!(
            (header(&anonymous, "got-user"), header(&anonymous, "got-token")),
            (String::new(), "no".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broken_rule_is_listed_to_those_who_may_call() {
    let platform = Platform::start(Handler::default()).await;
    let channel = platform.channel("edge");
    let wrong = AssignRoleRequest { user_id: "me".to_owned(), role: "Not A Role".to_owned() }.encode_to_vec();
    let token = |roles: &[&str]| [bearer(&platform.issuer.token(PrincipalId::generate(), roles))];

    let refused = send(&channel, ASSIGN_ROLE, &token(&["admin"]), &wrong).await.expect_err("wrong");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .expect("a BadRequest")
        .field_violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(fields, ["user_id", "role"]);
    let refused = send(&channel, ASSIGN_ROLE, &token(&["customer"]), &wrong).await.expect_err("no admin");
    assert_eq!(refused.code(), Code::PermissionDenied, "the policy comes before the message");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_taken_over_and_given_back() {
    let platform = Platform::start(Handler::default()).await;
    let channel = platform.channel("edge");

    let named =
        ask(&channel, SIGN_OUT, &[("x-request-id", "from-the-edge".to_owned())]).await.expect("public");
    assert_eq!(header(&named, "got-request-id"), "from-the-edge");
    assert_eq!(header(&named, "x-request-id"), "from-the-edge");
    let new = ask(&channel, SIGN_OUT, &[]).await.expect("public");
    assert_eq!(header(&new, "x-request-id"), header(&new, "got-request-id"));
    assert_eq!(header(&new, "x-request-id").len(), 32);
    let refused =
        ask(&channel, GET_ME, &[("x-request-id", "refused".to_owned())]).await.expect_err("no token");
    assert_eq!(refused.metadata().get("x-request-id").expect("also of refusals"), "refused");
}

/// Says when it is dropped.
struct Guard(Arc<Notify>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A handler's events, and the leave that it waits for.
#[derive(Clone, Default)]
struct Signals {
    entered: Arc<Notify>,
    leave: Arc<Notify>,
    finished: Arc<Notify>,
    dropped: Arc<Notify>,
}

impl Signals {
    /// A handler that does not return before it may.
    fn handler(&self) -> Handler {
        let signals = self.clone();
        Handler::new(move |request| {
            let signals = signals.clone();
            let reads = request.uri().path() == GET_JWKS;
            async move {
                let guard = reads.then(|| Guard(Arc::clone(&signals.dropped)));
                signals.entered.notify_one();
                signals.leave.notified().await;
                signals.finished.notify_one();
                drop(guard);
                answer(0)
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_only_reads_is_dropped_at_the_deadline() {
    let signals = Signals::default();
    let platform = Platform::start(signals.handler()).await;

    let late = ask(&platform.channel("edge"), GET_JWKS, &[("grpc-timeout", "50m".to_owned())]).await;

    assert_eq!(late.expect_err("too long").code(), Code::DeadlineExceeded);
    soon(signals.dropped.notified()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_writes_ends_what_it_began_when_the_deadline_passes() {
    let signals = Signals::default();
    let platform = Platform::start(signals.handler()).await;

    let channel = platform.channel("edge");

    // When the second, which only reads, is dropped, the deadline of the first has passed on the server too.
    for path in [SIGN_OUT, GET_JWKS] {
        let late = ask(&channel, path, &[("grpc-timeout", "50m".to_owned())]).await;
        assert_eq!(late.expect_err("too long").code(), Code::DeadlineExceeded);
    }
    soon(signals.dropped.notified()).await;

    signals.leave.notify_one();
    soon(signals.finished.notified()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_writes_ends_what_it_began_when_the_client_goes_away() {
    let signals = Signals::default();
    let platform = Platform::start(signals.handler()).await;
    let channel = platform.channel("edge");

    // The second tells when the server has heard of the end of both: they share a connection.
    for path in [SIGN_OUT, GET_JWKS] {
        tokio::select! {
            answered = ask(&channel, path, &[]) => panic!("{answered:?}"),
            () = signals.entered.notified() => {}
        }
    }
    soon(signals.dropped.notified()).await;

    signals.leave.notify_one();
    soon(signals.finished.notified()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_internal_error_and_the_service_goes_on() {
    let platform = Platform::start(Handler::new(|request| async move {
        assert!(!request.headers().contains_key("x-fail"), "canary");
        answer(0)
    }))
    .await;
    let channel = platform.channel("edge");

    for path in [GET_JWKS, SIGN_OUT] {
        let failed = ask(&channel, path, &[("x-fail", String::new())]).await.expect_err("the handler panics");
        assert_eq!((failed.code(), failed.message()), (Code::Internal, "internal error"), "{path}");
        assert!(!format!("{failed:?}").contains("canary"), "{failed:?}");
        ask(&channel, path, &[]).await.expect("the service goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_handler_makes_is_part_of_the_call_that_it_serves() {
    let inner = Platform::start(Handler::default()).await;
    let channel = inner.channel("edge");
    let outer = Platform::start(Handler::new(move |_| {
        let channel = channel.clone();
        async move {
            let mut response = answer(0);
            let seen = ask(&channel, SIGN_OUT, &[]).await.expect("public");
            response.headers_mut().extend(seen);
            let left = Call::current().expect("a call").remaining();
            response
                .headers_mut()
                .insert("got-left-ms", left.as_millis().to_string().parse().expect("digits"));
            response
        }
    }))
    .await;
    let headers = [("x-request-id", "from-the-edge".to_owned()), ("grpc-timeout", "2S".to_owned())];

    let seen = ask(&outer.channel("edge"), GET_JWKS, &headers).await.expect("public");

    assert_eq!(header(&seen, "got-request-id"), "from-the-edge");
    let left: u64 = header(&seen, "got-left-ms").parse().expect("milliseconds");
    assert!((1..2000).contains(&left), "{left}");
}
