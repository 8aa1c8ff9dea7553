//! A seat is sold once, whoever sells it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    harness::{card, purchase, traveller, unique, until_state},
    mesh_of_processes::Mesh,
};

const CLIENTS: usize = 200;
const SEATS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_through_two_processes_buy_ten_seats_and_not_one_more() {
    let mesh = Mesh::start().await;
    let flight = mesh.flight_with_seats(SEATS).await;
    // Two edges, each in front of a bookings process of its own, on one database.
    let (second_bookings, address) = mesh.run_another("bookings");
    let (second_edge, edges) = mesh.edge_to(address).await;

    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        clients.push(traveller(&edges[index % 2]).await);
    }
    let mut calls = JoinSet::new();
    for client in clients {
        let body = json!({ "items": [{ "flight": flight, "cabin": "ECONOMY", "fare": "FLEX" }] });
        calls.spawn(async move {
            let answer = client.post_with_key("/api/v1/holds", &body, &unique()).await;
            (client, answer.expect("an answer"))
        });
    }
    let mut statuses = BTreeMap::new();
    let mut winners = Vec::new();
    while let Some(call) = calls.join_next().await {
        let (client, answer) = call.expect("no panic");
        if answer.status == 409 {
            assert_eq!(answer.reason(), "SOLD_OUT", "{}", answer.body);
        } else {
            winners.push((client, answer.text("name")));
        }
        *statuses.entry(answer.status).or_insert(0_usize) += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(200, SEATS), (409, CLIENTS - SEATS)]));

    let mut seats = BTreeSet::new();
    for (client, hold) in winners {
        let card = card(&client, "4242424242424242").await;
        let booking = client.post_with_key("/api/v1/bookings", &purchase(&hold, &card), &unique()).await;
        let name = booking.expect("an answer").text("name");
        let confirmed = until_state(&client, &name, &["CONFIRMED"]).await;
        seats.insert(confirmed["items"][0]["seatNumber"].to_string());
    }
    assert_eq!(seats.len(), SEATS, "every winner has a seat of their own");
    let map = edges[0].get(&format!("/api/v1/{flight}/seatMap")).await.expect("an answer");
    assert_eq!(map.body.to_string().matches("\"SOLD\"").count(), SEATS, "{}", map.body);
    second_edge.terminate();
    second_bookings.terminate();
}
