//! `CancellationService`.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::auth::Caller;
use mesh::clock::to_proto;
use proto::bookings::v1 as pb;
use proto::bookings::v1::cancellation_service_server::CancellationService;
use tonic::{Request, Response, Status};

use super::{Api, call, id_of, money, owns, replay};
use crate::domain::booking::{self, Booking, BookingId, Event};
use crate::domain::cancellation::{Cancellation, CancellationId, QUOTE_TTL, State, quote};
use crate::domain::hold::PIN;
use crate::domain::saga::{Kind, Step};
use crate::error::Error;
use crate::store::sagas::{self, NewSaga};
use crate::store::{bookings, cancellations, inventory};

#[tonic::async_trait]
impl CancellationService for Api {
    async fn create_cancellation(
        &self,
        request: Request<pb::CreateCancellationRequest>,
    ) -> Result<Response<pb::Cancellation>, Status> {
        let (caller, request) = mesh::server::open(request)?;
        let id = id_of(BookingId::from_name(&request.booking), "booking")?;
        let now = self.clock.now();

        let quoted = self
            .db
            .transaction("create_cancellation", async |conn| {
                let booking = bookings::lock(conn, id).await?;
                owns(&caller, booking.customer, || id.name())?;
                let cancellation = offer(conn, &booking, now).await?;
                cancellations::insert(conn, &cancellation).await?;
                Ok::<_, Error>(to_message(&cancellation, &booking))
            })
            .await?;
        Ok(Response::new(quoted))
    }

    async fn confirm_cancellation(
        &self,
        request: Request<pb::ConfirmCancellationRequest>,
    ) -> Result<Response<pb::Cancellation>, Status> {
        let (caller, mut request) = mesh::server::open(request)?;
        let key = std::mem::take(&mut request.request_id);
        let call =
            call(&caller, "/jetway.bookings.v1.CancellationService/ConfirmCancellation", key, &request);
        let (booking, cancellation) = ids(&request.name)?;
        let request_id = mesh::server::request_id();
        let now = self.clock.now();

        let confirmed = self
            .db
            .transaction("confirm_cancellation", async |conn| {
                inventory::wait_briefly(conn).await?;
                if let Some(before) = replay(conn, &call, now).await? {
                    return Ok(before);
                }
                let confirmed = confirm(conn, &caller, booking, cancellation, &request_id, now).await?;
                mesh::idempotency::complete(conn, &call, &confirmed, now).await?;
                Ok::<_, Error>(Response::new(confirmed))
            })
            .await?;
        self.wake.notify_one();
        Ok(confirmed)
    }
}

/// What canceling the locked booking would give back now.
async fn offer(
    conn: &mut AsyncPgConnection,
    booking: &Booking,
    now: Timestamp,
) -> Result<Cancellation, Error> {
    may_cancel(booking)?;
    let (booked_at, departure_at) =
        bookings::times(conn, booking.id).await?.ok_or_else(|| Error::Corrupt(booking.id.name()))?;
    if departure_at <= now {
        return Err(Error::Departed(booking.id));
    }
    Ok(Cancellation {
        id: CancellationId::generate(),
        booking: booking.id,
        state: State::Quoted,
        quote: quote(&booking.items, booked_at, departure_at, now),
        created_at: now,
        expires_at: now.checked_add(QUOTE_TTL).unwrap_or(Timestamp::MAX),
    })
}

fn may_cancel(booking: &Booking) -> Result<booking::State, Error> {
    booking.state.after(Event::Cancel).map_err(|why| Error::Booking { booking: booking.id, why })
}

/// Takes a quote: the seats are free and the tickets void at once, and a saga gives the money back. Taking the same quote again changes nothing.
async fn confirm(
    conn: &mut AsyncPgConnection,
    caller: &Caller,
    booking: BookingId,
    id: CancellationId,
    request_id: &str,
    now: Timestamp,
) -> Result<pb::Cancellation, Error> {
    let name = || format!("{}/{}", booking.name(), id.name());
    let missing = |error| if matches!(error, Error::NotFound(_)) { Error::NotFound(name()) } else { error };
    let mut booking = bookings::lock(conn, booking).await.map_err(missing)?;
    owns(caller, booking.customer, name)?;
    let quotes = cancellations::that_and_newest(conn, booking.id, id).await?;
    let newest = quotes.first().map(|quote| quote.id);
    let mut chosen =
        quotes.into_iter().find(|quote| quote.id == id).ok_or_else(|| Error::NotFound(name()))?;
    if chosen.state != State::Quoted {
        return Ok(to_message(&chosen, &booking));
    }
    may_cancel(&booking)?;
    if newest != Some(id) || chosen.expires_at <= now {
        return Err(Error::QuoteExpired(name()));
    }
    let departure = bookings::times(conn, booking.id).await?.map(|(_, departure_at)| departure_at);
    if departure.is_none_or(|departure_at| departure_at <= now) {
        return Err(Error::Departed(booking.id));
    }

    cancellations::confirm(conn, id, now).await?;
    chosen.state = State::Confirmed;
    let saga = NewSaga {
        id: id.uuid(),
        kind: Kind::Refund,
        booking: booking.id,
        step: if chosen.quote.refund_minor == 0 { Step::Settle } else { Step::Refund },
        deadline_at: now.checked_add(PIN).unwrap_or(Timestamp::MAX),
    };
    sagas::insert(conn, &saga, now).await?;
    bookings::void_tickets(conn, booking.id).await?;
    bookings::apply(conn, &mut booking, Event::Cancel, request_id, now).await?;
    inventory::free_booking(conn, booking.id, booking.hold).await?;
    Ok(to_message(&chosen, &booking))
}

/// The ids in `bookings/{uid}/cancellations/{uid}`.
fn ids(name: &str) -> Result<(BookingId, CancellationId), Error> {
    let parts = name
        .split_once("/cancellations/")
        .and_then(|(booking, uid)| Some((BookingId::from_name(booking)?, uid.parse().ok()?)));
    id_of(parts, "name")
}

fn to_message(cancellation: &Cancellation, booking: &Booking) -> pb::Cancellation {
    let state = match cancellation.state {
        State::Quoted => pb::cancellation::State::Quoted,
        State::Confirmed => pb::cancellation::State::Confirmed,
        State::Settled => pb::cancellation::State::Settled,
    };
    let currency = booking.total.currency.as_str();
    pb::Cancellation {
        name: format!("{}/{}", booking.id.name(), cancellation.id.name()),
        create_time: Some(to_proto(cancellation.created_at)),
        expire_time: Some(to_proto(cancellation.expires_at)),
        state: state.into(),
        refund: Some(money(cancellation.quote.refund_minor, currency)),
        penalty: Some(money(cancellation.quote.penalty_minor, currency)),
        refund_to: format!("paymentMethods/{}", booking.payment_method),
    }
}
