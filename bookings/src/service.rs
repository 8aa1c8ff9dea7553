//! The RPCs, a file for each service of the contract. Each reads: who, what, when; then lock, may, change, write.

mod bookings;
mod cancellations;
mod catalog;
mod flights;
mod holds;
mod seats;

use std::sync::Arc;

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::auth::{Caller, PrincipalId};
use mesh::clock::Clock;
use mesh::db::Db;
use mesh::idempotency::{self, Claim};
use mesh::pagination::PageToken;
use prost::Message;
use proto::bookings::v1 as pb;
use tokio::sync::Notify;
use tonic::Response;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;

use crate::domain::Money;
use crate::error::Error;

/// The role that may read and write everything.
const ADMIN: &str = "admin";

/// What the handlers need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    /// Tells the runner of sagas that there is a new one.
    pub(crate) wake: Arc<Notify>,
    pub(crate) hold_ttl_seconds: i32,
}

impl Api {
    /// Every service of the contract.
    pub(crate) fn routes(self) -> Routes {
        Routes::default()
            .add_service(pb::catalog_service_server::CatalogServiceServer::new(self.clone()))
            .add_service(pb::flight_service_server::FlightServiceServer::new(self.clone()))
            .add_service(pb::seat_service_server::SeatServiceServer::new(self.clone()))
            .add_service(pb::hold_service_server::HoldServiceServer::new(self.clone()))
            .add_service(pb::booking_service_server::BookingServiceServer::new(self.clone()))
            .add_service(pb::cancellation_service_server::CancellationServiceServer::new(self))
    }
}

/// The call behind a request id. `message` is the request with its request id cleared and its defaults applied.
fn call(caller: &Caller, method: &'static str, key: String, message: &impl Message) -> idempotency::Request {
    let fingerprint = idempotency::Fingerprint::of_message(message);
    idempotency::Request { caller: caller.idempotency_scope(), method, key, fingerprint }
}

/// Says in the metadata of an answer that it was given before.
const REPLAYED: (&str, &str) = ("idempotent-replayed", "true");

/// Claims the request id in the transaction of the effect; `Some` is the answer that was given before, and says so.
///
/// The claim and its answer are committed together or not at all, so an open claim is one whose transaction is still running, and waiting for
/// that is what the claim does.
async fn replay<R: Message + Default>(
    conn: &mut AsyncPgConnection,
    call: &idempotency::Request,
    now: Timestamp,
) -> Result<Option<Response<R>>, Error> {
    match idempotency::claim(conn, call, now).await? {
        Claim::New | Claim::Resume { .. } => Ok(None),
        Claim::Replay(stored) => match stored.response {
            Ok(bytes) => {
                let answer = R::decode(bytes.as_slice())
                    .map_err(|_| Error::Corrupt(format!("the answer to {}", call.method)))?;
                let mut answer = Response::new(answer);
                answer.metadata_mut().insert(REPLAYED.0, MetadataValue::from_static(REPLAYED.1));
                Ok(Some(answer))
            }
            Err(bytes) => {
                let mut refusal = mesh::status::decode(&bytes)
                    .map_err(|_| Error::Corrupt(format!("the refusal of {}", call.method)))?;
                refusal.metadata_mut().insert(REPLAYED.0, MetadataValue::from_static(REPLAYED.1));
                Err(Error::Replayed(refusal))
            }
        },
    }
}

/// Refuses, as if it did not exist, what belongs to somebody else. Admins may read everything.
fn may_see(caller: &Caller, owner: PrincipalId, name: impl FnOnce() -> String) -> Result<(), Error> {
    if caller.has_role(ADMIN) { Ok(()) } else { owns(caller, owner, name) }
}

/// Refuses, as if it did not exist, what belongs to somebody else.
fn owns(caller: &Caller, owner: PrincipalId, name: impl FnOnce() -> String) -> Result<(), Error> {
    if caller.user().is_some_and(|user| user.id == owner) { Ok(()) } else { Err(Error::NotFound(name())) }
}

/// The id in a resource name of a `field`.
fn id_of<T>(parsed: Option<T>, field: &str) -> Result<T, Error> {
    parsed.ok_or_else(|| Error::invalid(field, "names a resource by its UUID"))
}

/// Cuts a list of one item more than asked for to a page, and makes the token of the next one.
fn page<T, K: serde::Serialize>(
    mut items: Vec<T>,
    size: i64,
    query: &[u8],
    key: impl FnOnce(&T) -> K,
) -> (Vec<T>, String) {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if items.len() <= size {
        return (items, String::new());
    }
    items.truncate(size);
    let token = items.last().map(|last| PageToken::encode(&key(last), query)).unwrap_or_default();
    (items, token)
}

fn money(minor: i64, currency: &str) -> proto::r#type::Money {
    proto::r#type::Money { currency_code: currency.to_owned(), amount_minor: minor }
}

impl From<&Money> for proto::r#type::Money {
    fn from(of: &Money) -> Self {
        money(of.minor, &of.currency)
    }
}
