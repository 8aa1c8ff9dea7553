//! A traveller's journey over REST, from signing up to the refund.
//!
//! Every request and answer is printed, with passwords, tokens and card numbers left out. Whatever is not as expected ends the demo.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use http::Method;
use serde_json::{Value, json};

use crate::rest::{Answer, Rest};

/// A test card of the simulated acquirer that approves.
pub const CARD_APPROVED: &str = "4242424242424242";

/// A test card of the simulated acquirer that is declined.
pub const CARD_DECLINED: &str = "4000000000000002";

/// Members whose values are not printed.
const SECRET: [&str; 5] = ["password", "accessToken", "refreshToken", "number", "cvc"];

/// How long a booking or a refund may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked at meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest answer that is printed whole, in characters.
const PRINTED_MAX: usize = 1500;

/// Makes the journey.
///
/// # Errors
///
/// The first answer that is not as expected.
pub async fn run(rest: &Rest) -> anyhow::Result<()> {
    let mut journey = Journey { rest: rest.clone(), steps: Vec::new() };
    journey.make().await?;
    journey.summary();
    Ok(())
}

struct Journey {
    rest: Rest,
    steps: Vec<(&'static str, Duration)>,
}

impl Journey {
    async fn make(&mut self) -> anyhow::Result<()> {
        self.sign_up_and_in().await?;
        let flight = self.search().await?;
        let (hold, total) = self.hold(&flight).await?;
        let booking = self.pay(&hold, &total).await?;
        self.be_declined(&flight).await?;
        self.cancel(&booking, &total).await?;
        let out = self.step("sign out", Method::POST, "/api/v1/auth/signout", Some(json!({})), None).await?;
        expect(&out, 200)
    }

    async fn sign_up_and_in(&mut self) -> anyhow::Result<()> {
        let unique = mesh::id::generate().simple().to_string();
        let email = format!("traveller-{unique}@jetway.example");
        let password = format!("demo {unique}");
        let account = json!({ "email": email, "password": password, "displayName": "Asha Rao" });
        let user = self.step("sign up", Method::POST, "/api/v1/auth/signup", Some(account), None).await?;
        expect(&user, 200)?;
        ensure!(user.body["roles"] == json!(["customer"]), "a new user is a customer and nothing else");

        let credentials = json!({ "email": email, "password": password });
        let session =
            self.step("sign in", Method::POST, "/api/v1/auth/signin", Some(credentials), None).await?;
        expect(&session, 200)?;
        self.rest = self.rest.signed_in(&session.text("tokens.accessToken"));
        let me = self.step("who am I", Method::GET, "/api/v1/me", None, None).await?;
        expect(&me, 200)?;
        ensure!(me.text("uid") == user.text("uid"), "the token names another user");
        Ok(())
    }

    async fn search(&mut self) -> anyhow::Result<String> {
        let date = mesh::clock::Clock::system_now().to_zoned(jiff::tz::TimeZone::UTC).date();
        let date = date.checked_add(jiff::Span::new().days(30)).context("a date in a month")?;
        let path =
            format!("/api/v1/flights?trips=DEL-BLR&tripDate={date}&travellers=2&sort=price_ASC&pageSize=3");
        let flights = self.step("search", Method::GET, &path, None, None).await?;
        expect(&flights, 200)?;
        let flight = flights.text("flights.0.name");
        ensure!(!flight.is_empty(), "no flight from Delhi to Bengaluru in a month: is the demo data there?");
        let map =
            self.step("seat map", Method::GET, &format!("/api/v1/{flight}/seatMap"), None, None).await?;
        expect(&map, 200)?;
        Ok(flight)
    }

    /// A purchase that comes to nothing: no seat and no money is kept.
    async fn be_declined(&mut self, flight: &str) -> anyhow::Result<()> {
        let item = json!({ "flight": flight, "cabin": "ECONOMY", "fare": "LIGHT" });
        let key = mesh::id::generate().to_string();
        let body = Some(json!({ "items": [item] }));
        let hold = self.step("hold one more seat", Method::POST, "/api/v1/holds", body, Some(&key)).await?;
        expect(&hold, 200)?;
        let card = self.store_card(CARD_DECLINED).await?;
        let purchase = json!({
            "hold": hold.text("name"),
            "passengers": [{ "givenName": "Asha", "familyName": "Rao" }],
            "paymentMethod": card,
        });
        let booking = self
            .step("book with a bad card", Method::POST, "/api/v1/bookings", Some(purchase), Some(&key))
            .await?;
        expect(&booking, 200)?;
        let failed = self.until("declined", &booking.text("name"), "FAILED").await?;
        ensure!(
            failed.text("failure.declineCode") == "generic_decline",
            "a declined booking says why: {}",
            failed.body
        );
        Ok(())
    }

    async fn store_card(&mut self, number: &str) -> anyhow::Result<String> {
        let card = json!({ "card": {
            "number": number, "expMonth": 12, "expYear": 2034, "cvc": "123", "holder": "Asha Rao",
        }});
        let method =
            self.step("store a card", Method::POST, "/api/v1/paymentMethods", Some(card), None).await?;
        expect(&method, 200)?;
        ensure!(number.ends_with(&method.text("last4")), "the card shows its last four digits");
        Ok(method.text("name"))
    }

