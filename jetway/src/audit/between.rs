//! The invariants that take more than one database to see.

use std::collections::BTreeMap;

use anyhow::Context as _;
use diesel::{
    QueryableByName,
    sql_types::{BigInt, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use mesh::audit::Report;

/// How many offenders are named.
const OFFENDERS_MAX: usize = 10;

/// A booking, with what was paid and given back by its own account.
#[derive(QueryableByName)]
struct Booking {
    #[diesel(sql_type = Text)]
    reference: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = BigInt)]
    refunded: i64,
}

/// A payment for a booking, as payments has it.
#[derive(QueryableByName)]
struct Intent {
    #[diesel(sql_type = Text)]
    reference: String,
    #[diesel(sql_type = Text)]
    state: String,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = BigInt)]
    net: i64,
    #[diesel(sql_type = BigInt)]
    refunded: i64,
}

/// Something that was approved, by its reference.
#[derive(PartialEq, QueryableByName)]
struct Approved {
    #[diesel(sql_type = Text)]
    reference: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = BigInt)]
    amount: i64,
}

#[derive(QueryableByName)]
struct Sum {
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = BigInt)]
    amount: i64,
}

/// Reads the three databases and compares them.
///
/// # Errors
///
/// When one of them cannot be read.
pub(super) async fn verify(
    bookings: &mut AsyncPgConnection,
    payments: &mut AsyncPgConnection,
    acquirer: &mut AsyncPgConnection,
) -> anyhow::Result<Vec<Report>> {
    let booked: Vec<Booking> = load(
        bookings,
        "SELECT 'bookings/' || id AS reference, state, currency, total_minor AS total, refunded_minor AS refunded FROM bookings",
    )
    .await?;
    let intents: Vec<Intent> = load(
        payments,
        "SELECT reference, state, currency, amount_captured_minor - amount_refunded_minor AS net, amount_refunded_minor AS refunded
         FROM payment_intents WHERE reference LIKE 'bookings/%'",
    )
    .await?;
    let ours: Vec<Approved> = load(
        payments,
        "SELECT acquirer_ref::text AS reference, kind, currency, amount_minor AS amount FROM ledger_acquirer_operations",
    )
    .await?;
    let theirs: Vec<Approved> = load(
        acquirer,
        "SELECT acquirer_ref AS reference, kind, currency, amount_minor AS amount FROM operations WHERE outcome = 'APPROVED'",
    )
    .await?;
    let ledger: Vec<Sum> = load(
        payments,
        "SELECT e.currency, sum(CASE e.side WHEN 'D' THEN e.amount_minor ELSE -e.amount_minor END)::bigint AS amount
         FROM ledger_entries e
         JOIN ledger_accounts a ON a.id = e.account_id
         JOIN ledger_txs t ON t.id = e.tx_id
         WHERE a.code = 'acquirer_receivable' AND t.phase = 'POSTED'
         GROUP BY e.currency",
    )
    .await?;
    Ok(vec![
        paid_bookings(&booked, &intents),
        money_without_booking(&booked, &intents),
        same_record(&ours, &theirs),
        same_sums(&ledger, &theirs),
    ])
}

async fn load<T>(conn: &mut AsyncPgConnection, sql: &str) -> anyhow::Result<Vec<T>>
where
    T: QueryableByName<diesel::pg::Pg> + Send + 'static,
{
    diesel::sql_query(sql).load(conn).await.with_context(|| format!("run {sql}"))
}

