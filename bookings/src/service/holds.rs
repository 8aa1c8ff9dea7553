//! `HoldService`.

use std::collections::BTreeMap;

use diesel_async::AsyncPgConnection;
use jiff::{SignedDuration, Timestamp};
use mesh::auth::{Caller, PrincipalId};
use mesh::clock::to_proto;
use proto::bookings::v1 as pb;
use proto::bookings::v1::hold_service_server::HoldService;
use rand::seq::SliceRandom as _;
use tonic::{Request, Response, Status};

use super::{Api, call, id_of, may_see, money, owns, replay};
use crate::domain::Money;
use crate::domain::flight::{self, CabinClass, FlightId, PRICE_MINOR_MAX};
use crate::domain::hold::{ACTIVE_MAX, Event, Hold, HoldId, Item, State};
use crate::error::Error;
use crate::store::holds;
use crate::store::inventory::{self, LEG, Offer};

/// Rounds of picking any seat: another is needed when seats that looked free were taken meanwhile, so each is somebody's progress.
const PICK_ROUNDS_MAX: u32 = 50;

#[tonic::async_trait]
impl HoldService for Api {
    async fn create_hold(
        &self,
        request: Request<pb::CreateHoldRequest>,
    ) -> Result<Response<pb::Hold>, Status> {
        let (caller, mut request) = mesh::server::open(request)?;
        let customer = caller.principal()?;
        let key = std::mem::take(&mut request.request_id);
        if request.ttl_seconds == 0 {
            request.ttl_seconds = self.hold_ttl_seconds;
        }
        let call = call(&caller, "/jetway.bookings.v1.HoldService/CreateHold", key, &request);
        let ttl = SignedDuration::from_secs(request.ttl_seconds.into());
        let wanted = wanted(request.items)?;
        let request_id = mesh::server::request_id();
        let now = self.clock.now();

        let hold = self
            .db
            .transaction("create_hold", async |conn| {
                inventory::wait_briefly(conn).await?;
                if let Some(before) = replay(conn, &call, now).await? {
                    return Ok(before);
                }
                let offers = offers(conn, &wanted, now).await?;
                let mut groups = group(&wanted, &offers);
                // Before any lock: a cabin that is sold out is refused without waiting.
                let room = room(conn, &groups, now).await?;
                inventory::lock_customer(conn, customer).await?;
                if holds::count_active(conn, customer, now).await? >= ACTIVE_MAX {
                    return Err(Error::TooManyHolds);
                }
                if room == Room::AfterExpiry {
                    make_room(conn, &wanted, &mut groups, now).await?;
                }
                let mut hold = draft(customer, &wanted, &offers, ttl, now)?;
                take(conn, &mut hold, &groups, now).await?;
                holds::tell(conn, &hold, &request_id, now).await?;
                let created = to_message(&hold, now);
                mesh::idempotency::complete(conn, &call, &created, now).await?;
                Ok::<_, Error>(Response::new(created))
            })
            .await?;
        Ok(hold)
    }

    async fn get_hold(&self, request: Request<pb::GetHoldRequest>) -> Result<Response<pb::Hold>, Status> {
        let (caller, request) = mesh::server::open(request)?;
        let id = id_of(HoldId::from_name(&request.name), "name")?;
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        let hold = holds::find(&mut conn, id).await?;
        may_see(&caller, hold.customer, || id.name())?;
        Ok(Response::new(to_message(&hold, self.clock.now())))
    }

    async fn release_hold(
        &self,
        request: Request<pb::ReleaseHoldRequest>,
    ) -> Result<Response<pb::Hold>, Status> {
        let (caller, request) = mesh::server::open(request)?;
        let id = id_of(HoldId::from_name(&request.name), "name")?;
        let request_id = mesh::server::request_id();
        let now = self.clock.now();

        let hold = self
            .db
            .transaction("release_hold", async |conn| release(conn, &caller, id, &request_id, now).await)
            .await?;
        Ok(Response::new(to_message(&hold, now)))
    }
}

