//! A seat is sold once, whoever sells it.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    harness::{traveller, unique},
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
        calls.spawn(async move { client.post_with_key("/api/v1/holds", &body, &unique()).await });
    }
    let mut statuses = BTreeMap::new();
    while let Some(answer) = calls.join_next().await {
        let answer = answer.expect("no panic").expect("an answer");
        if answer.status == 409 {
            assert_eq!(answer.reason(), "SOLD_OUT", "{}", answer.body);
        }
        *statuses.entry(answer.status).or_insert(0_usize) += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(200, SEATS), (409, CLIENTS - SEATS)]));
    second_edge.terminate();
    second_bookings.terminate();
}
