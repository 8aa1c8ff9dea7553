//! `src/schema.rs` and the migrations say the same.

use std::collections::BTreeMap;

use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl as _};
use diesel_migrations::MigrationHarness as _;

use crate::harness::TestBookings;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

async fn lines(t: &TestBookings, sql: &str) -> Vec<String> {
    let rows: Vec<Line> = diesel::sql_query(sql).get_results(&mut t.connection().await).await.expect("lines");
    rows.into_iter().map(|row| row.line).collect()
}

/// Every table of this service as `table (key): column type, …`.
async fn stored(t: &TestBookings) -> BTreeMap<String, String> {
    let tables = lines(
        t,
        "SELECT t.table_name || ' (' || string_agg(k.column_name, ', ' ORDER BY k.ordinal_position) || ')' AS line \
         FROM information_schema.tables t \
         JOIN information_schema.table_constraints c ON c.table_name = t.table_name AND c.constraint_type = 'PRIMARY KEY' \
         JOIN information_schema.key_column_usage k USING (constraint_name) \
         WHERE t.table_schema = 'public' AND t.table_type = 'BASE TABLE' \
         AND t.table_name NOT IN ('idempotency_keys', 'outbox', '__diesel_schema_migrations') GROUP BY t.table_name",
    )
    .await;
    let mut stored = BTreeMap::new();
    for table in tables {
        let name = table.split(' ').next().expect("a name").to_owned();
        let columns = lines(
            t,
            &format!(
                "SELECT column_name || ' ' || udt_name || CASE is_nullable WHEN 'YES' THEN '?' ELSE '' END AS line \
                 FROM information_schema.columns WHERE table_name = '{name}' ORDER BY ordinal_position"
            ),
        )
        .await;
        stored.insert(table, columns.join(", "));
    }
    stored
}

/// The same of `src/schema.rs`.
fn written() -> BTreeMap<String, String> {
    let mut tables = BTreeMap::new();
    let mut current: Option<(String, Vec<String>)> = None;
    for line in include_str!("../../src/schema.rs").lines().map(str::trim) {
        if let Some((column, kind)) = line.split_once(" -> ") {
            let kind = kind.trim_end_matches(',');
            let inner = kind.strip_prefix("Nullable<").and_then(|kind| kind.strip_suffix('>'));
            let kind = match inner {
                Some(inner) => format!("{}?", inner.to_lowercase()),
                None => kind.to_lowercase(),
            };
            current.as_mut().expect("inside a table").1.push(format!("{column} {kind}"));
        } else if line.ends_with(") {") {
            current = Some((line.trim_end_matches(" {").to_owned(), Vec::new()));
        } else if line == "}"
            && let Some((table, columns)) = current.take()
        {
            tables.insert(table, columns.join(", "));
        }
    }
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_in_the_code_is_the_one_in_the_database() {
    let t = TestBookings::start().await;
    assert_eq!(written(), stored(&t).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_can_be_taken_back_and_run_again() {
    let t = TestBookings::start().await;
    let before = stored(&t).await;
    let conn = t.connection().await;

    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        // Newest first, down to those of `mesh`, which come before.
        for _ in 0..3 {
            harness.revert_last_migration(bookings::MIGRATIONS).map(drop).expect("reverted");
        }
        harness.run_pending_migrations(bookings::MIGRATIONS).map(drop).expect("run again");
    })
    .await
    .expect("no panic");

    assert_eq!(stored(&t).await, before);
    t.is_clean().await;
}
