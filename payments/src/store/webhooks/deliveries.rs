//! Events to be delivered, and their deliveries.

use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use jiff_diesel::{NullableTimestamp, Timestamp, ToDiesel as _};
use mesh::id::Uuid;

use crate::{
    domain::webhook::{Delivery, DeliveryId, DeliveryState, EventId, Failure, Trigger, WebhookEndpointId},
    error::Error,
    schema::{webhook_deliveries, webhook_endpoints, webhook_events},
};

/// Rows of one INSERT: a statement has room for 65,535 values.
const INSERT_ROWS_MAX: usize = 2_000;

/// Deliveries that are given up in one statement.
const GIVE_UP_MAX: i64 = 1_000;

/// Whether an event `o` is for an endpoint `e`, by merchant and types.
const IS_FOR: &str = "(e.merchant_id IS NULL OR o.payload->>'merchant' = 'merchants/' || e.merchant_id) \
    AND (e.event_types = '{}' OR o.event_type = ANY(e.event_types) OR split_part(o.event_type, '.', 1) || '.*' = ANY(e.event_types))";

/// `webhook_deliveries`, as stored.
#[derive(Queryable, Insertable, AsChangeset, QueryableByName)]
#[diesel(table_name = webhook_deliveries, check_for_backend(diesel::pg::Pg), treat_none_as_null = true)]
struct Row {
    id: DeliveryId,
    endpoint_id: WebhookEndpointId,
    event_id: EventId,
    trigger: String,
    state: String,
    attempts: i32,
    due_at: NullableTimestamp,
    lease_expires_at: NullableTimestamp,
    lease: Option<Uuid>,
    last_attempt_at: NullableTimestamp,
    last_failure: Option<String>,
    last_http_status: Option<i32>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A delivery with the type of its event.
#[derive(QueryableByName)]
struct Typed {
    #[diesel(embed)]
    stored: Row,
    #[diesel(sql_type = Text)]
    event_type: String,
}

impl From<&Delivery> for Row {
    /// Without a lease.
    fn from(delivery: &Delivery) -> Self {
        let (state, due_at) = match delivery.state {
            DeliveryState::Pending { due_at } => ("PENDING", Some(due_at)),
            DeliveryState::Succeeded => ("SUCCEEDED", None),
            DeliveryState::Dead => ("DEAD", None),
        };
        Self {
            id: delivery.id,
            endpoint_id: delivery.endpoint,
            event_id: delivery.event,
            trigger: word(delivery.trigger).to_owned(),
            state: state.to_owned(),
            attempts: delivery.attempts,
            due_at: due_at.to_diesel(),
            lease_expires_at: None::<jiff::Timestamp>.to_diesel(),
            lease: None,
            last_attempt_at: delivery.last_attempt_at.to_diesel(),
            last_failure: delivery.last_failure.map(|failure| failure.as_str().to_owned()),
            last_http_status: delivery.last_status.map(i32::from),
            created_at: delivery.created_at.to_diesel(),
            updated_at: delivery.updated_at.to_diesel(),
        }
    }
}

impl TryFrom<Typed> for Delivery {
    type Error = Error;

    fn try_from(Typed { stored: row, event_type }: Typed) -> Result<Self, Error> {
        let corrupt = || Error::Corrupt(row.id.name());
        let state = match (row.state.as_str(), row.due_at.to_jiff()) {
            ("PENDING", Some(due_at)) => DeliveryState::Pending { due_at },
            ("SUCCEEDED", None) => DeliveryState::Succeeded,
            ("DEAD", None) => DeliveryState::Dead,
            _ => return Err(corrupt()),
        };
        let trigger = [Trigger::Event, Trigger::Redelivery, Trigger::Replay, Trigger::Ping]
            .into_iter()
            .find(|trigger| word(*trigger) == row.trigger)
            .ok_or_else(corrupt)?;
        let last_failure = match &row.last_failure {
            Some(text) => {
                Some(Failure::ALL.into_iter().find(|failure| failure.as_str() == text).ok_or_else(corrupt)?)
            }
            None => None,
        };
        let last_status = row.last_http_status.map(u16::try_from).transpose().map_err(|_| corrupt())?;
        Ok(Self {
            id: row.id,
            endpoint: row.endpoint_id,
            event: row.event_id,
            event_type,
            trigger,
            state,
            attempts: row.attempts,
            last_attempt_at: row.last_attempt_at.to_jiff(),
            last_failure,
            last_status,
            created_at: row.created_at.to_jiff(),
            updated_at: row.updated_at.to_jiff(),
        })
    }
}

fn word(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Event => "EVENT",
        Trigger::Redelivery => "REDELIVERY",
        Trigger::Replay => "REPLAY",
        Trigger::Ping => "PING",
    }
}

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// An event for an endpoint.
#[derive(QueryableByName)]
struct Pair {
    #[diesel(sql_type = SqlUuid)]
    event: EventId,
    #[diesel(sql_type = Text)]
    event_type: String,
    #[diesel(sql_type = SqlUuid)]
    endpoint: WebhookEndpointId,
}

