//! Nothing that is secret is found where it should not be.

use std::process::Command;

use jetway::{
    data_dir::DataDir,
    databases::{Databases, SERVICES},
    rest::Rest,
};
use mesh::postgres::Binaries;
use secrecy::ExposeSecret as _;
use serde_json::json;

use crate::harness::{Up, buy, data_dir, flight, unique, until_state};

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

    let secrets: Vec<String> = [password, wrong, access, refresh]
        .into_iter()
        .chain([renewed.text("accessToken"), renewed.text("refreshToken"), "4242424242424241".to_owned()])
        .chain(CARDS.iter().map(|(number, _)| (*number).to_owned()))
        .flat_map(spellings)
        .collect();
    let log = std::fs::read_to_string(data.path().join("jetway.log")).expect("there is a log");
    let mut dumps = String::new();
    let dir = DataDir::open(data.path()).expect("the data directory");
    let databases = Databases::known(&dir).expect("the platform runs");
    for service in SERVICES {
        dumps.push_str(&dump(databases.url(service).expose_secret()));
    }
    assert!(dumps.contains(&canary), "the search finds what is there");
    assert!(log.contains("\"path\":\"/api/v1/auth/signin\""), "the log has the requests");
    for (place, text) in [("a log", &log), ("a database dump", &dumps), ("an error", &errors)] {
        for (index, secret) in secrets.iter().enumerate() {
            assert!(!text.contains(secret.as_str()), "secret number {index} is in {place}");
        }
    }
}

/// Requests with a secret in the wrong place: the errors, together.
async fn bad_requests(rest: &Rest, secret: &str) -> String {
    let mut errors = String::new();
    for body in [
        json!({ "email": secret, "password": 7 }),
        json!({ "email": { "password": secret }, "password": secret }),
        json!({ "password": secret, "pasword": secret }),
    ] {
        let answer = rest.post("/api/v1/auth/signin", &body).await.expect("an answer");
        assert!((400..500).contains(&answer.status), "{}", answer.body);
        errors.push_str(&answer.body.to_string());
    }
    errors
}

/// The secret as it is, in base64 and in hexadecimal digits.
fn spellings(secret: String) -> [String; 3] {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

    let hex = hex::encode(&secret);
    let base64 = STANDARD_NO_PAD.encode(&secret);
    [secret, base64, hex]
}

fn dump(url: &str) -> String {
    let program = Binaries::find().expect("PostgreSQL is installed").dir().join("pg_dump");
    let output =
        Command::new(program).args(["--data-only", "--inserts", url]).output().expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
