//! Databases with the tables of `mesh::migrations`.

use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl as _};
use diesel_migrations::MigrationHarness as _;
use mesh::config::DatabaseConfig;
use mesh::testing;

/// A database of its own for one test, on the one server of the test's process.
pub(crate) struct Database {
    pub(crate) config: DatabaseConfig,
}

impl Database {
    /// Makes it, with its tables.
    pub(crate) async fn new() -> Self {
        Self { config: testing::database("mesh", || mesh::migrations::MIGRATIONS).await }
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
        testing::connection(&self.config.url).await
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
