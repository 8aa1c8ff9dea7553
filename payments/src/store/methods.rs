//! Payment methods, and the cards and keys of the vault beneath them.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::{Timestamp, ToDiesel as _};
use mesh::{auth::PrincipalId, id::Uuid};

use crate::{
    domain::card::{PaymentMethod, PaymentMethodId, VaultCardId},
    error::Error,
    schema::{cards, deks, payment_methods},
    vault::{Dek, DekId, SealedCard, VaultError, WrappedKey},
};

/// `payment_methods`, as stored.
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = payment_methods, check_for_backend(diesel::pg::Pg))]
struct Row {
    id: PaymentMethodId,
    customer_id: PrincipalId,
    brand: String,
    bin6: String,
    last4: String,
    exp_month: i16,
    exp_year: i16,
    fingerprint: String,
    card_id: VaultCardId,
    created_at: Timestamp,
}

impl From<Row> for PaymentMethod {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            customer: row.customer_id,
            brand: row.brand,
            bin6: row.bin6,
            last4: row.last4,
            exp_month: row.exp_month,
            exp_year: row.exp_year,
            fingerprint: row.fingerprint,
            card: row.card_id,
            created_at: row.created_at.to_jiff(),
        }
    }
}

/// Writes a new payment method and its card.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    method: &PaymentMethod,
    card: &SealedCard,
) -> Result<(), Error> {
    diesel::insert_into(cards::table)
        .values((
            cards::id.eq(card.id),
            cards::dek_id.eq(card.dek),
            cards::nonce.eq(card.nonce.as_slice()),
            cards::ciphertext.eq(&card.ciphertext),
            cards::created_at.eq(method.created_at.to_diesel()),
        ))
        .execute(conn)
        .await?;
    let row = Row {
        id: method.id,
        customer_id: method.customer,
        brand: method.brand.clone(),
        bin6: method.bin6.clone(),
        last4: method.last4.clone(),
        exp_month: method.exp_month,
        exp_year: method.exp_year,
        fingerprint: method.fingerprint.clone(),
        card_id: method.card,
        created_at: method.created_at.to_diesel(),
    };
    diesel::insert_into(payment_methods::table).values(row).execute(conn).await?;
    Ok(())
}

/// The customer's payment method; `None` when there is none, it was deleted, or it is another customer's.
pub(crate) async fn find(
    conn: &mut AsyncPgConnection,
    id: PaymentMethodId,
    customer: PrincipalId,
) -> Result<Option<PaymentMethod>, Error> {
    let row = payment_methods::table
        .find(id)
        .filter(payment_methods::customer_id.eq(customer))
        .filter(payment_methods::deleted_at.is_null())
        .select(Row::as_select())
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(PaymentMethod::from))
}

/// Sees to it that the customer's payment method is not deleted until the transaction ends.
///
/// # Errors
///
/// [`Error::PaymentMethodNotFound`].
pub(crate) async fn keep(
    conn: &mut AsyncPgConnection,
    id: PaymentMethodId,
    customer: PrincipalId,
) -> Result<(), Error> {
    payment_methods::table
        .find(id)
        .filter(payment_methods::customer_id.eq(customer))
        .filter(payment_methods::deleted_at.is_null())
        .select(payment_methods::id)
        .for_share()
        .first::<Uuid>(conn)
        .await
        .optional()?
        .map(drop)
        .ok_or(Error::PaymentMethodNotFound(id))
}

/// Up to `limit` payment methods of a customer, newest first: those older than `after`.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    customer: PrincipalId,
    after: Option<PaymentMethodId>,
    limit: i64,
) -> Result<Vec<PaymentMethod>, Error> {
    let mut query = payment_methods::table
        .filter(payment_methods::customer_id.eq(customer))
        .filter(payment_methods::deleted_at.is_null())
        .select(Row::as_select())
        .order(payment_methods::id.desc())
        .limit(limit)
        .into_boxed();
    if let Some(after) = after {
        query = query.filter(payment_methods::id.lt(after));
    }
    Ok(query.load::<Row>(conn).await?.into_iter().map(PaymentMethod::from).collect())
}