/// What an event says, with what the event before it of the same thing said.
#[derive(Clone, Debug, QueryableByName)]
pub(crate) struct Message {
    #[diesel(sql_type = Text)]
    pub(crate) aggregate_type: String,
    #[diesel(sql_type = BigInt)]
    pub(crate) version: i64,
    #[diesel(sql_type = Text)]
    pub(crate) event_type: String,
    #[diesel(sql_type = Jsonb)]
    pub(crate) payload: serde_json::Value,
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub(crate) previous: Option<serde_json::Value>,
    #[diesel(sql_type = Text)]
    pub(crate) request_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) idempotency_key: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    occurred_at: Timestamp,
}

impl Message {
    pub(crate) fn occurred_at(&self) -> jiff::Timestamp {
        self.occurred_at.to_jiff()
    }
}

/// Sees to it that an event, which the outbox has, is delivered.
pub(crate) async fn queue(
    conn: &mut AsyncPgConnection,
    aggregate_type: &str,
    aggregate_id: Uuid,
    version: i64,
    idempotency_key: Option<&str>,
) -> Result<EventId, Error> {
    let queued: Id = diesel::sql_query(
        "INSERT INTO webhook_events (event_id, idempotency_key) SELECT id, $4 FROM outbox \
         WHERE aggregate_type = $1 AND aggregate_id = $2 AND version = $3 RETURNING event_id AS id",
    )
    .bind::<Text, _>(aggregate_type)
    .bind::<SqlUuid, _>(aggregate_id)
    .bind::<BigInt, _>(version)
    .bind::<Nullable<Text>, _>(idempotency_key)
    .get_result(conn)
    .await?;
    Ok(queued.id.into())
}

/// Takes up to `limit` events that were not spread over the endpoints yet, makes a delivery for each endpoint that each is for, and says how many
/// events those were.
pub(crate) async fn spread(
    conn: &mut AsyncPgConnection,
    limit: i64,
    now: jiff::Timestamp,
) -> Result<usize, Error> {
    let events: Vec<EventId> = webhook_events::table
        .filter(webhook_events::spread_at.is_null())
        .order(webhook_events::event_id)
        .limit(limit)
        .select(webhook_events::event_id)
        .for_update()
        .skip_locked()
        .load(conn)
        .await?;
    if events.is_empty() {
        return Ok(0);
    }
    // The lock keeps an endpoint from being disabled while it is given work.
    let pairs: Vec<Pair> = diesel::sql_query(format!(
        "SELECT o.id AS event, o.event_type, e.id AS endpoint FROM outbox AS o INNER JOIN webhook_endpoints AS e ON {IS_FOR} \
         WHERE o.id = ANY($1) AND e.state = 'ENABLED' FOR SHARE OF e"
    ))
    .bind::<Array<SqlUuid>, _>(&events)
    .load(conn)
    .await?;
    insert_all(conn, &pairs, Trigger::Event, now).await?;
    diesel::update(webhook_events::table.filter(webhook_events::event_id.eq_any(&events)))
        .set(webhook_events::spread_at.eq(now.to_diesel()))
        .execute(conn)
        .await?;
    Ok(events.len())
}

/// Keeps an event from being spread: it is for one endpoint.
pub(crate) async fn do_not_spread(
    conn: &mut AsyncPgConnection,
    event: EventId,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    diesel::update(webhook_events::table.find(event))
        .set(webhook_events::spread_at.eq(now.to_diesel()))
        .execute(conn)
        .await?;
    Ok(())
}

async fn insert_all(
    conn: &mut AsyncPgConnection,
    pairs: &[Pair],
    trigger: Trigger,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    let rows: Vec<Row> = pairs
        .iter()
        .map(|pair| Row::from(&Delivery::new(pair.endpoint, pair.event, &pair.event_type, trigger, now)))
        .collect();
    for rows in rows.chunks(INSERT_ROWS_MAX) {
        diesel::insert_into(webhook_deliveries::table).values(rows).execute(conn).await?;
    }
    Ok(())
}

