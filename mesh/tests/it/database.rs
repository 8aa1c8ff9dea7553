//! Databases with the tables of `mesh::migrations`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{
    AsyncConnection as _, AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl as _,
    SimpleAsyncConnection as _,
};
use diesel_migrations::MigrationHarness as _;
use mesh::postgres::Cluster;
use secrecy::{ExposeSecret as _, SecretString};

/// A database of its own for one test, on the one server of the test's process.
pub(crate) struct Database {
    url: SecretString,
}

impl Database {
    /// Makes it, with its tables.
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // The first one starts the server, which blocks.
        let cluster = tokio::task::spawn_blocking(cluster).await.expect("no panic");
        let mut admin = connect(&cluster.admin_url()).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("created");
        let database = Self { url: cluster.admin_url_for(&name) };
        let conn = database.connect().await;
        tokio::task::spawn_blocking(|| {
            let mut harness = AsyncMigrationHarness::new(conn);
            harness.run_pending_migrations(mesh::migrations::MIGRATIONS).map(drop).expect("migrated");
        })
        .await
        .expect("no panic");
        database
    }

    /// Returns when a statement of a test waits for another transaction.
    pub(crate) async fn await_waiter(&self) {
        let mut conn = self.connect().await;
        let waiters = "SELECT count(*) AS count FROM pg_stat_activity \
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        loop {
            let waiting: Waiters = diesel::sql_query(waiters).get_result(&mut conn).await.expect("counted");
            if waiting.count > 0 {
                return;
            }
        }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> AsyncPgConnection {
        connect(&self.url).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_can_be_undone_and_done_again() {
    let conn = Database::new().await.connect().await;
    tokio::task::spawn_blocking(|| {
        let mut harness = AsyncMigrationHarness::new(conn);
        let undone = harness.revert_all_migrations(mesh::migrations::MIGRATIONS).expect("undone").len();
        let done = harness.run_pending_migrations(mesh::migrations::MIGRATIONS).expect("done").len();
        assert_eq!((undone, done), (2, 2));
    })
    .await
    .expect("no panic");
}

#[derive(QueryableByName)]
struct Waiters {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

async fn connect(url: &SecretString) -> AsyncPgConnection {
    AsyncPgConnection::establish(url.expose_secret()).await.expect("connected")
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::temporary().expect("started"))
}
