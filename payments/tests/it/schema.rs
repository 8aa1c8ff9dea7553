//! `src/schema.rs` says what the migrations make.

use diesel::{QueryableByName, sql_types::Text};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};

use crate::harness::TestPayments;

#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    column: String,
}

/// `table.column type` of every column that the file declares.
fn declared(source: &str) -> Vec<String> {
    let mut columns = Vec::new();
    let mut table = "";
    for line in source.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" (").filter(|_| line.ends_with(") {")) {
            table = name;
        } else if let Some((name, kind)) =
            line.trim_end_matches(',').split_once(" -> ").filter(|_| line.ends_with(','))
        {
            columns.push(format!("{table}.{name} {kind}"));
        }
    }
    columns.sort();
    columns
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_the_one_that_the_migrations_make() {
    let t = TestPayments::start().await;
    for (database, source, left_out) in [
        (t.databases()[0], include_str!("../../src/schema.rs"), "ledger_balances"),
        (t.databases()[1], include_str!("../../acquirer/src/schema.rs"), ""),
    ] {
        let mut conn = mesh::testing::connection(&database.url).await;
        let stored: Vec<Column> = diesel::sql_query(
            "SELECT CASE c.table_schema WHEN 'public' THEN '' ELSE c.table_schema || '.' END || c.table_name || '.' || c.column_name \
             || ' ' || CASE c.is_nullable WHEN 'YES' THEN 'Nullable<' ELSE '' END || CASE c.udt_name \
             WHEN 'text' THEN 'Text' WHEN 'int2' THEN 'Int2' WHEN 'int4' THEN 'Int4' WHEN 'int8' THEN 'Int8' \
             WHEN 'uuid' THEN 'Uuid' WHEN 'bool' THEN 'Bool' WHEN 'bytea' THEN 'Bytea' WHEN 'timestamptz' THEN 'Timestamptz' WHEN '_text' THEN 'Array<Text>' \
             ELSE c.udt_name END || CASE c.is_nullable WHEN 'YES' THEN '>' ELSE '' END AS column \
             FROM information_schema.columns AS c INNER JOIN information_schema.tables AS t USING (table_schema, table_name) \
             WHERE c.table_schema IN ('public', 'vault') AND t.table_type = 'BASE TABLE' \
             AND c.table_name NOT IN ('idempotency_keys', 'outbox', '__diesel_schema_migrations', $1)",
        )
        .bind::<Text, _>(left_out)
        .load(&mut conn)
        .await
        .unwrap();
        let mut stored: Vec<_> = stored.into_iter().map(|stored| stored.column).collect();
        stored.sort();

        assert_eq!(declared(source), stored);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_can_be_undone_and_done_again() {
    let t = TestPayments::start().await;
    let [payments, acquirer] = t.databases();
    for (database, migrations) in [
        (
            payments,
            &[
                (
                    include_str!("../../migrations/2026-11-21-200001_vault/up.sql"),
                    include_str!("../../migrations/2026-11-21-200001_vault/down.sql"),
                ),
                (
                    include_str!("../../migrations/2026-11-21-200002_payments/up.sql"),
                    include_str!("../../migrations/2026-11-21-200002_payments/down.sql"),
                ),
                (
                    include_str!("../../migrations/2026-11-21-200003_ledger/up.sql"),
                    include_str!("../../migrations/2026-11-21-200003_ledger/down.sql"),
                ),
                (
                    include_str!("../../migrations/2026-11-21-200004_invariants/up.sql"),
                    include_str!("../../migrations/2026-11-21-200004_invariants/down.sql"),
                ),
                (
                    include_str!("../../migrations/2026-11-21-200010_webhooks/up.sql"),
                    include_str!("../../migrations/2026-11-21-200010_webhooks/down.sql"),
                ),
            ][..],
        ),
        (
            acquirer,
            &[(
                include_str!("../../acquirer/migrations/2026-11-21-100001_operations/up.sql"),
                include_str!("../../acquirer/migrations/2026-11-21-100001_operations/down.sql"),
            )][..],
        ),
    ] {
        let mut conn = mesh::testing::connection(&database.url).await;
        for (_, down) in migrations.iter().rev() {
            conn.batch_execute(down).await.expect("the migration can be undone");
        }
        for (up, _) in migrations {
            conn.batch_execute(up).await.expect("nothing was left behind");
        }
    }
}