/// Writes a new delivery.
pub(crate) async fn insert(conn: &mut AsyncPgConnection, delivery: &Delivery) -> Result<(), Error> {
    diesel::insert_into(webhook_deliveries::table).values(Row::from(delivery)).execute(conn).await?;
    Ok(())
}

/// Which events to deliver once more.
pub(crate) struct Range<'a> {
    /// To this endpoint, of those that are for it.
    pub(crate) endpoint: WebhookEndpointId,
    /// From then on.
    pub(crate) from: jiff::Timestamp,
    /// Until before then.
    pub(crate) to: jiff::Timestamp,
    /// Only these; all when there are none.
    pub(crate) event_types: &'a [String],
}

/// Makes a delivery of each event of a range, up to `limit`, and says how many they are.
pub(crate) async fn replay(
    conn: &mut AsyncPgConnection,
    range: &Range<'_>,
    limit: i64,
    now: jiff::Timestamp,
) -> Result<usize, Error> {
    let pairs: Vec<Pair> = diesel::sql_query(format!(
        "SELECT o.id AS event, o.event_type, e.id AS endpoint FROM outbox AS o INNER JOIN webhook_events AS w ON w.event_id = o.id \
         INNER JOIN webhook_endpoints AS e ON {IS_FOR} WHERE e.id = $1 AND o.occurred_at >= $2 AND o.occurred_at < $3 \
         AND o.event_type <> $6 \
         AND ($4 = '{{}}' OR o.event_type = ANY($4) OR split_part(o.event_type, '.', 1) || '.*' = ANY($4)) \
         ORDER BY o.position LIMIT $5"
    ))
    .bind::<SqlUuid, _>(range.endpoint)
    .bind::<Timestamptz, _>(range.from.to_diesel())
    .bind::<Timestamptz, _>(range.to.to_diesel())
    .bind::<Array<Text>, _>(range.event_types)
    .bind::<BigInt, _>(limit)
    .bind::<Text, _>(crate::domain::webhook::PING)
    .load(conn)
    .await?;
    insert_all(conn, &pairs, Trigger::Replay, now).await?;
    Ok(pairs.len())
}

/// Reads a delivery.
///
/// # Errors
///
/// [`Error::DeliveryNotFound`], [`Error::Corrupt`].
pub(crate) async fn get(
    conn: &mut AsyncPgConnection,
    endpoint: WebhookEndpointId,
    id: DeliveryId,
) -> Result<Delivery, Error> {
    let found: Option<Typed> = diesel::sql_query(
        "SELECT d.*, o.event_type FROM webhook_deliveries AS d INNER JOIN outbox AS o ON o.id = d.event_id \
         WHERE d.id = $1 AND d.endpoint_id = $2",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(endpoint)
    .get_result(conn)
    .await
    .optional()?;
    found.ok_or(Error::DeliveryNotFound(id))?.try_into()
}

/// Which deliveries to list; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) endpoint: Option<WebhookEndpointId>,
    pub(crate) state: Option<&'static str>,
    pub(crate) event_type: Option<String>,
    pub(crate) event: Option<EventId>,
}

/// Up to `limit` deliveries, newest first: those older than `after`.
pub(crate) async fn list(
    conn: &mut AsyncPgConnection,
    filter: &Filter,
    after: Option<DeliveryId>,
    limit: i64,
) -> Result<Vec<Delivery>, Error> {
    let found: Vec<Typed> = diesel::sql_query(
        "SELECT d.*, o.event_type FROM webhook_deliveries AS d INNER JOIN outbox AS o ON o.id = d.event_id \
         WHERE ($1 IS NULL OR d.endpoint_id = $1) AND ($2 IS NULL OR d.state = $2) AND ($3 IS NULL OR o.event_type = $3) \
         AND ($4 IS NULL OR d.event_id = $4) AND ($5 IS NULL OR d.id < $5) ORDER BY d.id DESC LIMIT $6",
    )
    .bind::<Nullable<SqlUuid>, _>(filter.endpoint)
    .bind::<Nullable<Text>, _>(filter.state)
    .bind::<Nullable<Text>, _>(filter.event_type.as_deref())
    .bind::<Nullable<SqlUuid>, _>(filter.event)
    .bind::<Nullable<SqlUuid>, _>(after)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    found.into_iter().map(TryInto::try_into).collect()
}

