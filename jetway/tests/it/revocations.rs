//! Access tokens that are revoked stop within seconds, at the edge and behind it.

use std::time::{Duration, Instant};

use http::Method;
use jetway::demo_data::Accounts;
use jetway::rest::{Answer, Rest};
use mesh::client::{Channel, Target};
use mesh::tls::Identity;
use proto::bookings::v1::{ListBookingsRequest, booking_service_client::BookingServiceClient};
use serde_json::{Value, json};

use crate::harness::{eventually, unique};
use crate::mesh_of_processes::Mesh;

/// What is promised is two seconds; a busy machine may take a little longer.
const PROMISE: Duration = Duration::from_secs(5);

/// Whatever any signed-in user may ask of `bookings`.
const BOOKINGS: &str = "/api/v1/bookings";

/// A user who is signed in, and how else to say so.
struct SignedIn {
    rest: Rest,
    access: String,
    refresh: String,
}

/// A new user's id, and what signs them in.
async fn sign_up(rest: &Rest) -> (String, Value) {
    let account = json!({ "email": format!("{}@jetway.example", unique()), "password": unique() });
    let user = rest.post("/api/v1/auth/signup", &account).await.expect("an answer");
    assert_eq!(user.status, 200, "{}", user.body);
    (user.text("uid"), account)
}

async fn sign_in(rest: &Rest, account: &Value) -> SignedIn {
    let session = rest.post("/api/v1/auth/signin", account).await.expect("an answer");
    assert_eq!(session.status, 200, "{}", session.body);
    signed_in(rest, &session.body["tokens"])
}

async fn refreshed(rest: &Rest, user: &SignedIn) -> SignedIn {
    let spent = json!({ "refreshToken": user.refresh });
    let tokens = rest.post("/api/v1/auth/refresh", &spent).await.expect("an answer");
    assert_eq!(tokens.status, 200, "{}", tokens.body);
    signed_in(rest, &tokens.body)
}

fn signed_in(rest: &Rest, tokens: &Value) -> SignedIn {
    let [access, refresh] =
        ["accessToken", "refreshToken"].map(|name| tokens[name].as_str().expect("a token").to_owned());
    SignedIn { rest: rest.signed_in(&access), access, refresh }
}

async fn admin(mesh: &Mesh, accounts: &Accounts) -> SignedIn {
    let account = json!({ "email": accounts.admin.email, "password": accounts.admin.password });
    sign_in(&mesh.rest(), &account).await
}

/// Waits until the edge refuses the user's token, and says how.
async fn until_refused(user: &SignedIn) -> Answer {
    eventually("the token is refused", async || {
        let answer = user.rest.get(BOOKINGS).await.ok()?;
        (answer.status == 401).then_some(answer)
    })
    .await
}

/// What `bookings` itself says to a token, when nobody checks it before.
struct Direct(Channel);

impl Direct {
    fn new(mesh: &Mesh) -> Self {
        let identity = Identity::load(&mesh.certificate("edge")).expect("the certificate loads");
        let target = Target::parse("bookings", [mesh.address("bookings")]).expect("an address");
        Self(Channel::connect_lazy(&target, &identity))
    }

    async fn reason(&self, token: &str) -> String {
        let mut client = BookingServiceClient::new(mesh::testing::as_user(self.0.clone(), token));
        match client.list_bookings(ListBookingsRequest::default()).await {
            Ok(_) => "OK".to_owned(),
            Err(status) => mesh::status::reason(&status),
        }
    }

    async fn until_reason(&self, token: &str, expected: &str) {
        eventually(expected, async || (self.reason(token).await == expected).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_and_a_role_that_changes_count_everywhere_within_seconds() {
    let mesh = Mesh::start().await;
    let accounts = mesh.load_timetable().await;
    let rest = mesh.rest();
    let direct = Direct::new(&mesh);
    let (uid, account) = sign_up(&rest).await;
    let [here, elsewhere] = [sign_in(&rest, &account).await, sign_in(&rest, &account).await];
    let (_, account) = sign_up(&rest).await;
    let other = sign_in(&rest, &account).await;
    for user in [&here, &elsewhere, &other] {
        assert_eq!(user.rest.get(BOOKINGS).await.expect("an answer").status, 200);
        assert_eq!(direct.reason(&user.access).await, "OK");
    }

    // Signing out.
    let signed_out = Instant::now();
    let out = here.rest.post("/api/v1/auth/signout", &json!({})).await.expect("an answer");
    assert_eq!(out.status, 200, "{}", out.body);
    let refused = until_refused(&here).await;
    direct.until_reason(&here.access, "TOKEN_REVOKED").await;
    assert!(signed_out.elapsed() < PROMISE, "it took {:?}", signed_out.elapsed());
    assert_eq!(refused.reason(), "TOKEN_REVOKED");
    assert!(refused.headers.contains_key("www-authenticate"));
    let again = here.rest.post("/api/v1/auth/signout", &json!({})).await.expect("an answer");
    assert_eq!(again.status, 200, "signing out of a session that is over: {}", again.body);
    for user in [&elsewhere, &other] {
        assert_eq!(user.rest.get(BOOKINGS).await.expect("an answer").status, 200);
        assert_eq!(direct.reason(&user.access).await, "OK");
    }

    // A role: the token has to be refreshed, and the new one is good at once and for good.
    let admin = admin(&mesh, &accounts).await;
    let role = format!("/api/v1/admin/users/{uid}/roles/flight_company");
    let mut user = elsewhere;
    for method in [Method::PUT, Method::DELETE] {
        let changed = Instant::now();
        let answer = admin.rest.send(method, &role, None, &[]).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let refused = until_refused(&user).await;
        direct.until_reason(&user.access, "TOKEN_STALE").await;
        assert!(changed.elapsed() < PROMISE, "it took {:?}", changed.elapsed());
        assert_eq!(refused.reason(), "TOKEN_STALE");
        user = refreshed(&rest, &user).await;
        assert_eq!(user.rest.get(BOOKINGS).await.expect("an answer").status, 200);
        assert_eq!(direct.reason(&user.access).await, "OK");
    }
    assert_eq!(other.rest.get(BOOKINGS).await.expect("an answer").status, 200, "another user goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_identity_what_is_sensitive_stops_and_all_else_goes_on_and_afterwards_revocations_count_again()
 {
    let mut mesh = Mesh::start().await;
    let accounts = mesh.load_timetable().await;
    let rest = mesh.rest();
    let direct = Direct::new(&mesh);
    let admin = admin(&mesh, &accounts).await;
    let (uid, account) = sign_up(&rest).await;
    let user = sign_in(&rest, &account).await;
    let role = format!("/api/v1/admin/users/{uid}/roles/flight_company");
    let assign = async || admin.rest.send(Method::PUT, &role, None, &[]).await.expect("an answer");

    mesh.kill("identity");

    let refused = eventually("the edge knows that it knows too little", async || {
        let refused = assign().await;
        assert_eq!(refused.status, 503, "{}", refused.body);
        (refused.reason() == "REVOCATION_FEED_STALE").then_some(refused)
    })
    .await;
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(user.rest.get(BOOKINGS).await.expect("an answer").status, 200);
    assert_eq!(direct.reason(&user.access).await, "OK");

    mesh.run("identity");
    eventually("roles can be given", async || (assign().await.status == 200).then_some(())).await;
    assert_eq!(until_refused(&user).await.reason(), "TOKEN_STALE");
    direct.until_reason(&user.access, "TOKEN_STALE").await;
}
