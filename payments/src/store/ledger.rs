//! The books: transactions, entries, and the balances of scarce accounts.

use std::collections::BTreeMap;

use diesel::{
    prelude::*,
    sql_types::{BigInt, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::ToDiesel as _;
use mesh::id::Uuid;

use crate::{
    domain::{
        ledger::{AccountKey, Line, Phase, Posting},
        money::Currency,
    },
    error::Error,
    schema::{ledger_accounts, ledger_entries, ledger_txs},
};

/// What a transaction is about: it has at most one of each kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Attempt(Uuid),
    Capture(Uuid),
    Refund(Uuid),
}

impl Source {
    fn parts(self) -> (&'static str, Uuid) {
        match self {
            Self::Attempt(id) => ("attempt", id),
            Self::Capture(id) => ("capture", id),
            Self::Refund(id) => ("refund", id),
        }
    }
}

/// A transaction to write.
#[derive(Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) source: Source,
    pub(crate) posting: Posting,
    pub(crate) merchant: &'a str,
    pub(crate) currency: Currency,
    /// The reservation that it ends.
    pub(crate) resolves: Option<Uuid>,
}

/// Writes a transaction with its entries, and moves the stored balances. A second of the same source and kind is refused by the database, as is one
/// that does not balance, when the transaction commits.
pub(crate) async fn post(
    conn: &mut AsyncPgConnection,
    entry: &Entry<'_>,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    let id = mesh::id::generate();
    let (source_type, source_id) = entry.source.parts();
    let phase = entry.posting.phase();
    diesel::insert_into(ledger_txs::table)
        .values((
            ledger_txs::id.eq(id),
            ledger_txs::source_type.eq(source_type),
            ledger_txs::source_id.eq(source_id),
            ledger_txs::kind.eq(entry.posting.kind()),
            ledger_txs::phase.eq(phase.as_str()),
            ledger_txs::resolves.eq(entry.resolves),
            ledger_txs::created_at.eq(now.to_diesel()),
        ))
        .execute(conn)
        .await?;

    // Of each stored balance, by account id: what is posted and what is reserved.
    let mut moves: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (line, number) in entry.posting.lines().into_iter().zip(1_i16..) {
        let account = account(conn, &key(line, entry)).await?;
        diesel::insert_into(ledger_entries::table)
            .values((
                ledger_entries::tx_id.eq(id),
                ledger_entries::line.eq(number),
                ledger_entries::account_id.eq(account),
                ledger_entries::side.eq(line.side.as_str()),
                ledger_entries::currency.eq(entry.currency.code()),
                ledger_entries::amount_minor.eq(line.amount),
            ))
            .execute(conn)
            .await?;
        if line.code.is_scarce() {
            let change = if line.side == line.code.normal_side() { line.amount } else { -line.amount };
            let (posted, pending) = moves.entry(account).or_default();
            match phase {
                Phase::Pending => *pending += change,
                Phase::Posted | Phase::Void => *posted += change,
            }
        }
    }
    if let Some(resolved) = entry.resolves {
        for (account, reserved) in reserved(conn, resolved).await? {
            moves.entry(account).or_default().1 -= reserved;
        }
    }
    for (account, (posted, pending)) in moves {
        diesel::sql_query(
            "UPDATE ledger_balances SET posted_minor = posted_minor + $2, pending_minor = pending_minor + $3 \
             WHERE account_id = $1",
        )
        .bind::<BigInt, _>(account)
        .bind::<BigInt, _>(posted)
        .bind::<BigInt, _>(pending)
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// The transaction of a source and kind.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    source: Source,
    kind: &str,
) -> Result<Option<Uuid>, Error> {
    let (source_type, source_id) = source.parts();
    Ok(ledger_txs::table
        .filter(ledger_txs::source_type.eq(source_type))
        .filter(ledger_txs::source_id.eq(source_id))
        .filter(ledger_txs::kind.eq(kind))
        .select(ledger_txs::id)
        .first(conn)
        .await
        .optional()?)
}

fn key(line: Line, entry: &Entry<'_>) -> AccountKey {
    AccountKey {
        code: line.code,
        merchant: line.code.is_of_merchant().then(|| entry.merchant.to_owned()),
        currency: entry.currency,
    }
}

/// The account's id. The account is opened when it is used for the first time.
async fn account(conn: &mut AsyncPgConnection, key: &AccountKey) -> Result<i64, Error> {
    if let Some(id) = existing(conn, key).await? {
        return Ok(id);
    }
    let opened: Option<i64> = diesel::insert_into(ledger_accounts::table)
        .values((
            ledger_accounts::code.eq(key.code.as_str()),
            ledger_accounts::merchant_id.eq(key.merchant.as_deref()),
            ledger_accounts::currency.eq(key.currency.code()),
            ledger_accounts::normal_side.eq(key.code.normal_side().as_str()),
            ledger_accounts::floored.eq(key.code.is_floored()),
        ))
        .on_conflict_do_nothing()
        .returning(ledger_accounts::id)
        .get_result(conn)
        .await
        .optional()?;
    let id = match opened {
        Some(id) => id,
        // Opened by another transaction, which has committed by now.
        None => existing(conn, key)
            .await?
            .ok_or_else(|| Error::Corrupt(format!("account {}", key.code.as_str())))?,
    };
    if key.code.is_scarce() {
        diesel::sql_query(
            "INSERT INTO ledger_balances (account_id, floored) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        )
        .bind::<BigInt, _>(id)
        .bind::<diesel::sql_types::Bool, _>(key.code.is_floored())
        .execute(conn)
        .await?;
    }
    Ok(id)
}

async fn existing(conn: &mut AsyncPgConnection, key: &AccountKey) -> Result<Option<i64>, Error> {
    Ok(ledger_accounts::table
        .filter(ledger_accounts::code.eq(key.code.as_str()))
        .filter(ledger_accounts::merchant_id.is_not_distinct_from(key.merchant.as_deref()))
        .filter(ledger_accounts::currency.eq(key.currency.code()))
        .select(ledger_accounts::id)
        .first(conn)
        .await
        .optional()?)
}

/// What a reservation holds of each stored balance.
async fn reserved(conn: &mut AsyncPgConnection, tx: Uuid) -> Result<Vec<(i64, i64)>, Error> {
    #[derive(QueryableByName)]
    struct Reserved {
        #[diesel(sql_type = BigInt)]
        account_id: i64,
        #[diesel(sql_type = BigInt)]
        amount_minor: i64,
    }
    let rows: Vec<Reserved> = diesel::sql_query(
        "SELECT e.account_id, sum(CASE WHEN e.side = a.normal_side THEN e.amount_minor ELSE -e.amount_minor END)::bigint \
         AS amount_minor FROM ledger_entries AS e INNER JOIN ledger_accounts AS a ON a.id = e.account_id \
         INNER JOIN ledger_balances AS b ON b.account_id = a.id WHERE e.tx_id = $1 GROUP BY e.account_id",
    )
    .bind::<SqlUuid, _>(tx)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.account_id, row.amount_minor)).collect())
}