/// b06: what a booking says of its money is what payments says.
fn paid_bookings(bookings: &[Booking], intents: &[Intent]) -> Report {
    let mut by_reference: BTreeMap<&str, Vec<&Intent>> = BTreeMap::new();
    for intent in intents {
        by_reference.entry(&intent.reference).or_default().push(intent);
    }
    let agrees = |booking: &Booking| {
        let paid = by_reference.get(booking.reference.as_str()).map_or(&[][..], Vec::as_slice);
        let net: i64 = paid.iter().map(|intent| intent.net).sum();
        match booking.state.as_str() {
            "CONFIRMED" | "COMPLETED" | "CANCELED" => {
                paid.len() == 1
                    && paid[0].currency == booking.currency
                    && net == booking.total - booking.refunded
                    && paid[0].refunded == booking.refunded
            }
            // An authorisation that was never let go keeps the customer's money as well.
            "FAILED" | "EXPIRED" => net == 0 && paid.iter().all(|intent| intent.state == "CANCELED"),
            // Under way: nothing can be said yet.
            _ => true,
        }
    };
    let offenders =
        bookings.iter().filter(|booking| !agrees(booking)).map(|booking| booking.reference.clone()).collect();
    report(
        "b06",
        "a paid booking has exactly one payment of its amount, one that came to nothing has none that is not canceled",
        bookings.len(),
        offenders,
    )
}

/// b07: no money is kept for a booking that came to nothing.
fn money_without_booking(bookings: &[Booking], intents: &[Intent]) -> Report {
    let states: BTreeMap<_, _> =
        bookings.iter().map(|booking| (booking.reference.as_str(), booking.state.as_str())).collect();
    let kept_for_nothing = |intent: &&Intent| {
        intent.net > 0
            && matches!(states.get(intent.reference.as_str()), None | Some(&("FAILED" | "EXPIRED")))
    };
    let offenders = intents.iter().filter(kept_for_nothing).map(|intent| intent.reference.clone()).collect();
    report("b07", "no captured money without a booking", intents.len(), offenders)
}

/// x01: the acquirer approved what the ledger has, and nothing else.
fn same_record(ours: &[Approved], theirs: &[Approved]) -> Report {
    let index = |record: &'_ [Approved]| -> BTreeMap<String, (String, String, i64)> {
        record
            .iter()
            .map(|entry| {
                (entry.reference.clone(), (entry.kind.clone(), entry.currency.clone(), entry.amount))
            })
            .collect()
    };
    let (ours_by, theirs_by) = (index(ours), index(theirs));
    let mut references: Vec<_> = ours_by.keys().chain(theirs_by.keys()).collect();
    references.sort();
    references.dedup();
    let offenders = references
        .iter()
        .filter(|reference| ours_by.get(**reference) != theirs_by.get(**reference))
        .map(|reference| format!("acquirer reference {reference}"))
        .collect();
    report("x01", "what the acquirer approved is what the ledger has", references.len(), offenders)
}

/// x02: what the acquirer owes us by its record is what it owes us by the ledger.
fn same_sums(ledger: &[Sum], theirs: &[Approved]) -> Report {
    let mut owed: BTreeMap<&str, i64> = BTreeMap::new();
    for operation in theirs {
        let sign = match operation.kind.as_str() {
            "CAPTURE" => 1,
            "REFUND" => -1,
            _ => 0,
        };
        *owed.entry(&operation.currency).or_default() += sign * operation.amount;
    }
    let booked: BTreeMap<_, _> = ledger.iter().map(|sum| (sum.currency.as_str(), sum.amount)).collect();
    let currencies: std::collections::BTreeSet<_> = owed.keys().chain(booked.keys()).collect();
    let of = |sums: &BTreeMap<&str, i64>, currency: &str| sums.get(currency).copied().unwrap_or(0);
    let offenders = currencies
        .iter()
        .filter(|currency| of(&owed, currency) != of(&booked, currency))
        .map(|currency| {
            format!("{currency}: acquirer {}, ledger {}", of(&owed, currency), of(&booked, currency))
        })
        .collect();
    report(
        "x02",
        "captures less refunds at the acquirer are the ledger's acquirer_receivable",
        theirs.len(),
        offenders,
    )
}

fn report(invariant: &str, statement: &str, examined: usize, mut offenders: Vec<String>) -> Report {
    let violations = i64::try_from(offenders.len()).unwrap_or(i64::MAX);
    offenders.truncate(OFFENDERS_MAX);
    Report {
        invariant: invariant.to_owned(),
        statement: statement.to_owned(),
        examined: i64::try_from(examined).unwrap_or(i64::MAX),
        violations,
        offenders,
    }
}

#[cfg(test)]
mod tests;
