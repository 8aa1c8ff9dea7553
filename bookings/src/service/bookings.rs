//! `BookingService`.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::auth::PrincipalId;
use mesh::clock::to_proto;
use mesh::free_text::holds_card_number;
use mesh::pagination::{PageToken, page_size};
use proto::bookings::v1 as pb;
use proto::bookings::v1::booking_service_server::BookingService;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{ADMIN, Api, call, id_of, may_see, money, page, replay};
use crate::domain::booking::{Booking, BookingId, Passenger, State, TicketState};
use crate::domain::hold::{Event, HoldId, PIN};
use crate::domain::saga::{Kind, Step};
use crate::error::Error;
use crate::store::sagas::{self, NewSaga};
use crate::store::{bookings, flights, holds};

#[tonic::async_trait]
impl BookingService for Api {
    async fn create_booking(
        &self,
        request: Request<pb::CreateBookingRequest>,
    ) -> Result<Response<pb::Booking>, Status> {
        let (caller, mut request) = mesh::server::open(request)?;
        let customer = caller.principal()?;
        let key = std::mem::take(&mut request.request_id);
        let call = call(&caller, "/jetway.bookings.v1.BookingService/CreateBooking", key, &request);
        let purchase = Purchase::try_from(request)?;
        let request_id = mesh::server::request_id();
        let now = self.clock.now();

        let booking = self
            .db
            .transaction("create_booking", async |conn| {
                if let Some(before) = replay(conn, &call, now).await? {
                    return Ok(before);
                }
                let booking = begin(conn, customer, &purchase, &request_id, now).await?;
                let created = pb::Booking::from(booking);
                mesh::idempotency::complete(conn, &call, &created, now).await?;
                Ok::<_, Error>(Response::new(created))
            })
            .await?;
        self.wake.notify_one();
        Ok(booking)
    }

    async fn get_booking(
        &self,
        request: Request<pb::GetBookingRequest>,
    ) -> Result<Response<pb::Booking>, Status> {
        let (caller, request) = mesh::server::open(request)?;
        let id = id_of(BookingId::from_name(&request.name), "name")?;
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        let booking = bookings::find(&mut conn, id).await?;
        may_see(&caller, booking.customer, || id.name())?;
        Ok(Response::new(booking.into()))
    }

    async fn list_bookings(
        &self,
        request: Request<pb::ListBookingsRequest>,
    ) -> Result<Response<pb::ListBookingsResponse>, Status> {
        let (caller, request) = mesh::server::open(request)?;
        let customer = if caller.has_role(ADMIN) { None } else { Some(caller.principal()?) };
        let query = customer.map_or_else(|| "all".to_owned(), PrincipalId::name).into_bytes();
        let before = PageToken::decode(&request.page_token, &query).map_err(|_| Error::PageToken)?;
        let size = page_size(request.page_size);
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        let found = bookings::list(&mut conn, customer, before, size.saturating_add(1)).await?;
        let (found, next_page_token) = page(found, size, &query, |last| last.id);
        let bookings = found.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListBookingsResponse { bookings, next_page_token }))
    }
}

/// What somebody wants to buy.
struct Purchase {
    hold: HoldId,
    passengers: Vec<Passenger>,
    payment_method: Uuid,
}

impl TryFrom<pb::CreateBookingRequest> for Purchase {
    type Error = Error;

    fn try_from(request: pb::CreateBookingRequest) -> Result<Self, Error> {
        let passengers = request
            .passengers
            .into_iter()
            .enumerate()
            .map(|(index, passenger)| {
                let name = |field: &str, name: String| {
                    let field = || format!("passengers[{index}].{field}");
                    if name.trim() != name || name.is_empty() || name.chars().any(char::is_control) {
                        Err(Error::invalid(field(), "has no spaces around it and no control characters"))
                    } else if holds_card_number(&name) {
                        Err(Error::PanInFreeText(field()))
                    } else {
                        Ok(name)
                    }
                };
                Ok(Passenger {
                    given_name: name("given_name", passenger.given_name)?,
                    family_name: name("family_name", passenger.family_name)?,
                })
            })
            .collect::<Result<_, Error>>()?;
        let method = request.payment_method.strip_prefix("paymentMethods/");
        Ok(Self {
            hold: id_of(HoldId::from_name(&request.hold), "hold")?,
            passengers,
            payment_method: id_of(method.and_then(|uid| Uuid::parse_str(uid).ok()), "payment_method")?,
        })
    }
}

