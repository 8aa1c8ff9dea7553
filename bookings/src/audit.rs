//! What must never be, looked for: the views `audit_b01` to `audit_b11` and how many rows each looks at.
//!
//! b06 and b07 span two databases. Our half of them is the view `audit_payments`, read by [`payments`].

use diesel::QueryableByName;
use diesel::result::Error;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use jiff::Timestamp;
use jiff_diesel::ToDiesel as _;
use mesh::audit::Report;
use uuid::Uuid;

/// The invariants, and what they state.
const INVARIANTS: [(&str, &str); 9] = [
    ("b01", "no seat of a flight has two live coupons"),
    ("b02", "the counters are the live hold items and the live coupons"),
    ("b03", "held and sold are at most capacity and overbooking"),
    ("b04", "held seats belong to live holds, sold ones to live bookings, and each of these has its seats"),
    ("b05", "no active hold is a minute past its expiry, no pinned one 15 minutes past its deadline"),
    ("b08", "a confirmed booking has a live ticket for each passenger"),
    ("b09", "a booking that is not confirmed has no live ticket"),
    ("b10", "no saga is past its deadline, and none is stuck"),
    ("b11", "a booking is pending as long as its saga is under way, and no longer"),
];

/// Checks every invariant at `now`, in order. Reads only.
///
/// # Errors
///
/// The database's.
pub async fn verify(conn: &mut AsyncPgConnection, now: Timestamp) -> Result<Vec<Report>, Error> {
    let examined: Vec<Examined> =
        diesel::sql_query("SELECT invariant, examined FROM audit_examined").get_results(conn).await?;
    let mut reports = Vec::new();
    for (invariant, statement) in INVARIANTS {
        let found: Found = diesel::sql_query(format!(
            "SELECT count(*) AS violations, \
             coalesce((array_agg(offender ORDER BY offender))[1:10], '{{}}') AS offenders \
             FROM audit_{invariant} WHERE due_at IS NULL OR due_at <= $1"
        ))
        .bind::<Timestamptz, _>(now.to_diesel())
        .get_result(conn)
        .await?;
        let looked_at = examined.iter().find(|row| row.invariant == invariant);
        reports.push(Report {
            invariant: invariant.to_owned(),
            statement: statement.to_owned(),
            examined: looked_at.map_or(0, |row| row.examined),
            violations: found.violations,
            offenders: found.offenders,
        });
    }
    Ok(reports)
}

/// A booking, and what should have been paid and given back for it.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
pub struct Payment {
    /// Which booking.
    #[diesel(sql_type = SqlUuid)]
    pub booking_id: Uuid,
    /// Where it stands, for example `CONFIRMED`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Its payment intent, once there is one.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub payment_intent: Option<Uuid>,
    /// ISO 4217.
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// The price of everything, in minor units.
    #[diesel(sql_type = BigInt)]
    pub total_minor: i64,
    /// Given back, in minor units.
    #[diesel(sql_type = BigInt)]
    pub refunded_minor: i64,
}

/// Our half of b06 and b07: every booking with its payment.
///
/// # Errors
///
/// The database's.
pub async fn payments(conn: &mut AsyncPgConnection) -> Result<Vec<Payment>, Error> {
    diesel::sql_query(
        "SELECT booking_id, state, payment_intent, currency, total_minor, refunded_minor FROM audit_payments ORDER BY booking_id",
    )
    .get_results(conn)
    .await
}

#[derive(QueryableByName)]
struct Examined {
    #[diesel(sql_type = Text)]
    invariant: String,
    #[diesel(sql_type = BigInt)]
    examined: i64,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    violations: i64,
    #[diesel(sql_type = Array<Text>)]
    offenders: Vec<String>,
}
