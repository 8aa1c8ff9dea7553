//! Nothing that is secret is found where it should not be.

use std::process::Command;

use http::Method;
use jetway::{
    data_dir::DataDir,
    databases::{Databases, SERVICES},
    rest::Rest,
};
use mesh::postgres::Binaries;
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::harness::{Up, buy, data_dir, eventually, flight, unique, until_state};

/// A request id: no secret, and in the log and in every error.
const CANARY_ID: &str = "canary-in-the-coal-mine";

/// Card numbers and security codes that the journey below uses.
const CARDS: [(&str, &str); 2] = [("4242424242424242", "917"), ("4000000000000002", "863")];

#[tokio::test(flavor = "multi_thread")]
async fn no_password_token_or_card_number_is_in_a_log_or_a_database_dump() {
    let data = data_dir();
    let up = Up::start(data.path());
    let rest = up.rest();
    // A canary that the search must find: it stands in a name, which is no secret.
    let canary = format!("canary {}", unique());
    let (email, password) = (format!("{}@jetway.example", unique()), format!("hush {}", unique()));
    let account = json!({ "email": email, "password": password, "displayName": canary });
    assert_eq!(rest.post("/api/v1/auth/signup", &account).await.expect("an answer").status, 200);
    let mut errors = String::new();

    let wrong = format!("wrong {}", unique());
    let refused = rest
        .post("/api/v1/auth/signin", &json!({ "email": email, "password": wrong }))
        .await
        .expect("an answer");
    assert_eq!(refused.status, 401);
    errors.push_str(&refused.body.to_string());
    let session = rest
        .post("/api/v1/auth/signin", &json!({ "email": email, "password": password }))
        .await
        .expect("an answer");
    let (access, refresh) = (session.text("tokens.accessToken"), session.text("tokens.refreshToken"));
    let renewed =
        rest.post("/api/v1/auth/refresh", &json!({ "refreshToken": refresh })).await.expect("an answer");
    let traveller = rest.signed_in(&access);
    let flight = flight(&rest, 15).await;
    for (number, cvc) in CARDS {
        let card = json!({ "card": { "number": number, "expMonth": 12, "expYear": 2034, "cvc": cvc, "holder": "Asha Rao" } });
        let stored = traveller.post("/api/v1/paymentMethods", &card).await.expect("an answer");
        let booking = buy(&traveller, &flight, &stored.text("name")).await;
        until_state(&traveller, &booking, &["CONFIRMED", "FAILED"]).await;
    }
    let misspelt =
        json!({ "card": { "number": "4242424242424241", "expMonth": 12, "expYear": 2034, "cvc": "917" } });
    errors.push_str(
        &traveller.post("/api/v1/paymentMethods", &misspelt).await.expect("an answer").body.to_string(),
    );
    errors.push_str(&bad_requests(&traveller, &password).await);

    // The log is written beside the requests: what the last of them left in it may come after its answer.
    let log = eventually("the canary in the log", async || {
        let log = std::fs::read_to_string(data.path().join("jetway.log")).expect("there is a log");
        log.contains(CANARY_ID).then_some(log)
    })
    .await;
    let server_log =
        std::fs::read_to_string(data.path().join("postgres/server.log")).expect("PostgreSQL has one too");
    let dir = DataDir::open(data.path()).expect("the data directory");
    let databases = Databases::known(&dir).expect("the platform runs");
    let dumps: String = SERVICES.iter().map(|service| dump(databases.url(service).expose_secret())).collect();
    // In each place there is something that the search must find.
    let places = [
        ("a log", log, CANARY_ID.to_owned()),
        ("a database dump", dumps, canary),
        ("an error", errors, CANARY_ID.to_owned()),
        ("the log of PostgreSQL", server_log, "database system is ready".to_owned()),
    ];
    let secrets = [password, wrong, access, refresh]
        .into_iter()
        .chain([renewed.text("accessToken"), renewed.text("refreshToken"), "4242424242424241".to_owned()])
        .chain(CARDS.iter().map(|(number, _)| (*number).to_owned()));
    for (index, secret) in secrets.enumerate() {
        for (place, text, _) in &places {
            assert!(!is_in(text, &secret), "secret number {index} is in {place}");
        }
    }
    for (place, text, canary) in &places {
        assert!(is_in(text, canary), "the search does not find the canary in {place}");
    }
}

/// Requests with a secret in the wrong place: the errors, together.
async fn bad_requests(rest: &Rest, secret: &str) -> String {
    let mut errors = String::new();
    let id = [("x-request-id", CANARY_ID)];
    for body in [
        json!({ "email": secret, "password": 7 }),
        json!({ "email": { "password": secret }, "password": secret }),
        json!({ "password": secret, "pasword": secret }),
    ] {
        let answer =
            rest.send(Method::POST, "/api/v1/auth/signin", Some(&body), &id).await.expect("an answer");
        assert!((400..500).contains(&answer.status), "{}", answer.body);
        errors.push_str(&answer.body.to_string());
    }
    errors
}

/// Whether `text` has the secret as it is, in base64 or in hexadecimal digits.
fn is_in(text: &str, secret: &str) -> bool {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

    [secret.to_owned(), STANDARD_NO_PAD.encode(secret), hex::encode(secret)]
        .iter()
        .any(|form| text.contains(form))
}

fn dump(url: &str) -> String {
    let program = Binaries::find().expect("PostgreSQL is installed").dir().join("pg_dump");
    let output =
        Command::new(program).args(["--data-only", "--inserts", url]).output().expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
