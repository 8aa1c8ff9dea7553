//! `src/schema.rs` and the migrations say the same.

use std::{collections::BTreeMap, fmt::Write as _};

use diesel_async::AsyncMigrationHarness;
use diesel_migrations::MigrationHarness as _;

use crate::harness::TestIdentity;

/// Tables of `mesh`, and diesel's own.
const FOREIGN: &str = "('idempotency_keys', 'outbox', '__diesel_schema_migrations')";

/// What `diesel print-schema` would print, by what the database says of itself.
async fn printed(t: &TestIdentity) -> String {
    let tables = t
        .texts(&format!(
            "SELECT table_name || ' ' || (SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) \
             FROM information_schema.key_column_usage k JOIN information_schema.table_constraints c USING (constraint_name) \
             WHERE c.constraint_type = 'PRIMARY KEY' AND c.table_name = t.table_name) AS text \
             FROM information_schema.tables t WHERE table_schema = 'public' AND table_name NOT IN {FOREIGN} \
             ORDER BY table_name"
        ))
        .await;
    let types = BTreeMap::from([
        ("int8", "Int8"),
        ("text", "Text"),
        ("bytea", "Bytea"),
        ("uuid", "Uuid"),
        ("timestamptz", "Timestamptz"),
    ]);
    let mut text = String::new();
    let mut names = Vec::new();
    for table in tables {
        let (name, key) = table.split_once(' ').expect("a name and a key");
        write!(text, "diesel::table! {{ {name} ({key}) {{ ").expect("written");
        let columns = t
            .texts(&format!(
                "SELECT column_name || ' ' || udt_name || ' ' || is_nullable AS text FROM information_schema.columns \
                 WHERE table_name = '{name}' ORDER BY ordinal_position"
            ))
            .await;
        for column in columns {
            let [column, kind, nullable] = column.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{column}")
            };
            let kind = types[kind];
            let kind = if nullable == "YES" { format!("Nullable<{kind}>") } else { kind.to_owned() };
            write!(text, "{column} -> {kind}, ").expect("written");
        }
        text.push_str("} } ");
        names.push(name.to_owned());
    }
    let joins = t
        .texts(
            "SELECT format('diesel::joinable!(%s -> %s (%s)); ', c.conrelid::regclass, c.confrelid::regclass, a.attname) AS text \
             FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] \
             WHERE c.contype = 'f' ORDER BY c.conrelid::regclass::text, c.confrelid::regclass::text",
        )
        .await;
    text.push_str(&joins.concat());
    write!(text, "diesel::allow_tables_to_appear_in_same_query!( {}, );", names.join(", ")).expect("written");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_in_the_code_is_the_one_in_the_database() {
    let t = TestIdentity::start().await;

    let written: Vec<_> = include_str!("../../src/schema.rs")
        .lines()
        .filter(|line| !line.starts_with("//"))
        .flat_map(str::split_whitespace)
        .collect();

    assert_eq!(written.join(" "), printed(&t).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_migration_can_be_taken_back_and_run_again() {
    let t = TestIdentity::start().await;
    let before = printed(&t).await;
    let conn = t.connection().await;

    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        // Newest first, down to those of `mesh`, which come before.
        for _ in 0..6 {
            harness.revert_last_migration(identity::MIGRATIONS).map(drop).expect("reverted");
        }
        harness.run_pending_migrations(identity::MIGRATIONS).map(drop).expect("run again");
    })
    .await
    .expect("no panic");

    assert_eq!(printed(&t).await, before);
}