/// Locks the customer's payment method and returns its card, and whether it was deleted; `None` when there is none.
pub(crate) async fn lock(
    conn: &mut AsyncPgConnection,
    id: PaymentMethodId,
    customer: PrincipalId,
) -> Result<Option<(VaultCardId, bool)>, Error> {
    Ok(payment_methods::table
        .find(id)
        .filter(payment_methods::customer_id.eq(customer))
        .select((payment_methods::card_id, payment_methods::deleted_at.is_not_null()))
        .for_update()
        .first(conn)
        .await
        .optional()?)
}

/// Marks a locked payment method as deleted, and destroys the ciphertext of its card.
pub(crate) async fn shred(
    conn: &mut AsyncPgConnection,
    id: PaymentMethodId,
    card: VaultCardId,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    diesel::update(payment_methods::table.find(id))
        .set(payment_methods::deleted_at.eq(now.to_diesel()))
        .execute(conn)
        .await?;
    diesel::update(cards::table.find(card))
        .set((cards::ciphertext.eq(None::<Vec<u8>>), cards::deleted_at.eq(now.to_diesel())))
        .execute(conn)
        .await?;
    Ok(())
}

/// The key that a merchant's new cards are encrypted with.
pub(crate) async fn active_dek(conn: &mut AsyncPgConnection, merchant: &str) -> Result<Option<Dek>, Error> {
    let found: Option<(DekId, String, i32, Vec<u8>)> = deks::table
        .filter(deks::merchant.eq(merchant))
        .filter(deks::state.eq("ACTIVE"))
        .select((deks::id, deks::merchant, deks::kek_version, deks::wrapped_dek))
        .first(conn)
        .await
        .optional()?;
    Ok(found.map(|(id, merchant, kek_version, bytes)| Dek {
        id,
        merchant,
        wrapped: WrappedKey { kek_version, bytes },
    }))
}

/// Writes a merchant's key, unless it has one.
pub(crate) async fn insert_dek(
    conn: &mut AsyncPgConnection,
    dek: &Dek,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    diesel::insert_into(deks::table)
        .values((
            deks::id.eq(dek.id),
            deks::merchant.eq(&dek.merchant),
            deks::kek_version.eq(dek.wrapped.kek_version),
            deks::wrapped_dek.eq(&dek.wrapped.bytes),
            deks::state.eq("ACTIVE"),
            deks::created_at.eq(now.to_diesel()),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The encrypted card of a payment method, and the key to open it with.
///
/// # Errors
///
/// [`VaultError::Deleted`] when it was shredded, [`Error::Corrupt`].
pub(crate) async fn card(
    conn: &mut AsyncPgConnection,
    id: PaymentMethodId,
) -> Result<(Dek, SealedCard), Error> {
    type Found = (VaultCardId, Vec<u8>, Option<Vec<u8>>, DekId, String, i32, Vec<u8>);
    let (card, nonce, ciphertext, dek, merchant, kek_version, bytes): Found = payment_methods::table
        .inner_join(cards::table.inner_join(deks::table))
        .filter(payment_methods::id.eq(id))
        .select((
            cards::id,
            cards::nonce,
            cards::ciphertext,
            deks::id,
            deks::merchant,
            deks::kek_version,
            deks::wrapped_dek,
        ))
        .first(conn)
        .await?;
    let nonce = nonce.try_into().map_err(|_| Error::Corrupt(card.name()))?;
    let ciphertext = ciphertext.ok_or(VaultError::Deleted)?;
    Ok((
        Dek { id: dek, merchant, wrapped: WrappedKey { kek_version, bytes } },
        SealedCard { id: card, dek, nonce, ciphertext },
    ))
}