/// What to take.
pub(crate) struct Take {
    /// What the answer will be known by.
    pub(crate) lease: Uuid,
    /// Until when others leave it alone.
    pub(crate) until: jiff::Timestamp,
    /// Attempts of one endpoint at the same time, by all workers together.
    pub(crate) of_endpoint_max: i32,
    /// As many as this at most.
    pub(crate) limit: i64,
}

/// Takes deliveries that are due, of endpoints that are well, or of one that may be tried again a single one.
pub(crate) async fn take(
    conn: &mut AsyncPgConnection,
    take: &Take,
    now: jiff::Timestamp,
) -> Result<Vec<(WebhookEndpointId, DeliveryId)>, Error> {
    // Whoever holds an endpoint here gives its places away alone; the others find enough to do with the rest.
    let endpoints: Vec<Id> = diesel::sql_query(
        "SELECT e.id FROM webhook_endpoints AS e WHERE e.state = 'ENABLED' AND (e.resume_at IS NULL OR e.resume_at <= $1) \
         AND EXISTS (SELECT FROM webhook_deliveries AS d WHERE d.endpoint_id = e.id AND d.state = 'PENDING' AND d.due_at <= $1 \
         AND (d.lease_expires_at IS NULL OR d.lease_expires_at <= $1)) \
         AND (SELECT count(*) FROM webhook_deliveries AS d WHERE d.endpoint_id = e.id AND d.lease IS NOT NULL AND d.lease_expires_at > $1) \
         < CASE WHEN e.resume_at IS NULL THEN $2 ELSE 1 END \
         ORDER BY random() LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
    )
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<Integer, _>(take.of_endpoint_max)
    .bind::<BigInt, _>(take.limit)
    .load(conn)
    .await?;
    if endpoints.is_empty() {
        return Ok(Vec::new());
    }
    let endpoints: Vec<Uuid> = endpoints.into_iter().map(|found| found.id).collect();
    // A statement of its own: it sees what those who held these endpoints before have taken.
    let taken: Vec<Taken> = diesel::sql_query(
        "UPDATE webhook_deliveries AS d SET lease = $3, lease_expires_at = $4 FROM ( \
         SELECT picked.id FROM webhook_endpoints AS e CROSS JOIN LATERAL ( \
         SELECT w.id FROM webhook_deliveries AS w WHERE w.endpoint_id = e.id AND w.state = 'PENDING' AND w.due_at <= $1 \
         AND (w.lease_expires_at IS NULL OR w.lease_expires_at <= $1) ORDER BY w.due_at, w.id \
         LIMIT greatest(0, CASE WHEN e.resume_at IS NULL THEN $5 ELSE 1 END - ( \
         SELECT count(*) FROM webhook_deliveries AS l WHERE l.endpoint_id = e.id AND l.lease IS NOT NULL AND l.lease_expires_at > $1))) AS picked \
         WHERE e.id = ANY($2) LIMIT $6) AS p WHERE d.id = p.id RETURNING d.endpoint_id, d.id",
    )
    .bind::<Timestamptz, _>(now.to_diesel())
    .bind::<Array<SqlUuid>, _>(&endpoints)
    .bind::<SqlUuid, _>(take.lease)
    .bind::<Timestamptz, _>(take.until.to_diesel())
    .bind::<Integer, _>(take.of_endpoint_max)
    .bind::<BigInt, _>(take.limit)
    .load(conn)
    .await?;
    Ok(taken.into_iter().map(|taken| (taken.endpoint_id, taken.id)).collect())
}

#[derive(QueryableByName)]
struct Taken {
    #[diesel(sql_type = SqlUuid)]
    endpoint_id: WebhookEndpointId,
    #[diesel(sql_type = SqlUuid)]
    id: DeliveryId,
}