async fn release(
    conn: &mut AsyncPgConnection,
    caller: &Caller,
    id: HoldId,
    request_id: &str,
    now: Timestamp,
) -> Result<Hold, Error> {
    let mut hold = holds::lock(conn, id).await?;
    owns(caller, hold.customer, || id.name())?;
    holds::apply(conn, &mut hold, Event::Release(now), request_id, now).await?;
    Ok(hold)
}

/// One place that somebody wants.
struct Wanted {
    flight: FlightId,
    cabin: CabinClass,
    fare: String,
    /// `None`: any seat of the cabin.
    seat_no: Option<String>,
}

fn wanted(items: Vec<pb::HoldItem>) -> Result<Vec<Wanted>, Error> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let field = |name: &str| format!("items[{index}].{name}");
        let flight = id_of(FlightId::from_name(&item.flight), &field("flight"))?;
        let cabin = CabinClass::of_word(&item.cabin)
            .ok_or_else(|| Error::invalid(field("cabin"), "is a class of service"))?;
        let seat_no = (!item.seat_number.is_empty()).then_some(item.seat_number);
        if seat_no.is_some() && wanted.iter().any(|other| other.flight == flight && other.seat_no == seat_no)
        {
            return Err(Error::invalid(field("seat_number"), "is asked for once"));
        }
        wanted.push(Wanted { flight, cabin, fare: item.fare, seat_no });
    }
    Ok(wanted)
}

/// What each place costs now, in the order asked for. Refuses what does not exist or is not on sale.
async fn offers(
    conn: &mut AsyncPgConnection,
    wanted: &[Wanted],
    now: Timestamp,
) -> Result<Vec<Offer>, Error> {
    let mut offers: Vec<Offer> = Vec::new();
    for (index, item) in wanted.iter().enumerate() {
        let field = |name: &str| format!("items[{index}].{name}");
        let offer = inventory::offer(conn, item.flight, item.cabin, &item.fare, now)
            .await?
            .ok_or_else(|| Error::invalid(field("fare"), "is a fare of that cabin of the flight"))?;
        if offer.state != flight::State::Scheduled || offer.departure_at <= now {
            return Err(Error::FlightClosed(item.flight));
        }
        if let Some(seat_no) = &item.seat_no
            && !offer.layout.seats().any(|seat| seat == *seat_no)
        {
            return Err(Error::invalid(field("seat_number"), "is a seat of that cabin"));
        }
        if let Some(first) = offers.first() {
            if first.currency != offer.currency {
                return Err(Error::invalid(field("fare"), "is in the currency of the first item"));
            }
            // One purchase pays one merchant, and its tickets are one airline's.
            if first.airline_id != offer.airline_id {
                return Err(Error::invalid(field("flight"), "is of the airline of the first item"));
            }
        }
        offers.push(offer);
    }
    Ok(offers)
}

/// The hold as it will be, but for the seats that are still to be picked.
fn draft(
    customer: PrincipalId,
    wanted: &[Wanted],
    offers: &[Offer],
    ttl: SignedDuration,
    now: Timestamp,
) -> Result<Hold, Error> {
    let mut travellers: BTreeMap<FlightId, i16> = BTreeMap::new();
    let mut items = Vec::new();
    for (item, offer) in wanted.iter().zip(offers) {
        let traveller = travellers.entry(item.flight).or_default();
        items.push(Item {
            flight: item.flight,
            leg: LEG,
            cabin: item.cabin,
            fare: item.fare.clone(),
            seat_no: item.seat_no.clone().unwrap_or_default(),
            passenger_index: *traveller,
            base_minor: offer.base_minor,
            taxes_minor: offer.taxes_minor,
            refundable: offer.refundable,
            penalty_minor: offer.penalty_minor,
        });
        *traveller = traveller.saturating_add(1);
    }
    let total = items.iter().fold(0_i64, |sum, item| sum.saturating_add(item.price_minor()));
    if total > PRICE_MINOR_MAX {
        return Err(Error::invalid("items", "cost at most 99999999999 minor units together"));
    }
    // What has left is not bought: nobody holds a seat longer than until then.
    let over_at = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
    let expires_at = offers.iter().map(|offer| offer.departure_at).fold(over_at, Timestamp::min);
    let (airline_id, currency) =
        offers.first().map(|offer| (offer.airline_id.clone(), offer.currency.clone())).unwrap_or_default();
    Ok(Hold {
        id: HoldId::generate(),
        customer,
        airline_id,
        state: State::Active,
        total: Money { currency, minor: total },
        created_at: now,
        expires_at,
        items,
    })
}

