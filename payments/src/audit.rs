//! Whether the books are right: every invariant of the ledger and of payments, as a view that must be empty.
//!
//! The views are in the migrations, each with a companion that counts what it looks at: an invariant that examined nothing says nothing.

use diesel::sql_types::{BigInt, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use mesh::audit::Report;

/// How many offenders are named.
const OFFENDERS_MAX: u32 = 10;

/// Something that the acquirer must have approved, as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, diesel::QueryableByName)]
pub struct Approved {
    /// The reference of the attempt.
    #[diesel(sql_type = Text)]
    pub acquirer_ref: String,
    /// `AUTHORIZE`, `CAPTURE`, `VOID` or `REFUND`.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// ISO 4217 code.
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// In minor units.
    #[diesel(sql_type = BigInt)]
    pub amount_minor: i64,
}

struct Invariant {
    name: &'static str,
    view: &'static str,
    statement: &'static str,
}

const INVARIANTS: [Invariant; 18] = [
    Invariant {
        name: "l01",
        view: "inv_l01_transaction_balances",
        statement: "Each ledger transaction sums to zero in each currency.",
    },
    Invariant {
        name: "l02",
        view: "inv_l02_ledger_balances",
        statement: "The whole ledger sums to zero in each currency.",
    },
    Invariant {
        name: "l03",
        view: "inv_l03_both_sides",
        statement: "Every posted or pending transaction has a debit and a credit.",
    },
    Invariant {
        name: "l04",
        view: "inv_l04_posted_balances",
        statement: "Each stored balance is the sum of its posted entries.",
    },
    Invariant {
        name: "l05",
        view: "inv_l05_pending_balances",
        statement: "Each stored reservation is the sum of its unresolved pending entries.",
    },
    Invariant {
        name: "l06",
        view: "inv_l06_resolution_within_reservation",
        statement: "A resolution posts no more than was reserved.",
    },
    Invariant {
        name: "l07",
        view: "inv_l07_floors",
        statement: "Floored accounts are never below zero, counting reservations.",
    },
    Invariant {
        name: "p01",
        view: "inv_p01_captured",
        statement: "What a payment says was captured is the sum of its captures.",
    },
    Invariant {
        name: "p02",
        view: "inv_p02_refunded",
        statement: "What a payment says was refunded is the sum of its live refunds.",
    },
    Invariant {
        name: "p03",
        view: "inv_p03_amounts",
        statement: "Refunded is at most captured, captured at most authorised, authorised at most the amount.",
    },
    Invariant {
        name: "p04",
        view: "inv_p04_ledger_transactions",
        statement: "Each authorisation, capture, void and refund has exactly the ledger transactions that it requires.",
    },
    Invariant {
        name: "p05",
        view: "inv_p05_currency",
        statement: "Captures, refunds and their entries are in the currency and the amount of what they are of.",
    },
    Invariant {
        name: "p07",
        view: "inv_p07_stuck",
        statement: "Nothing waits for the acquirer for more than 15 minutes.",
    },
    Invariant {
        name: "p08",
        view: "inv_p08_canceled",
        statement: "A canceled payment has no capture and no open reservation.",
    },
    Invariant {
        name: "p09",
        view: "inv_p09_one_authorization",
        statement: "A payment has at most one approved authorisation.",
    },
    Invariant {
        name: "p10",
        view: "inv_p10_one_effect",
        statement: "A request id has one effect, and an effect one request id.",
    },
    Invariant {
        name: "p11",
        view: "inv_p11_keys_answered",
        statement: "No request id is without an answer 15 minutes after its lease.",
    },
    Invariant {
        name: "p12",
        view: "inv_p12_no_card_numbers",
        statement: "No text holds what looks like a card number.",
    },
];

/// Runs every invariant in one snapshot, in order of their names. Things that may take a while are judged by `now`.
///
/// # Errors
///
/// The database's.
pub async fn verify(
    conn: &mut AsyncPgConnection,
    now: Timestamp,
) -> Result<Vec<Report>, diesel::result::Error> {
    diesel::sql_query("SELECT set_config('jetway.now', $1, FALSE)")
        .bind::<Text, _>(now.to_string())
        .execute(conn)
        .await?;
    // One statement is one snapshot.
    let selects: Vec<String> = INVARIANTS
        .iter()
        .map(|Invariant { name, view, statement }| {
            format!(
                "SELECT '{name}' AS invariant, '{statement}' AS statement, (SELECT examined FROM {view}_examined) AS examined, \
                 (SELECT count(*) FROM {view}) AS violations, \
                 ARRAY(SELECT offender FROM {view} LIMIT {OFFENDERS_MAX}) AS offenders"
            )
        })
        .collect();
    diesel::sql_query(format!("{} ORDER BY invariant", selects.join(" UNION ALL "))).load(conn).await
}

/// Everything that the acquirer must have approved according to the ledger, ordered by reference: equal to what it says it approved.
///
/// # Errors
///
/// The database's.
pub async fn approved(conn: &mut AsyncPgConnection) -> Result<Vec<Approved>, diesel::result::Error> {
    diesel::sql_query(
        "SELECT acquirer_ref::text, kind, currency, amount_minor FROM ledger_acquirer_operations ORDER BY acquirer_ref::text",
    )
    .load(conn)
    .await
}
