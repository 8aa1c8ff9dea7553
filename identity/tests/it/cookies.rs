//! Sessions of browsers: tokens as cookies, by the word of the gateway.

use mesh::client::Channel;
use proto::{
    identity::v1::{
        RefreshSessionRequest, SignInRequest, SignInResponse, SignOutRequest, TokenDelivery, Tokens,
        authentication_service_client::AuthenticationServiceClient,
    },
    session::{COOKIES_ALLOWED, REFRESH_TOKEN},
};
use tonic::{Code, Request, Response, Status};

use crate::harness::{PASSWORD, TestIdentity, reason};

/// A `set-cookie` of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Cookie {
    name: String,
    value: String,
    attributes: Vec<String>,
}

/// Every cookie that an answer sets, in order.
fn cookies<T>(response: &Response<T>) -> Vec<Cookie> {
    response
        .metadata()
        .get_all("set-cookie")
        .iter()
        .map(|cookie| {
            let mut parts = cookie.to_str().expect("ASCII").split("; ").map(str::to_owned);
            let first = parts.next().expect("a name and a value");
            let (name, value) = first.split_once('=').expect("a name and a value");
            Cookie { name: name.to_owned(), value: value.to_owned(), attributes: parts.collect() }
        })
        .collect()
}

/// A call as the gateway makes it for a page on an origin of ours, with the refresh token of the cookie.
fn from_browser<T>(message: T, refresh_cookie: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(COOKIES_ALLOWED, "1".parse().expect("ASCII"));
    if let Some(token) = refresh_cookie {
        request.metadata_mut().insert(REFRESH_TOKEN, token.parse().expect("ASCII"));
    }
    request
}

fn sign_in_request() -> SignInRequest {
    SignInRequest {
        email: "ada@example.org".to_owned(),
        password: PASSWORD.to_owned(),
        token_delivery: TokenDelivery::Cookie.into(),
        ..SignInRequest::default()
    }
}

async fn sign_in(t: &TestIdentity) -> Response<SignInResponse> {
    t.authentication().sign_in(from_browser(sign_in_request(), None)).await.expect("signed in")
}

async fn refresh(
    client: &mut AuthenticationServiceClient<Channel>,
    cookie: &str,
    in_body: &str,
) -> Result<Response<Tokens>, Status> {
    let request = RefreshSessionRequest { refresh_token: in_body.to_owned() };
    client.refresh_session(from_browser(request, Some(cookie))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_its_tokens_as_host_cookies_and_none_in_the_body() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");

    let signed_in = sign_in(&t).await;

    let tokens = signed_in.get_ref().tokens.clone().expect("what else there is to say");
    assert_eq!((&tokens.access_token, &tokens.refresh_token), (&None, &None));
    assert_eq!((tokens.token_type.as_str(), tokens.expires_in), ("Bearer", 900));
    let [access, refresh] = cookies(&signed_in).try_into().expect("two cookies");
    assert_eq!(access.name, "__Host-jetway_at");
    assert_eq!(access.attributes, ["Max-Age=900", "Path=/", "Secure", "HttpOnly", "SameSite=Lax"]);
    assert_eq!(refresh.name, "__Host-jetway_rt");
    assert_eq!(refresh.attributes, ["Max-Age=604800", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"]);
    assert!(access.value.len() + refresh.value.len() < 4096, "browsers keep no larger ones");
    t.me(&access.value).await.expect("the access token is in its cookie");
    t.refresh(&refresh.value).await.expect("and the refresh token in its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_are_not_given_without_the_word_of_the_gateway() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");

    let refused = t.authentication().sign_in(sign_in_request()).await.expect_err("no browser of ours");

    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(mesh::status::reason(&refused), "ORIGIN_NOT_ALLOWED");
    assert_eq!(t.texts("SELECT id::text AS text FROM sessions").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_by_cookie_rotates_both_cookies() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");
    let before = cookies(&sign_in(&t).await);

    let refreshed = refresh(&mut t.authentication(), &before[1].value, "").await.expect("refreshed");

    assert_eq!((&refreshed.get_ref().access_token, &refreshed.get_ref().refresh_token), (&None, &None));
    let after = cookies(&refreshed);
    assert_eq!(after.len(), 2);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.name, &before.attributes), (&after.name, &after.attributes));
        assert_ne!(before.value, after.value);
    }
    t.me(&after[0].value).await.expect("the new access token works");
    refresh(&mut t.authentication(), &after[1].value, "").await.expect("and so does the new refresh token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_in_the_body_is_answered_in_the_body() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    let request = RefreshSessionRequest { refresh_token: tokens.refresh_token };

    let refreshed = t.authentication().refresh_session(from_browser(request, None)).await.expect("refreshed");

    assert_eq!(cookies(&refreshed), []);
    assert!(refreshed.get_ref().refresh_token.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_refresh_token_in_the_body_than_in_the_cookie_is_refused() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    let cookie = cookies(&sign_in(&t).await).remove(1).value;
    let mut client = t.authentication();

    let refused = refresh(&mut client, &cookie, &tokens.refresh_token).await;

    assert_eq!(refused.as_ref().expect_err("two tokens").code(), Code::InvalidArgument);
    assert_eq!(reason(refused), "CREDENTIALS_CONFLICT");
    let request = SignOutRequest { refresh_token: tokens.refresh_token.clone() };
    let refused = client.sign_out(from_browser(request, Some(&cookie))).await;
    assert_eq!(reason(refused), "CREDENTIALS_CONFLICT");
    t.refresh(&tokens.refresh_token).await.expect("neither session ended");
    refresh(&mut client, &cookie, "").await.expect("neither session ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_without_any_token_is_refused() {
    let t = TestIdentity::start().await;
    assert_eq!(reason(t.refresh("").await), "REFRESH_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_session_of_the_cookie_and_takes_both_away() {
    let t = TestIdentity::start().await;
    t.sign_up("ada@example.org").await.expect("signed up");
    let given = cookies(&sign_in(&t).await);
    let mut client = t.authentication();

    let signed_out = client.sign_out(from_browser(SignOutRequest::default(), Some(&given[1].value)));
    let taken = cookies(&signed_out.await.expect("signed out"));

    assert_eq!(taken.len(), 2);
    for (given, taken) in given.iter().zip(&taken) {
        assert_eq!((&given.name, taken.value.as_str()), (&taken.name, ""));
        assert_eq!(taken.attributes[0], "Max-Age=0");
        assert_eq!(given.attributes[1..], taken.attributes[1..], "else it would be another cookie");
    }
    let refused = refresh(&mut client, &given[1].value, "").await;
    assert_eq!(reason(refused), "REFRESH_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_cookies_is_sent_none_when_signing_out() {
    let t = TestIdentity::start().await;
    let (_, tokens) = t.customer("ada@example.org").await;
    let request = SignOutRequest { refresh_token: tokens.refresh_token };
    let signed_out = t.authentication().sign_out(request).await.expect("signed out");
    assert_eq!(cookies(&signed_out), []);
}
