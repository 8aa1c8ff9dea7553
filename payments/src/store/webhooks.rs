//! Webhook endpoints, with their secrets; what is delivered to them is in [`deliveries`].

pub(crate) mod deliveries;

use diesel::{
    prelude::*,
    sql_types::{Nullable, Text},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::{NullableTimestamp, Timestamp, ToDiesel as _};

use crate::{
    domain::webhook::{DisabledReason, Health, State, WebhookEndpoint, WebhookEndpointId, WebhookSecretId},
    error::Error,
    schema::{deks, webhook_endpoints, webhook_secrets},
    vault::{Dek, DekId, SealedSecret, WrappedKey},
};

/// Secrets that sign at the same time: the newest, and the one before it.
const SECRETS_MAX: i64 = 2;

/// `webhook_endpoints`, as stored.
#[derive(Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = webhook_endpoints, check_for_backend(diesel::pg::Pg), treat_none_as_null = true)]
struct Row {
    id: WebhookEndpointId,
    version: i64,
    merchant_id: Option<String>,
    url: String,
    description: String,
    event_types: Vec<String>,
    state: String,
    disabled_reason: Option<String>,
    secret_version: i32,
    consecutive_failures: i32,
    failing_since: NullableTimestamp,
    resume_at: NullableTimestamp,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&WebhookEndpoint> for Row {
    fn from(endpoint: &WebhookEndpoint) -> Self {
        let (state, disabled_reason) = words(endpoint.state);
        Self {
            id: endpoint.id,
            version: endpoint.version,
            merchant_id: endpoint.merchant.clone(),
            url: endpoint.url.clone(),
            description: endpoint.description.clone(),
            event_types: endpoint.event_types.clone(),
            state: state.to_owned(),
            disabled_reason: disabled_reason.map(str::to_owned),
            secret_version: endpoint.secret_version,
            consecutive_failures: endpoint.health.consecutive_failures,
            failing_since: endpoint.health.failing_since.to_diesel(),
            resume_at: endpoint.health.resume_at.to_diesel(),
            created_at: endpoint.created_at.to_diesel(),
            updated_at: endpoint.updated_at.to_diesel(),
        }
    }
}

impl TryFrom<Row> for WebhookEndpoint {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let state = [
            State::Enabled,
            State::Disabled(DisabledReason::Manual),
            State::Disabled(DisabledReason::Gone),
            State::Disabled(DisabledReason::Failing),
        ]
        .into_iter()
        .find(|state| words(*state) == (row.state.as_str(), row.disabled_reason.as_deref()))
        .ok_or_else(|| Error::Corrupt(row.id.name()))?;
        Ok(Self {
            id: row.id,
            version: row.version,
            merchant: row.merchant_id,
            url: row.url,
            description: row.description,
            event_types: row.event_types,
            state,
            secret_version: row.secret_version,
            health: Health {
                consecutive_failures: row.consecutive_failures,
                failing_since: row.failing_since.to_jiff(),
                resume_at: row.resume_at.to_jiff(),
            },
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

fn words(state: State) -> (&'static str, Option<&'static str>) {
    match state {
        State::Enabled => ("ENABLED", None),
        State::Disabled(DisabledReason::Manual) => ("DISABLED", Some("MANUAL")),
        State::Disabled(DisabledReason::Gone) => ("DISABLED", Some("GONE")),
        State::Disabled(DisabledReason::Failing) => ("DISABLED", Some("FAILING")),
    }
}

/// Writes a new endpoint and its first secret.
pub(crate) async fn insert(
    conn: &mut AsyncPgConnection,
    endpoint: &WebhookEndpoint,
    secret: &SealedSecret,
) -> Result<(), Error> {
    diesel::insert_into(webhook_endpoints::table).values(Row::from(endpoint)).execute(conn).await?;
    insert_secret(conn, endpoint, secret, endpoint.created_at).await
}

/// How many endpoints a merchant has, or the platform. Until the transaction ends, nobody else counts those of the same owner.
pub(crate) async fn count(conn: &mut AsyncPgConnection, merchant: Option<&str>) -> Result<i64, Error> {
    diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended('webhook_endpoints/' || coalesce($1, ''), 0))",
    )
    .bind::<Nullable<Text>, _>(merchant)
    .execute(conn)
    .await?;
    let counted = webhook_endpoints::table
        .filter(webhook_endpoints::merchant_id.is_not_distinct_from(merchant))
        .count()
        .get_result(conn)
        .await?;
    Ok(counted)
}

/// Reads an endpoint.
///
/// # Errors
///
/// [`Error::WebhookEndpointNotFound`], [`Error::Corrupt`].
pub(crate) async fn get(
    conn: &mut AsyncPgConnection,
    id: WebhookEndpointId,
) -> Result<WebhookEndpoint, Error> {
    let row = webhook_endpoints::table.find(id).select(Row::as_select()).first(conn).await.optional()?;
    row.ok_or(Error::WebhookEndpointNotFound(id))?.try_into()
}

/// Reads an endpoint and locks its row until the transaction ends; what refers to it may still be written.
///
/// # Errors
///
/// As [`get`].
pub(crate) async fn lock(
    conn: &mut AsyncPgConnection,
    id: WebhookEndpointId,
) -> Result<WebhookEndpoint, Error> {
    let row = webhook_endpoints::table
        .find(id)
        .select(Row::as_select())
        .for_no_key_update()
        .first(conn)
        .await
        .optional()?;
    row.ok_or(Error::WebhookEndpointNotFound(id))?.try_into()
}

/// Writes every field of an endpoint that [`lock`] read in the same transaction.
pub(crate) async fn update(conn: &mut AsyncPgConnection, endpoint: &WebhookEndpoint) -> Result<(), Error> {
    diesel::update(webhook_endpoints::table.find(endpoint.id)).set(Row::from(endpoint)).execute(conn).await?;
    Ok(())
}

/// Deletes an endpoint, its secrets and its deliveries; false when there is none.
pub(crate) async fn delete(conn: &mut AsyncPgConnection, id: WebhookEndpointId) -> Result<bool, Error> {
    Ok(diesel::delete(webhook_endpoints::table.find(id)).execute(conn).await? == 1)
}

/// Up to `limit` endpoints, newest first: those older than `after`.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    after: Option<WebhookEndpointId>,
    limit: i64,
) -> Result<Vec<WebhookEndpoint>, Error> {
    let mut query = webhook_endpoints::table
        .select(Row::as_select())
        .order(webhook_endpoints::id.desc())
        .limit(limit)
        .into_boxed();
    if let Some(after) = after {
        query = query.filter(webhook_endpoints::id.lt(after));
    }
    query.load::<Row>(conn).await?.into_iter().map(TryInto::try_into).collect()
}

/// Writes the newest secret of an endpoint, of the version that the endpoint says.
pub(crate) async fn insert_secret(
    conn: &mut AsyncPgConnection,
    endpoint: &WebhookEndpoint,
    secret: &SealedSecret,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    diesel::insert_into(webhook_secrets::table)
        .values((
            webhook_secrets::id.eq(secret.id),
            webhook_secrets::endpoint_id.eq(endpoint.id),
            webhook_secrets::version.eq(endpoint.secret_version),
            webhook_secrets::dek_id.eq(secret.dek),
            webhook_secrets::nonce.eq(secret.nonce.as_slice()),
            webhook_secrets::ciphertext.eq(&secret.ciphertext),
            webhook_secrets::created_at.eq(now.to_diesel()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets the newest secret of an endpoint sign until `until`, and forgets those before it.
pub(crate) async fn retire_secret(
    conn: &mut AsyncPgConnection,
    id: WebhookEndpointId,
    until: jiff::Timestamp,
) -> Result<(), Error> {
    let of_endpoint = webhook_secrets::endpoint_id.eq(id);
    diesel::delete(
        webhook_secrets::table.filter(of_endpoint).filter(webhook_secrets::expires_at.is_not_null()),
    )
    .execute(conn)
    .await?;
    diesel::update(webhook_secrets::table.filter(of_endpoint))
        .set(webhook_secrets::expires_at.eq(until.to_diesel()))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets secrets that sign no more.
pub(crate) async fn sweep_secrets(conn: &mut AsyncPgConnection, now: jiff::Timestamp) -> Result<(), Error> {
    diesel::delete(webhook_secrets::table.filter(webhook_secrets::expires_at.le(now.to_diesel())))
        .execute(conn)
        .await?;
    Ok(())
}

/// A secret and the key to open it with, as read.
type Found = (WebhookSecretId, i32, Vec<u8>, Vec<u8>, DekId, String, i32, Vec<u8>);

/// The secrets that sign for an endpoint at `now`, with their versions and the keys to open them with, the newest first.
///
/// # Errors
///
/// [`Error::Corrupt`].
pub(crate) async fn secrets(
    conn: &mut AsyncPgConnection,
    id: WebhookEndpointId,
    now: jiff::Timestamp,
) -> Result<Vec<(i32, Dek, SealedSecret)>, Error> {
    let found: Vec<Found> = webhook_secrets::table
        .inner_join(deks::table)
        .filter(webhook_secrets::endpoint_id.eq(id))
        .filter(webhook_secrets::expires_at.is_null().or(webhook_secrets::expires_at.gt(now.to_diesel())))
        .order(webhook_secrets::version.desc())
        .limit(SECRETS_MAX)
        .select((
            webhook_secrets::id,
            webhook_secrets::version,
            webhook_secrets::nonce,
            webhook_secrets::ciphertext,
            deks::id,
            deks::merchant,
            deks::kek_version,
            deks::wrapped_dek,
        ))
        .load(conn)
        .await?;
    found.into_iter().map(sealed).collect()
}

fn sealed(found: Found) -> Result<(i32, Dek, SealedSecret), Error> {
    let (id, version, nonce, ciphertext, dek, merchant, kek_version, bytes) = found;
    let nonce = nonce.try_into().map_err(|_| Error::Corrupt(id.name()))?;
    let wrapped = WrappedKey { kek_version, bytes };
    Ok((version, Dek { id: dek, merchant, wrapped }, SealedSecret { id, dek, nonce, ciphertext }))
}
