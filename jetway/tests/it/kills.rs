//! `kill -9` of everything at once, again and again, with purchases in flight.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use diesel::{QueryableByName, sql_types::BigInt};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jetway::{data_dir::DataDir, databases::Databases, rest::Rest};
use tokio::task::JoinSet;

use crate::harness::{
    PATIENCE, Up, card, data_dir, eventually, flight, hold, jetway, purchase, traveller, unique,
};

const KILLS: usize = 20;

/// Purchases that are sent in each round, one for each traveller.
const TRAVELLERS: usize = 40;

/// Bookings that must not have ended yet when the platform is killed.
const IN_FLIGHT_MIN: i64 = 10;

/// How long after a restart every booking has ended.
const ENDED_MAX: Duration = Duration::from_mins(1);

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[tokio::test(flavor = "multi_thread")]
async fn after_each_of_twenty_kills_every_booking_ends_and_no_money_or_seat_is_lost() {
    let data = data_dir();
    let mut up = Up::start(data.path());
    let mut travellers = Vec::new();
    for index in 0..TRAVELLERS {
        let traveller = traveller(&up.rest()).await;
        // Every fourth card is declined, so that compensation is interrupted too.
        let number = if index % 4 == 3 { "4000000000000002" } else { "4242424242424242" };
        let card = card(&traveller, number).await;
        travellers.push((traveller, card));
    }

    for round in 0..KILLS {
        // A flight of its own for each round: forty travellers a round would sell one out.
        let flight = flight(&up.rest(), 3 + i64::try_from(round).expect("twenty")).await;
        let mut holds = Vec::new();
        for (traveller, _) in &travellers {
            let held = hold(traveller, &flight).await;
            assert_eq!(held.status, 200, "round {round}: {}", held.body);
            holds.push(held.text("name"));
        }
        let mut bookings = connect(data.path()).await;
        // All at once, so that many are under way at the same time.
        let mut purchases = JoinSet::new();
        for ((traveller, card), hold) in travellers.iter().zip(holds) {
            let (rest, body, key) = (traveller.clone(), purchase(&hold, card), unique());
            purchases.spawn(async move {
                // The answer may be lost with the platform; then the same key gives it later.
                let _ = rest.post_with_key("/api/v1/bookings", &body, &key).await;
                (rest, body, key)
            });
        }
        let asked = Instant::now();
        loop {
            // Frozen, so that what is counted is what is there when it dies.
            up.freeze();
            if not_ended(&mut bookings).await >= IN_FLIGHT_MIN {
                break;
            }
            up.thaw();
            assert!(
                asked.elapsed() < PATIENCE,
                "round {round}: never were {IN_FLIGHT_MIN} bookings under way"
            );
        }
        up.kill();
        drop(bookings);

        let restarted = Instant::now();
        up = Up::start(data.path());
        let address = up.rest();
        while let Some(purchase) = purchases.join_next().await {
            let (old, body, key) = purchase.expect("no panic");
            let rest = old.moved_to(&address);
            let again = retried(&rest, &body, &key).await;
            assert_eq!(again, 200, "round {round}: a client's retry with its key is answered");
        }
        for (traveller, _) in &mut travellers {
            *traveller = traveller.moved_to(&address);
        }
        let mut bookings = connect(data.path()).await;
        eventually("every booking has ended", async || (not_ended(&mut bookings).await == 0).then_some(()))
            .await;
        let took = restarted.elapsed();
        assert!(took < ENDED_MAX, "round {round}: bookings ended only after {took:?}");

        let (clean, said) = jetway(&["audit", "--data", data.path().to_str().expect("ASCII letters")]);
        assert!(clean, "round {round}: {said}");
    }
}

async fn retried(rest: &Rest, body: &serde_json::Value, key: &str) -> u16 {
    eventually("the retry is answered", async || {
        let answer = rest.post_with_key("/api/v1/bookings", body, key).await.ok()?;
        // 409: the first call is still being worked on.
        (answer.status != 409 && answer.status != 503).then_some(answer.status)
    })
    .await
}

async fn connect(data: &Path) -> AsyncPgConnection {
    let dir = DataDir::open(data).expect("the data directory");
    mesh::testing::connection(&Databases::known(&dir).expect("the platform runs").url("bookings")).await
}

async fn not_ended(bookings: &mut AsyncPgConnection) -> i64 {
    let sql =
        "SELECT count(*) AS count FROM bookings WHERE state IN ('PENDING', 'AWAITING_ACTION', 'CANCELING')";
    let found: Count = diesel::sql_query(sql).get_result(bookings).await.expect("the table is there");
    found.count
}