/// What one hold wants of one cabin.
struct Group<'a> {
    offer: &'a Offer,
    free: i32,
    stale: i32,
    units: i32,
    named: Vec<String>,
    /// Indexes of the items that take any seat.
    any: Vec<usize>,
}

/// What one hold wants, by flight and cabin, in the order in which it is locked.
type Groups<'a> = BTreeMap<(FlightId, CabinClass), Group<'a>>;

fn group<'a>(wanted: &[Wanted], offers: &'a [Offer]) -> Groups<'a> {
    let mut groups = Groups::new();
    for (index, (item, offer)) in wanted.iter().zip(offers).enumerate() {
        let group = groups.entry((item.flight, item.cabin)).or_insert_with(|| Group {
            offer,
            free: offer.free,
            stale: offer.stale,
            units: 0,
            named: Vec::new(),
            any: Vec::new(),
        });
        group.units = group.units.saturating_add(1);
        match &item.seat_no {
            Some(seat_no) => group.named.push(seat_no.clone()),
            None => group.any.push(index),
        }
    }
    groups
}

/// Each flight once, in order.
fn flights(groups: &Groups<'_>) -> Vec<FlightId> {
    let mut flights: Vec<FlightId> = groups.keys().map(|(flight, _)| *flight).collect();
    flights.dedup();
    flights
}

/// Whether there is room, as far as is seen without a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// There is.
    Enough,
    /// There is, once holds that are over are ended.
    AfterExpiry,
}

/// Looks whether there is room for the hold.
///
/// # Errors
///
/// [`Error::SoldOut`] or [`Error::SeatTaken`] when there is none.
async fn room(conn: &mut AsyncPgConnection, groups: &Groups<'_>, now: Timestamp) -> Result<Room, Error> {
    let mut room = Room::Enough;
    for ((flight, cabin), group) in groups {
        if group.free < group.units {
            if group.free.saturating_add(group.stale) < group.units {
                return Err(Error::SoldOut { flight: *flight, cabin: *cabin });
            }
            room = Room::AfterExpiry;
        }
        if group.named.is_empty() {
            continue;
        }
        for seat in inventory::taken(conn, *flight, now).await? {
            if group.named.contains(&seat.seat_no) {
                if !seat.stale {
                    return Err(Error::SeatTaken { flight: *flight, seat_no: seat.seat_no });
                }
                room = Room::AfterExpiry;
            }
        }
    }
    Ok(room)
}

/// Ends the holds that are over on the flights, and looks again.
async fn make_room(
    conn: &mut AsyncPgConnection,
    wanted: &[Wanted],
    groups: &mut Groups<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    holds::expire_on(conn, &flights(groups), now).await?;
    for item in wanted {
        let Some(offer) = inventory::offer(conn, item.flight, item.cabin, &item.fare, now).await? else {
            continue;
        };
        if let Some(group) = groups.get_mut(&(item.flight, item.cabin)) {
            (group.free, group.stale) = (offer.free, offer.stale);
        }
    }
    match room(conn, groups, now).await? {
        Room::Enough => Ok(()),
        Room::AfterExpiry => Err(Error::ExpiredInTheWay),
    }
}

