//! The ends of a saga, each one transaction.

use jiff::Timestamp;
use mesh::db::Db;

use crate::domain::booking::{Booking, Event, Failure};
use crate::domain::hold;
use crate::domain::locator::{CHOICES, Locator};
use crate::domain::saga::State;
use crate::error::Error;
use crate::store::sagas::Saga;
use crate::store::{bookings, cancellations, holds, inventory, sagas};

/// Locators drawn before something else must be wrong: with a billion of them, two are rarely taken in a row.
const DRAWS_MAX: u32 = 20;

/// T4: the seats are the booking's, tickets are issued, the booking is confirmed.
pub(super) async fn ticket(db: &Db, saga: &Saga, now: Timestamp) -> Result<(), Error> {
    let booking = db
        .transaction("saga_ticket", async |conn| {
            sagas::end(conn, saga, State::Done, None, now).await?;
            let mut booking = bookings::lock(conn, saga.booking).await?;
            let mut hold = holds::lock(conn, booking.hold).await?;
            inventory::sell_hold(conn, hold.id, booking.id, hold.items.len()).await?;
            holds::apply(conn, &mut hold, hold::Event::Consume, "", now).await?;
            booking.record_locator = Some(draw(conn).await?.to_string());
            // A cancellation of the payment may have been under way when the money turned out to be taken.
            booking.failure = None;
            booking.tickets = bookings::issue_tickets(conn, &booking, now).await?;
            bookings::apply(conn, &mut booking, Event::Confirm, "", now).await?;
            Ok::<Booking, Error>(booking)
        })
        .await?;
    tracing::info!(booking = %booking.id, "booking confirmed");
    Ok(())
}

/// K2: the seats are free again, the booking has failed.
pub(super) async fn release(db: &Db, saga: &Saga, now: Timestamp) -> Result<(), Error> {
    let failure = saga.failure.clone().unwrap_or_else(Failure::expired);
    db.transaction("saga_release", async |conn| {
        sagas::end(conn, saga, State::Failed, None, now).await?;
        let mut booking = bookings::lock(conn, saga.booking).await?;
        let mut hold = holds::lock(conn, booking.hold).await?;
        holds::apply(conn, &mut hold, hold::Event::Unpin, "", now).await?;
        booking.failure = Some(failure.clone());
        bookings::apply(conn, &mut booking, failure.event(), "", now).await
    })
    .await?;
    tracing::info!(booking = %saga.booking, reason = failure.reason, "booking failed");
    Ok(())
}

/// The refund is done, the booking canceled.
pub(super) async fn settle(db: &Db, saga: &Saga, now: Timestamp) -> Result<(), Error> {
    db.transaction("saga_settle", async |conn| {
        sagas::end(conn, saga, State::Done, None, now).await?;
        let mut booking = bookings::lock(conn, saga.booking).await?;
        let (refund_minor, _) = cancellations::refund(conn, saga.id.into()).await?;
        booking.refunded_minor = refund_minor;
        cancellations::settle(conn, saga.id.into(), now).await?;
        bookings::apply(conn, &mut booking, Event::Settle, "", now).await
    })
    .await?;
    tracing::info!(booking = %saga.booking, "booking canceled");
    Ok(())
}

async fn draw(conn: &mut diesel_async::AsyncPgConnection) -> Result<Locator, Error> {
    for _ in 0..DRAWS_MAX {
        let drawn: [u8; 6] = std::array::from_fn(|_| rand::random_range(0..CHOICES));
        if let Some(locator) = Locator::of_draw(drawn)
            && bookings::is_free(conn, &locator).await?
        {
            return Ok(locator);
        }
    }
    Err(Error::Corrupt("the set of record locators".to_owned()))
}
