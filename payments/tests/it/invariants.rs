//! Every invariant fires when it is broken, or the database refuses to break it.

use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use jiff::SignedDuration;

use crate::harness::{Fault, TestPayments, VISA, key};

/// How to break each invariant, behind the back of triggers and foreign keys.
const BREAKS: [(&str, &str); 16] = [
    ("l01", "UPDATE ledger_entries SET amount_minor = amount_minor + 1 WHERE side = 'D'"),
    ("l02", "DELETE FROM ledger_entries WHERE side = 'C'"),
    (
        "l03",
        "INSERT INTO ledger_txs (id, source_type, source_id, kind, phase, created_at) \
         VALUES (gen_random_uuid(), 'refund', gen_random_uuid(), 'refund_created', 'POSTED', now())",
    ),
    ("l04", "UPDATE ledger_balances SET posted_minor = posted_minor + 1"),
    ("l05", "UPDATE ledger_balances SET pending_minor = pending_minor + 1"),
    (
        "l06",
        "UPDATE ledger_entries SET amount_minor = amount_minor * 2 \
         WHERE tx_id IN (SELECT id FROM ledger_txs WHERE kind = 'captured')",
    ),
    (
        "l07",
        "DELETE FROM ledger_entries WHERE tx_id IN (SELECT id FROM ledger_txs WHERE kind = 'refund_created')",
    ),
    ("p01", "DELETE FROM captures"),
    ("p02", "UPDATE refunds SET state = 'FAILED'"),
    ("p04", "DELETE FROM ledger_txs WHERE kind = 'captured'"),
    ("p05", "UPDATE refunds SET currency = 'EUR'"),
    ("p07", "UPDATE attempts SET created_at = created_at - interval '16 minutes'"),
    (
        "p08",
        "UPDATE payment_intents SET state = 'CANCELED', step = NULL WHERE state IN ('REQUIRES_CAPTURE', 'PROCESSING')",
    ),
    ("p10", "UPDATE idempotency_keys SET subject = (SELECT id FROM payment_intents LIMIT 1)"),
    (
        "p11",
        "UPDATE idempotency_keys SET state = 'IN_PROGRESS', response = NULL, status = NULL, \
         lease_expires_at = lease_expires_at - interval '16 minutes'",
    ),
    ("p12", "UPDATE merchants SET display_name = 'call 4242424242424242'"),
];

/// Invariants that a constraint holds: the write is refused.
const REFUSED: [(&str, &str); 2] = [
    ("p03", "UPDATE payment_intents SET amount_refunded_minor = amount_captured_minor + 1"),
    (
        "p09",
        "INSERT INTO attempts SELECT gen_random_uuid(), intent_id, kind, n + 1, gen_random_uuid(), state, currency, amount_minor, \
         payment_method_id, source_id, refund_id, decline_code, NULL, NULL, NULL, lease_expires_at, sent_at, created_at, resolved_at \
         FROM attempts WHERE kind = 'AUTHORIZE' AND state = 'APPROVED'",
    ),
];

/// Books with something of everything in them.
async fn books() -> TestPayments {
    let t = TestPayments::start().await;
    let intent = t.captured().await;
    t.refund(&intent.name, Some(100), &key()).await.unwrap();
    let canceled = t.authorized().await;
    t.cancel(&canceled.name, &key()).await.unwrap();
    t.authorized().await;
    let unknown = t.ready(VISA).await;
    t.fail_next(Fault::LoseRequest);
    t.confirm(&unknown.name, &key()).await.unwrap();
    t
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_that_is_broken_fires() {
    let t = books().await;
    t.check().await;
    let mut conn = t.conn().await;
    for (invariant, sql) in BREAKS {
        conn.batch_execute(&format!("BEGIN; SET LOCAL session_replication_role = replica; {sql}"))
            .await
            .unwrap_or_else(|error| panic!("{invariant}: {error}"));
        let reports = payments::audit::verify(&mut conn, t.now()).await.unwrap();
        conn.batch_execute("ROLLBACK").await.unwrap();

        let report = reports.iter().find(|report| report.invariant == invariant).expect("it is an invariant");
        assert!(report.violations > 0, "{invariant} does not fire");
        assert!(!report.offenders.is_empty() && report.offenders.len() <= 10, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_constraint_holds_cannot_be_broken() {
    let t = books().await;
    let mut conn = t.conn().await;
    for (invariant, sql) in REFUSED {
        let refused = diesel::sql_query(sql).execute(&mut conn).await;
        assert!(
            matches!(refused, Err(diesel::result::Error::DatabaseError(..))),
            "{invariant} can be broken: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_invariant_is_broken_on_purpose_and_looks_at_something() {
    let t = books().await;
    let reports = payments::audit::verify(&mut t.conn().await, t.now()).await.unwrap();
    let mut broken: Vec<_> =
        BREAKS.iter().chain(&REFUSED).map(|(invariant, _)| (*invariant).to_owned()).collect();
    broken.sort();

    assert_eq!(reports.iter().map(|report| report.invariant.clone()).collect::<Vec<_>>(), broken);
    for report in reports {
        assert!(report.examined > 0, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_is_reported_by_the_platforms_clock() {
    let t = books().await;
    let late = t.now() + SignedDuration::from_mins(16);

    let reports = payments::audit::verify(&mut t.conn().await, late).await.unwrap();

    let stuck = reports.iter().find(|report| report.invariant == "p07").expect("it is an invariant");
    assert_eq!(stuck.violations, 2, "the payment and its attempt: {stuck:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_refuses_what_is_no_transaction() {
    let t = books().await;
    let mut conn = t.conn().await;
    for (what, sql) in [
        ("append-only", "UPDATE ledger_entries SET amount_minor = 1"),
        ("append-only", "DELETE FROM ledger_entries"),
        ("append-only", "TRUNCATE ledger_entries"),
        ("append-only", "DELETE FROM ledger_txs"),
        (
            "does not balance",
            "INSERT INTO ledger_entries SELECT tx_id, 9, account_id, side, currency, 1 FROM ledger_entries LIMIT 1",
        ),
        (
            "wrong sides",
            "INSERT INTO ledger_txs (id, source_type, source_id, kind, phase, created_at) \
             VALUES (gen_random_uuid(), 'refund', gen_random_uuid(), 'refund_created', 'POSTED', now())",
        ),
        (
            "ledger_txs_source_type_source_id_kind_key",
            "INSERT INTO ledger_txs SELECT gen_random_uuid(), source_type, source_id, kind, phase, NULL, now() \
             FROM ledger_txs WHERE phase = 'POSTED'",
        ),
        (
            "amount_minor_check",
            "INSERT INTO ledger_entries SELECT tx_id, 9, account_id, side, currency, 0 FROM ledger_entries",
        ),
    ] {
        let refused = diesel::sql_query(sql).execute(&mut conn).await.expect_err(what).to_string();
        assert!(refused.contains(what), "{what}: {refused}");
    }
    t.check().await;
}