/// Locks a delivery, if the lease by which it was taken still holds it.
pub(crate) async fn lock_leased(
    conn: &mut AsyncPgConnection,
    id: DeliveryId,
    lease: Uuid,
) -> Result<Option<Delivery>, Error> {
    let found: Option<Typed> = diesel::sql_query(
        "SELECT d.*, o.event_type FROM webhook_deliveries AS d INNER JOIN outbox AS o ON o.id = d.event_id \
         WHERE d.id = $1 AND d.lease = $2 FOR UPDATE OF d",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(lease)
    .get_result(conn)
    .await
    .optional()?;
    found.map(TryInto::try_into).transpose()
}

/// Writes a delivery that [`lock_leased`] read in the same transaction, and gives its lease back.
pub(crate) async fn update(conn: &mut AsyncPgConnection, delivery: &Delivery) -> Result<(), Error> {
    diesel::update(webhook_deliveries::table.find(delivery.id))
        .set(Row::from(delivery))
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives a lease back, for others to take the delivery at once.
pub(crate) async fn give_back(
    conn: &mut AsyncPgConnection,
    id: DeliveryId,
    lease: Uuid,
) -> Result<(), Error> {
    diesel::update(webhook_deliveries::table.find(id).filter(webhook_deliveries::lease.eq(lease)))
        .set((
            webhook_deliveries::lease.eq(None::<Uuid>),
            webhook_deliveries::lease_expires_at.eq(None::<Timestamp>),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Puts off a delivery that is leased, for others to take it then.
pub(crate) async fn put_off(
    conn: &mut AsyncPgConnection,
    id: DeliveryId,
    lease: Uuid,
    due_at: jiff::Timestamp,
) -> Result<(), Error> {
    diesel::update(webhook_deliveries::table.find(id).filter(webhook_deliveries::lease.eq(lease)))
        .set((
            webhook_deliveries::due_at.eq(due_at.to_diesel()),
            webhook_deliveries::lease.eq(None::<Uuid>),
            webhook_deliveries::lease_expires_at.eq(None::<Timestamp>),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives up what is under way to an endpoint, which the caller has locked: as much as is quickly done. [`give_up_of_disabled`] does the rest.
pub(crate) async fn give_up(
    conn: &mut AsyncPgConnection,
    endpoint: WebhookEndpointId,
    now: jiff::Timestamp,
) -> Result<(), Error> {
    let pending = webhook_deliveries::table
        .filter(webhook_deliveries::endpoint_id.eq(endpoint))
        .filter(webhook_deliveries::state.eq("PENDING"));
    let some = pending.select(webhook_deliveries::id).limit(GIVE_UP_MAX).load::<DeliveryId>(conn).await?;
    give_up_these(conn, &some, now).await
}

/// Gives up some of what is still under way to endpoints that are disabled; whether there may be more.
pub(crate) async fn give_up_of_disabled(
    conn: &mut AsyncPgConnection,
    now: jiff::Timestamp,
) -> Result<bool, Error> {
    let disabled = webhook_endpoints::table
        .filter(webhook_endpoints::state.eq("DISABLED"))
        .select(webhook_endpoints::id)
        .load::<WebhookEndpointId>(conn)
        .await?;
    let some = webhook_deliveries::table
        .filter(webhook_deliveries::endpoint_id.eq_any(disabled))
        .filter(webhook_deliveries::state.eq("PENDING"))
        .select(webhook_deliveries::id)
        .limit(GIVE_UP_MAX)
        .load::<DeliveryId>(conn)
        .await?;
    give_up_these(conn, &some, now).await?;
    Ok(!some.is_empty())
}

async fn give_up_these(
    conn: &mut AsyncPgConnection,
    deliveries: &[DeliveryId],
    now: jiff::Timestamp,
) -> Result<(), Error> {
    diesel::update(
        webhook_deliveries::table
            .filter(webhook_deliveries::id.eq_any(deliveries))
            .filter(webhook_deliveries::state.eq("PENDING")),
    )
    .set((
        webhook_deliveries::state.eq("DEAD"),
        webhook_deliveries::due_at.eq(None::<Timestamp>),
        webhook_deliveries::lease.eq(None::<Uuid>),
        webhook_deliveries::lease_expires_at.eq(None::<Timestamp>),
        webhook_deliveries::last_failure.eq(Failure::EndpointDisabled.as_str()),
        webhook_deliveries::updated_at.eq(now.to_diesel()),
    ))
    .execute(conn)
    .await?;
    Ok(())
}

/// What an event says.
pub(crate) async fn message(conn: &mut AsyncPgConnection, id: EventId) -> Result<Message, Error> {
    Ok(diesel::sql_query(
        "SELECT o.aggregate_type, o.version, o.event_type, o.payload, o.request_id, o.occurred_at, w.idempotency_key, \
         p.payload AS previous FROM webhook_events AS w INNER JOIN outbox AS o ON o.id = w.event_id \
         LEFT JOIN outbox AS p ON p.aggregate_type = o.aggregate_type AND p.aggregate_id = o.aggregate_id AND p.version = o.version - 1 \
         WHERE w.event_id = $1",
    )
    .bind::<SqlUuid, _>(id)
    .get_result(conn)
    .await?)
}
