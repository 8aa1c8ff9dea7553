//! Who may do what, seen from outside.

use http::Method;
use serde_json::json;

use crate::harness::{Up, buy, card, data_dir, eventually, flight, traveller, unique, until_state};

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_tells_apart_who_may_and_who_may_not() {
    let data = data_dir();
    let up = Up::start(data.path());
    let rest = up.rest();
    let traveller_one = traveller(&rest).await;
    let me = traveller_one.get("/api/v1/me").await.expect("an answer");

    // An admin's method: 401 without a token, 403 for a customer, open to an admin.
    let roles = "/api/v1/admin/roles";
    let anonymous = rest.get(roles).await.expect("an answer");
    assert_eq!((anonymous.status, anonymous.reason().as_str()), (401, "CREDENTIALS_REQUIRED"));
    assert!(anonymous.headers.contains_key("www-authenticate"));
    let refused = traveller_one.get(roles).await.expect("an answer");
    assert_eq!((refused.status, refused.reason().as_str()), (403, "ACCESS_DENIED"));
    let city = json!({ "displayName": "Atlantis", "countryCode": "GR" });
    let refused = traveller_one.post("/api/v1/cities?cityId=atlantis", &city).await.expect("an answer");
    assert_eq!(refused.status, 403, "{}", refused.body);
    let admin = up.signed_in_as("admin").await;
    assert_eq!(admin.get(roles).await.expect("an answer").status, 200);

    // A method for services only: nobody from outside.
    let intent = json!({ "customer": me.text("name"), "merchant": "merchants/AI", "amount": { "currencyCode": "INR", "amountMinor": "100" } });
    let refused =
        traveller_one.post_with_key("/api/v1/paymentIntents", &intent, &unique()).await.expect("an answer");
    assert_eq!(refused.status, 403, "{}", refused.body);

    // Somebody else's booking is no booking.
    let flight = flight(&rest, 20).await;
    let card = card(&traveller_one, "4242424242424242").await;
    let booking = buy(&traveller_one, &flight, &card).await;
    until_state(&traveller_one, &booking, &["CONFIRMED"]).await;
    let stranger = traveller(&rest).await;
    let foreign = stranger.get(&format!("/api/v1/{booking}")).await.expect("an answer");
    let missing = stranger.get(&format!("/api/v1/bookings/{}", unique())).await.expect("an answer");
    assert_eq!((foreign.status, missing.status), (404, 404));
    let quote =
        stranger.post(&format!("/api/v1/{booking}/cancellations"), &json!({})).await.expect("an answer");
    assert_eq!(quote.status, 404, "{}", quote.body);

    // Headers that say who is calling say nothing.
    let me_text = me.text("uid");
    for name in ["x-user-id", "x_user_id", "x-jetway-user", "grpc-metadata-x-user-id", "x-forwarded-user"] {
        let forged = [(name, me_text.as_str())];
        let answer = stranger
            .send(Method::GET, &format!("/api/v1/{booking}"), None, &forged)
            .await
            .expect("an answer");
        assert_eq!(answer.status, 404, "{name} had an effect");
        let answer = stranger.send(Method::GET, "/api/v1/me", None, &forged).await.expect("an answer");
        assert_ne!(answer.text("uid"), me_text, "{name} had an effect");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_signs_up_as_an_admin() {
    let data = data_dir();
    let up = Up::start(data.path());
    let account =
        json!({ "email": "climber@jetway.example", "password": "a long password", "roles": ["admin"] });
    let refused = up.rest().post("/api/v1/auth/signup", &account).await.expect("an answer");
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.to_string().contains("roles"), "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_its_request_id_and_the_security_headers() {
    let data = data_dir();
    let up = Up::start(data.path());
    let rest = up.rest();
    let paths = ["/api/v1/flights", "/api/v1/nothing", "/api/v1/me", "/healthz", "/.well-known/jwks.json"];
    for path in paths {
        let answer =
            rest.send(Method::GET, path, None, &[("x-request-id", "asked-for-1")]).await.expect("an answer");
        assert_eq!(answer.headers["x-request-id"], "asked-for-1", "{path}");
        for name in [
            "strict-transport-security",
            "content-security-policy",
            "x-content-type-options",
            "referrer-policy",
        ] {
            assert!(answer.headers.contains_key(name), "{path} lacks {name}");
        }
        assert!(!answer.headers.contains_key("server"), "{path}");
    }
    let missing = rest
        .send(Method::GET, "/api/v1/nothing", None, &[("x-request-id", "asked-for-2")])
        .await
        .expect("an answer");
    assert_eq!(missing.status, 404);
    assert!(
        missing.body.to_string().contains("asked-for-2"),
        "the error names its request: {}",
        missing.body
    );
    let wrong = rest.send(Method::DELETE, "/api/v1/flights", None, &[]).await.expect("an answer");
    assert_eq!(wrong.status, 405);
    assert!(wrong.headers["allow"].to_str().expect("text").contains("GET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_id_stands_in_the_lines_of_the_edge_and_of_the_service() {
    let data = data_dir();
    let up = Up::start(data.path());
    let id = [("x-request-id", "find-me-in-the-log")];
    let answer = up.rest().send(Method::GET, "/api/v1/airports", None, &id).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);

    // The log is written beside the requests, so a line may come after the answer.
    for path in ["/api/v1/airports", "/jetway.bookings.v1.CatalogService/ListAirports"] {
        eventually(&format!("the line of {path}"), async || {
            let log = std::fs::read_to_string(data.path().join("jetway.log")).expect("there is a log");
            // The last line may be half written.
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole
                .lines()
                .filter(|line| line.contains("find-me-in-the-log"))
                .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON"))
                .find(|line| line["path"] == path && line["request_id"] == "find-me-in-the-log")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_edge_describes_itself() {
    let data = data_dir();
    let up = Up::start(data.path());
    let described = up.rest().get("/openapi.json").await.expect("an answer");
    assert_eq!(described.status, 200);
    assert_eq!(described.text("openapi"), "3.1.0");
    let paths = described.body["paths"].as_object().expect("there are paths");
    for path in ["/api/v1/auth/signup", "/api/v1/flights", "/api/v1/holds", "/api/v1/bookings"] {
        assert!(paths.contains_key(path), "{path} is not described");
    }
}
