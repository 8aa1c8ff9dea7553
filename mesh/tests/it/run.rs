//! How services start and stop.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl as _;
use mesh::config::{DatabaseConfig, ServerConfig};
use mesh::testing;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::database::Database;
use crate::echo::{Config, GET_JWKS, Handler, SIGN_OUT, ask, soon};
use crate::peers::answer;

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken = holder.local_addr().expect("an address");
    let free = testing::free_ports;

    for (server, what) in [
        (ServerConfig { listen: taken, ..free() }, "calls"),
        (ServerConfig { probe_listen: taken, ..free() }, "probes"),
        (ServerConfig { admin_listen: taken, ..free() }, "operators"),
    ] {
        let error = Config { server: Some(server), ..Config::new() }.start().await.err().expect("taken");
        assert_eq!(
            error.to_string(),
            format!("bookings cannot listen for {what} on {taken}: is the port taken?")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_there_ends_the_start() {
    let error = Config { server: Some(testing::free_ports()), ..Config::default() }.start().await.err();

    assert_eq!(error.expect("no certificate").to_string(), "load the workload certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_calls_in_flight_end_and_takes_no_new_connection() {
    for path in [GET_JWKS, SIGN_OUT] {
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = Handler::new({
            let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
            move |_| {
                let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
                async move {
                    entered.notify_one();
                    leave.notified().await;
                    answer(0)
                }
            }
        });
        let running = Config { handler, ..Config::new() }.start().await.expect("started");
        let address = running.address();
        let channel = testing::channel("edge", "bookings", address);

        let stopped = async {
            entered.notified().await;
            let refused = async {
                while TcpStream::connect(address).await.is_ok() {
                    tokio::task::yield_now().await;
                }
                leave.notify_one();
            };
            tokio::join!(running.stop(), refused);
        };
        let (answered, ()) = soon(async { tokio::join!(ask(&channel, path, &[]), stopped) }).await;

        answered.expect("the call was finished");
    }
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

async fn migrations(database: &DatabaseConfig) -> i64 {
    let mut conn = testing::connection(&database.url).await;
    let count = "SELECT count(*) AS count FROM __diesel_schema_migrations";
    diesel::sql_query(count).get_result::<Count>(&mut conn).await.expect("counted").count
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_on_an_empty_database_all_come_up() {
    let database = testing::empty_database().await;
    let replica = || Config { database: Some(database.clone()), ..Config::new() }.start();

    let replicas = futures::future::join_all((0..3).map(|_| replica())).await;

    for replica in replicas {
        let replica = replica.expect("started");
        soon(replica.ready()).await;
        replica.stop().await;
    }
    assert_eq!(migrations(&database).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_have_run_do_not_run_again() {
    let database = Database::new().await.config;
    let before = migrations(&database).await;

    mesh::db::migrate(&database, mesh::migrations::MIGRATIONS).await.expect("nothing to do");

    assert_eq!(migrations(&database).await, before);
}