/// T0: the hold is pinned, the booking is there, and so is the saga that will bring it to an end.
async fn begin(
    conn: &mut AsyncPgConnection,
    customer: PrincipalId,
    purchase: &Purchase,
    request_id: &str,
    now: Timestamp,
) -> Result<Booking, Error> {
    let mut hold = holds::lock(conn, purchase.hold).await?;
    if hold.customer != customer {
        return Err(Error::NotFound(hold.id.name()));
    }
    if purchase.passengers.len() != hold.passengers() {
        let rule = format!("are as many as the hold is for: {}", hold.passengers());
        return Err(Error::invalid("passengers", rule));
    }
    let departures = flights::of_hold(conn, hold.id).await?;
    if let Some(closed) = departures.iter().find(|departure| !departure.is_on_sale(now)) {
        return Err(Error::FlightClosed(closed.flight));
    }
    holds::apply(conn, &mut hold, Event::Pin(now), request_id, now).await?;
    let booking = Booking {
        id: BookingId::generate(),
        hold: hold.id,
        customer,
        airline_id: hold.airline_id,
        state: State::Pending,
        record_locator: None,
        total: hold.total,
        refunded_minor: 0,
        payment_method: purchase.payment_method,
        payment_intent: None,
        failure: None,
        created_at: now,
        updated_at: now,
        passengers: purchase.passengers.clone(),
        items: hold.items,
        tickets: Vec::new(),
    };
    bookings::insert(conn, &booking).await?;
    // Who has not paid when the first flight leaves has not bought it.
    let deadline_at = departures
        .iter()
        .map(|departure| departure.at)
        .fold(now.checked_add(PIN).unwrap_or(Timestamp::MAX), Timestamp::min);
    let saga = NewSaga {
        id: booking.id.uuid(),
        kind: Kind::Purchase,
        booking: booking.id,
        step: Step::CreateIntent,
        deadline_at,
    };
    sagas::insert(conn, &saga, now).await?;
    bookings::tell(conn, &booking, request_id, now).await?;
    Ok(booking)
}

impl From<Booking> for pb::Booking {
    fn from(booking: Booking) -> Self {
        use pb::booking::State as Wire;

        let currency = booking.total.currency.as_str();
        let state = match booking.state {
            State::Pending => Wire::Pending,
            State::AwaitingAction => Wire::AwaitingAction,
            State::Confirmed => Wire::Confirmed,
            State::Failed => Wire::Failed,
            State::Expired => Wire::Expired,
            State::Canceling => Wire::Canceling,
            State::Canceled => Wire::Canceled,
            State::Completed => Wire::Completed,
        };
        let items = booking.items.iter().map(|item| pb::BookingItem {
            flight: item.flight.name(),
            cabin: item.cabin.word().to_owned(),
            fare: item.fare.clone(),
            seat_number: item.seat_no.clone(),
            price: Some(money(item.price_minor(), currency)),
            passenger_index: item.passenger_index.into(),
        });
        let passengers = booking.passengers.iter().map(|passenger| pb::Passenger {
            given_name: passenger.given_name.clone(),
            family_name: passenger.family_name.clone(),
        });
        let tickets = booking.tickets.iter().map(|ticket| {
            let state = match ticket.state {
                TicketState::Open => pb::ticket::State::Open,
                TicketState::Refunded => pb::ticket::State::Refunded,
            };
            pb::Ticket {
                ticket_number: ticket.number.clone(),
                passenger_index: ticket.passenger_index.into(),
                state: state.into(),
            }
        });
        Self {
            name: booking.id.name(),
            uid: booking.id.to_string(),
            create_time: Some(to_proto(booking.created_at)),
            update_time: Some(to_proto(booking.updated_at)),
            state: state.into(),
            customer: booking.customer.name(),
            record_locator: booking.record_locator.clone().unwrap_or_default(),
            hold: booking.hold.name(),
            passengers: passengers.collect(),
            items: items.collect(),
            refunded: Some(money(booking.refunded_minor, currency)),
            payment_intent: booking
                .payment_intent
                .map(|id| format!("paymentIntents/{id}"))
                .unwrap_or_default(),
            failure: booking.failure.as_ref().map(|failure| pb::BookingFailure {
                reason: failure.reason.clone(),
                decline_code: failure.decline_code.clone(),
                message: failure.message.clone(),
            }),
            tickets: tickets.collect(),
            total: Some((&booking.total).into()),
        }
    }
}