    async fn hold(&mut self, flight: &str) -> anyhow::Result<(String, Value)> {
        let fares = self.step("flight", Method::GET, &format!("/api/v1/{flight}"), None, None).await?;
        expect(&fares, 200)?;
        let fare = refundable_fare(&fares.body).context("the flight has no refundable economy fare")?;
        let item = json!({ "flight": flight, "cabin": "ECONOMY", "fare": fare });
        let body = json!({ "items": [item, item] });
        let key = mesh::id::generate().to_string();
        let hold = self
            .step("hold two seats", Method::POST, "/api/v1/holds", Some(body.clone()), Some(&key))
            .await?;
        expect(&hold, 200)?;
        ensure!(hold.text("state") == "ACTIVE", "a new hold is active");
        let again =
            self.step("hold again, same key", Method::POST, "/api/v1/holds", Some(body), Some(&key)).await?;
        ensure!(again.body == hold.body, "the same key gives the same hold");
        Ok((hold.text("name"), hold.body["total"].clone()))
    }

    async fn pay(&mut self, hold: &str, total: &Value) -> anyhow::Result<String> {
        let card = self.store_card(CARD_APPROVED).await?;
        let purchase = json!({
            "hold": hold,
            "passengers": [
                { "givenName": "Asha", "familyName": "Rao" },
                { "givenName": "Vikram", "familyName": "Rao" },
            ],
            "paymentMethod": card,
        });
        let key = mesh::id::generate().to_string();
        let booking =
            self.step("book", Method::POST, "/api/v1/bookings", Some(purchase.clone()), Some(&key)).await?;
        expect(&booking, 200)?;
        let name = booking.text("name");
        let confirmed = self.until("paid and ticketed", &name, "CONFIRMED").await?;
        let locator = confirmed.text("recordLocator");
        ensure!(
            locator.len() == 6,
            "a confirmed booking has a record locator of six characters, not `{locator}`"
        );
        ensure!(
            confirmed.body["tickets"].as_array().is_some_and(|tickets| tickets.len() == 2),
            "one ticket each"
        );
        ensure!(confirmed.body["total"] == *total, "the price is the hold's");

        let again = self
            .step("book again, same key", Method::POST, "/api/v1/bookings", Some(purchase), Some(&key))
            .await?;
        ensure!(again.text("name") == name, "the same key gives the same booking");
        Ok(name)
    }

    async fn cancel(&mut self, booking: &str, total: &Value) -> anyhow::Result<()> {
        let path = format!("/api/v1/{booking}/cancellations");
        let quote = self.step("quote a cancellation", Method::POST, &path, Some(json!({})), None).await?;
        expect(&quote, 200)?;
        let path = format!("/api/v1/{}:confirm", quote.text("name"));
        let key = mesh::id::generate().to_string();
        let confirmed = self.step("cancel", Method::POST, &path, Some(json!({})), Some(&key)).await?;
        expect(&confirmed, 200)?;
        let canceled = self.until("refunded", booking, "CANCELED").await?;
        ensure!(canceled.body["refunded"] == quote.body["refund"], "what was quoted is given back");
        ensure!(canceled.body["total"] == *total, "the total stays on record");
        Ok(())
    }

    /// Reads the booking until it is in `state`.
    async fn until(&mut self, what: &'static str, booking: &str, state: &str) -> anyhow::Result<Answer> {
        let started = Instant::now();
        loop {
            let answer = self.rest.get(&format!("/api/v1/{booking}")).await?;
            expect(&answer, 200)?;
            let now = answer.text("state");
            if now == state {
                let elapsed = started.elapsed();
                print("GET", &format!("/api/v1/{booking}"), None, &answer);
                self.steps.push((what, elapsed));
                return Ok(answer);
            }
            let passing = ["PENDING", "AWAITING_ACTION", "CANCELING", "CONFIRMED"].contains(&now.as_str());
            ensure!(passing, "the booking is {now}, not {state}: {}", answer.body);
            ensure!(started.elapsed() < PATIENCE, "the booking is still {now} after {PATIENCE:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn step(
        &mut self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<Value>,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        let answer = self.rest.send(method.clone(), path, body.as_ref(), &headers).await?;
        print(method.as_str(), path, body.as_ref(), &answer);
        self.steps.push((what, answer.elapsed));
        Ok(answer)
    }

    fn summary(&self) {
        say("The journey, step by step:");
        for (what, elapsed) in &self.steps {
            say(&format!("  {what:<24}{:>8.1} ms", elapsed.as_secs_f64() * 1000.0));
        }
    }
}

fn refundable_fare(flight: &Value) -> Option<String> {
    let cabins = flight["cabins"].as_array()?;
    let economy = cabins.iter().find(|cabin| cabin["cabin"] == "ECONOMY")?;
    let fare = economy["fares"].as_array()?.iter().find(|fare| fare["refundable"] == true)?;
    fare["fare"].as_str().map(str::to_owned)
}

fn expect(answer: &Answer, status: u16) -> anyhow::Result<()> {
    if answer.status == status {
        return Ok(());
    }
    bail!("expected HTTP {status}, got {}: {}", answer.status, answer.body)
}

fn print(method: &str, path: &str, body: Option<&Value>, answer: &Answer) {
    say(&format!("> {method} {path}"));
    if let Some(body) = body {
        say(&format!("> {}", redacted(body)));
    }
    let text = redacted(&answer.body).to_string();
    let mut shown: String = text.chars().take(PRINTED_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    say(&format!("< {} {shown}\n", answer.status));
}

/// The value without its secrets.
fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| {
                let value = if SECRET.contains(&name.as_str()) { json!("…") } else { redacted(value) };
                (name.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(redacted).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[expect(clippy::print_stdout, reason = "the demo is there to be read")]
fn say(line: &str) {
    println!("{line}");
}