/// Stores the hold and takes its seats and its space, in the order of locks that [`crate::store`] names.
async fn take(
    conn: &mut AsyncPgConnection,
    hold: &mut Hold,
    groups: &Groups<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    let flights = flights(groups);
    holds::insert(conn, hold).await?;
    for ((flight, _), group) in groups {
        inventory::lock_seats(conn, *flight, &group.named).await?;
    }
    for ((flight, _), group) in groups {
        if group.named.is_empty() {
            continue;
        }
        let got = inventory::take_seats(conn, hold.id, *flight, &group.named).await?;
        if let Some(seat_no) = group.named.iter().find(|seat| !got.contains(seat)) {
            let refusal = Error::SeatTaken { flight: *flight, seat_no: seat_no.clone() };
            return Err(in_the_way(conn, &flights, now, refusal).await?);
        }
    }
    for ((flight, cabin), group) in groups {
        let picked = pick(conn, hold.id, *flight, group, now).await?;
        if picked.len() < group.any.len() {
            let refusal = Error::SoldOut { flight: *flight, cabin: *cabin };
            return Err(in_the_way(conn, &flights, now, refusal).await?);
        }
        for (index, seat_no) in group.any.iter().zip(picked) {
            if let Some(item) = hold.items.get_mut(*index) {
                item.seat_no = seat_no;
            }
        }
    }
    holds::insert_items(conn, hold).await?;
    for ((flight, cabin), group) in groups {
        if !inventory::take_units(conn, *flight, *cabin, group.units).await? {
            let refusal = Error::SoldOut { flight: *flight, cabin: *cabin };
            return Err(in_the_way(conn, &flights, now, refusal).await?);
        }
    }
    Ok(())
}

/// The refusal, unless only holds that are over stand in the way: then the transaction runs again and ends them first.
async fn in_the_way(
    conn: &mut AsyncPgConnection,
    flights: &[FlightId],
    now: Timestamp,
    refusal: Error,
) -> Result<Error, Error> {
    let expired = holds::any_expired_on(conn, flights, now).await?;
    Ok(if expired { Error::ExpiredInTheWay } else { refusal })
}

/// Takes as many seats of the cabin as the group wants, at random, and without waiting for anybody: a seat that somebody is about to take counts
/// as taken.
async fn pick(
    conn: &mut AsyncPgConnection,
    hold: HoldId,
    flight: FlightId,
    group: &Group<'_>,
    now: Timestamp,
) -> Result<Vec<String>, Error> {
    let mut picked: Vec<String> = Vec::new();
    for _ in 0..PICK_ROUNDS_MAX {
        let missing = group.any.len().saturating_sub(picked.len());
        if missing == 0 {
            break;
        }
        let taken = inventory::taken(conn, flight, now).await?;
        let mut free: Vec<String> = group
            .offer
            .layout
            .seats()
            .filter(|seat| !taken.iter().any(|taken| taken.seat_no == *seat))
            .collect();
        free.shuffle(&mut rand::rng());
        let missing = i64::try_from(missing).unwrap_or(i64::MAX);
        let locked = inventory::try_lock_seats(conn, flight, &free, missing).await?;
        if locked.is_empty() {
            break;
        }
        picked.extend(inventory::take_seats(conn, hold, flight, &locked).await?);
    }
    Ok(picked)
}

/// The hold as its customer sees it at `now`.
fn to_message(hold: &Hold, now: Timestamp) -> pb::Hold {
    let state = match hold.state_at(now) {
        State::Active => pb::hold::State::Active,
        State::Pinned => pb::hold::State::Pinned,
        State::Consumed => pb::hold::State::Consumed,
        State::Released => pb::hold::State::Released,
        State::Expired => pb::hold::State::Expired,
    };
    let items = hold.items.iter().map(|item| pb::HoldItem {
        flight: item.flight.name(),
        cabin: item.cabin.word().to_owned(),
        fare: item.fare.clone(),
        seat_number: item.seat_no.clone(),
        price: Some(money(item.price_minor(), &hold.total.currency)),
    });
    pb::Hold {
        name: hold.id.name(),
        uid: hold.id.to_string(),
        create_time: Some(to_proto(hold.created_at)),
        state: state.into(),
        expire_time: Some(to_proto(hold.expires_at)),
        items: items.collect(),
        total: Some((&hold.total).into()),
    }
}
