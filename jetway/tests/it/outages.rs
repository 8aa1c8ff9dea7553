//! What goes on while a service is gone.

use serde_json::json;

use crate::{
    harness::{buy, card, flight, hold, jetway, traveller, until_state},
    mesh_of_processes::Mesh,
};

#[tokio::test(flavor = "multi_thread")]
async fn without_identity_a_live_token_still_books_and_without_payments_everything_up_to_the_money_works() {
    let mut mesh = Mesh::start().await;
    mesh.load_timetable().await;
    let rest = mesh.rest();
    // With everything there, the whole journey works through separate processes too.
    let (green, said) = jetway(&["demo", "--url", &mesh.url()]);
    assert!(green, "{said}");
    let traveller = traveller(&rest).await;
    let card = card(&traveller, "4242424242424242").await;
    let flight = flight(&rest, 20).await;

    mesh.kill("identity");
    let booking = buy(&traveller, &flight, &card).await;
    until_state(&traveller, &booking, &["CONFIRMED"]).await;
    mesh.run("identity");

    mesh.kill("payments");
    let found = rest.get("/api/v1/flights?trips=DEL-BLR&travellers=1&pageSize=1").await.expect("an answer");
    assert_eq!(found.status, 200, "{}", found.body);
    let held = hold(&traveller, &flight).await;
    assert_eq!(held.status, 200, "{}", held.body);
    let waiting = buy(&traveller, &flight, &card).await;
    let methods = traveller.get("/api/v1/paymentMethods").await.expect("an answer");
    assert_eq!(methods.status, 503, "what needs payments says that it is away: {}", methods.body);
    assert!(!methods.body.to_string().contains("127.0.0.1"), "no address is shown: {}", methods.body);
    let pending = traveller.get(&format!("/api/v1/{waiting}")).await.expect("an answer");
    assert_eq!(pending.text("state"), "PENDING");

    mesh.run("payments");
    until_state(&traveller, &waiting, &["CONFIRMED"]).await;
    let release = traveller
        .post(&format!("/api/v1/{}:release", held.text("name")), &json!({}))
        .await
        .expect("an answer");
    assert_eq!(release.status, 200, "{}", release.body);

    for service in ["edge", "bookings", "payments", "acquirer", "identity"] {
        mesh.running.remove(service).expect("it runs").terminate();
    }
}
