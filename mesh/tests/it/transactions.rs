//! Transactions: what stays, what goes, and what is run again.

use std::sync::atomic::{AtomicU32, Ordering};

use diesel::QueryableByName;
use diesel::result::Error as DieselError;
use diesel::sql_types::BigInt;
use diesel_async::pooled_connection::deadpool::PoolError;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use mesh::config::DatabaseConfig;
use mesh::db::{ATTEMPTS_MAX, Db, LostRace};
use tokio::sync::Barrier;

use crate::database::Database;

#[derive(Debug)]
enum Error {
    Refused,
    Database(DieselError),
    Pool,
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Self {
        Self::Database(error)
    }
}

impl From<PoolError> for Error {
    fn from(_: PoolError) -> Self {
        Self::Pool
    }
}

impl LostRace for Error {
    fn lost_race(&self) -> bool {
        matches!(self, Self::Database(error) if error.lost_race())
    }
}

/// A database with a table of two rows, `(1, 0)` and `(2, 0)`.
async fn accounts() -> (Database, Db) {
    let database = Database::new().await;
    let table = "CREATE TABLE accounts (id bigint PRIMARY KEY, balance bigint NOT NULL); \
                 INSERT INTO accounts VALUES (1, 0), (2, 0)";
    database.connect().await.batch_execute(table).await.expect("created");
    let db = Db::new(&database.config).expect("a pool");
    (database, db)
}

async fn add(conn: &mut AsyncPgConnection, id: i64) -> Result<(), Error> {
    let update = format!("UPDATE accounts SET balance = balance + 1 WHERE id = {id}");
    Ok(conn.batch_execute(&update).await?)
}

/// Fails as PostgreSQL does, with this SQLSTATE.
async fn fail(conn: &mut AsyncPgConnection, code: &str) -> Result<(), Error> {
    Ok(conn.batch_execute(&format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")).await?)
}

#[derive(QueryableByName)]
struct Sum {
    #[diesel(sql_type = BigInt)]
    sum: i64,
}

async fn sum(database: &Database) -> i64 {
    // Not for the whole file: atomics would load queries.
    use diesel_async::RunQueryDsl as _;

    let mut conn = database.connect().await;
    let sum = "SELECT sum(balance)::bigint AS sum FROM accounts";
    diesel::sql_query(sum).get_result::<Sum>(&mut conn).await.expect("summed").sum
}

#[tokio::test(flavor = "multi_thread")]
async fn what_succeeds_stays_and_what_fails_leaves_nothing() {
    let (database, db) = accounts().await;

    db.transaction("succeeds", async |conn| add(conn, 1).await).await.expect("committed");
    assert_eq!(sum(&database).await, 1);
    let refused = db
        .transaction("fails", async |conn| {
            add(conn, 1).await?;
            Err::<(), _>(Error::Refused)
        })
        .await;
    assert!(matches!(refused, Err(Error::Refused)));
    assert_eq!(sum(&database).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_race_is_run_again_from_the_start() {
    let (database, db) = accounts().await;
    let attempts = AtomicU32::new(0);

    db.transaction("loses", async |conn| {
        add(conn, 1).await?;
        if attempts.fetch_add(1, Ordering::SeqCst) + 1 < ATTEMPTS_MAX {
            fail(conn, "40001").await
        } else {
            Ok(())
        }
    })
    .await
    .expect("the last attempt wins");

    assert_eq!((attempts.into_inner(), sum(&database).await), (ATTEMPTS_MAX, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_that_is_always_lost_is_given_up() {
    let (database, db) = accounts().await;
    let attempts = AtomicU32::new(0);

    let lost = db
        .transaction("loses", async |conn| {
            attempts.fetch_add(1, Ordering::SeqCst);
            add(conn, 1).await?;
            fail(conn, "40001").await
        })
        .await
        .expect_err("given up");

    assert!(lost.lost_race(), "{lost:?}");
    assert_eq!((attempts.into_inner(), sum(&database).await), (ATTEMPTS_MAX, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_errors_are_not_run_again() {
    let (_database, db) = accounts().await;
    let attempts = AtomicU32::new(0);

    for code in ["23505", "P0001", "55P03"] {
        attempts.store(0, Ordering::SeqCst);
        let failed = db
            .transaction("fails", async |conn| {
                attempts.fetch_add(1, Ordering::SeqCst);
                fail(conn, code).await
            })
            .await;
        assert!(matches!(failed, Err(Error::Database(_))), "{failed:?}");
        assert_eq!(attempts.load(Ordering::SeqCst), 1, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_wait_for_each_other_both_succeed() {
    let (database, db) = accounts().await;
    let (both, attempts) = (Barrier::new(2), AtomicU32::new(0));
    let transfer = async |from: i64, to: i64| {
        db.transaction("transfer", async |conn| {
            add(conn, from).await?;
            // Each has its first row before the other asks for it. Afterwards there is nobody to wait for.
            if attempts.fetch_add(1, Ordering::SeqCst) < 2 {
                both.wait().await;
            }
            add(conn, to).await
        })
        .await
    };

    let (one, other) = tokio::join!(transfer(1, 2), transfer(2, 1));

    one.expect("committed");
    other.expect("committed");
    assert!(attempts.load(Ordering::SeqCst) > 2, "one of them was run again");
    assert_eq!(sum(&database).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_good_again_after_a_failed_transaction() {
    let (database, _) = accounts().await;
    let db = Db::new(&DatabaseConfig { connections_max: 1, ..database.config.clone() }).expect("a pool");

    for _ in 0..3 {
        db.transaction("fails", async |conn| fail(conn, "23505").await).await.expect_err("failed");
        db.transaction("succeeds", async |conn| add(conn, 1).await).await.expect("committed");
    }

    assert_eq!(sum(&database).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pool_refuses() {
    let (_database, db) = accounts().await;
    assert!(db.is_up().await);

    db.close();

    assert!(!db.is_up().await);
    let refused = db.transaction("closed", async |conn| add(conn, 1).await).await;
    assert!(matches!(refused, Err(Error::Pool)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_waits_for_a_lock_for_long_or_runs_for_ever() {
    use diesel_async::RunQueryDsl as _;

    #[derive(QueryableByName)]
    struct Settings {
        #[diesel(sql_type = diesel::sql_types::Text)]
        settings: String,
    }
    let (_database, db) = accounts().await;
    let mut conn = db.connection().await.expect("a connection");

    let settings = "SELECT concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), \
                    current_setting('idle_in_transaction_session_timeout'), current_setting('timezone')) AS settings";
    let Settings { settings } = diesel::sql_query(settings).get_result(&mut conn).await.expect("settings");

    assert_eq!(settings, "20s 5s 30s UTC");
}
