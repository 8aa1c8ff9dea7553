//! `SeatService`.

use std::collections::HashMap;

use mesh::clock::to_proto;
use proto::bookings::v1 as pb;
use proto::bookings::v1::seat_service_server::SeatService;
use tonic::{Request, Response, Status};

use super::{Api, id_of};
use crate::domain::flight::FlightId;
use crate::error::Error;
use crate::store::catalog::{self, Pick};
use crate::store::{flights, inventory};

#[tonic::async_trait]
impl SeatService for Api {
    async fn get_seat_map(
        &self,
        request: Request<pb::GetSeatMapRequest>,
    ) -> Result<Response<pb::SeatMap>, Status> {
        let id = id_of(FlightId::from_name(&request.into_inner().flight), "flight")?;
        let now = self.clock.now();
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        let flight = flights::find(&mut conn, id, now).await?;
        let aircraft = catalog::aircraft_types(&mut conn, Pick::One(&flight.aircraft_type_id))
            .await?
            .pop()
            .ok_or_else(|| Error::Corrupt(id.name()))?;
        let taken: HashMap<String, pb::seat::State> = inventory::taken(&mut conn, id, now)
            .await?
            .into_iter()
            .filter(|seat| !seat.stale)
            .map(|seat| {
                let state = match seat.state.as_str() {
                    "HELD" => pb::seat::State::Held,
                    "SOLD" => pb::seat::State::Sold,
                    _ => pb::seat::State::Blocked,
                };
                (seat.seat_no, state)
            })
            .collect();
        let cabins = aircraft
            .cabins
            .iter()
            .filter(|layout| flight.cabins.iter().any(|cabin| cabin.cabin == layout.cabin))
            .map(|layout| pb::SeatMapCabin {
                cabin: layout.cabin.word().to_owned(),
                seats: layout
                    .seats()
                    .map(|seat_number| {
                        let state = taken.get(&seat_number).copied().unwrap_or(pb::seat::State::Free);
                        pb::Seat { seat_number, state: state.into() }
                    })
                    .collect(),
            })
            .collect();
        Ok(Response::new(pb::SeatMap { cabins, as_of: Some(to_proto(now)) }))
    }
}
