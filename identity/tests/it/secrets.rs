//! Nothing secret is where it does not belong.

use crate::harness::{PASSWORD, TestIdentity};

/// Every row of every table, as text.
async fn dump(t: &TestIdentity) -> Vec<(String, String)> {
    let tables = t
        .texts("SELECT table_name::text AS text FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1")
        .await;
    let mut rows = Vec::new();
    for table in tables {
        for row in t.texts(&format!("SELECT to_jsonb(r)::text AS text FROM {table} r")).await {
            rows.push((table.clone(), row));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_or_token_is_in_the_database_and_hashes_are_in_one_table() {
    let t = TestIdentity::start().await;
    let (_, first) = t.customer("ada@example.org").await;
    let second = t.refresh(&first.refresh_token).await.expect("refreshed");
    t.sign_in("ada@example.org", "canary password").await.expect_err("wrong");
    t.sign_in("canary password", "canary password").await.expect_err("typed into the wrong field");

    let rows = dump(&t).await;

    let tables_with = |needle: &str| {
        let mut tables: Vec<_> =
            rows.iter().filter(|(_, row)| row.contains(needle)).map(|(table, _)| table.as_str()).collect();
        tables.dedup();
        tables
    };
    for secret in [
        PASSWORD,
        "canary password",
        &first.access_token,
        &second.access_token,
        &first.refresh_token,
        &second.refresh_token,
        &first.refresh_token["art1.".len()..],
        first.access_token.rsplit('.').next().expect("a signature"),
    ] {
        assert_eq!(tables_with(secret), Vec::<&str>::new());
    }
    assert_eq!(tables_with("$argon2id$"), ["credentials"]);
    // The same search finds what is there.
    assert_eq!(tables_with("ada@example.org"), ["users"]);
    assert_eq!(tables_with(&first.session_id), ["audit_events", "sessions"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_shows_a_secret_when_it_is_printed() {
    let t = TestIdentity::start().await;
    let (user, tokens) = t.customer("ada@example.org").await;
    let refused = t.sign_in("ada@example.org", "canary password").await.expect_err("wrong");
    let replayed = t.refresh(&tokens.refresh_token.replace("art1.", "art2.")).await.expect_err("no token");
    let (_, admin) = t.admin("admin@example.org").await;
    let seen = t.assign(&admin.access_token, &user.uid, "flight_company").await.expect("assigned");

    let printed = format!("{user:?} {tokens:?} {refused:?} {replayed:?} {seen:?}");

    for secret in
        [PASSWORD, "canary password", &tokens.access_token, &tokens.refresh_token[5..], "$argon2", "phc"]
    {
        assert!(!printed.contains(secret), "{printed}");
    }
    assert!(printed.contains("ada@example.org"), "what is not secret is printed: {printed}");
}
