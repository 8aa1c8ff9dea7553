//! `CatalogService`.

use mesh::auth::PrincipalId;
use mesh::pagination::{PageToken, page_size};
use proto::bookings::v1 as pb;
use proto::bookings::v1::catalog_service_server::CatalogService;
use tonic::{Request, Response, Status};

use super::{Api, page};
use crate::domain::catalog::{AircraftType, Airline, Airport, CabinLayout, City, layout_problem};
use crate::domain::flight::CabinClass;
use crate::error::Error;
use crate::store::catalog::{self, Pick};

/// The four RPCs of a catalogue resource: create, get and list, as one function each for its kind.
macro_rules! resource {
    ($what:literal, $create:ident, $find:ident, $list:ident, $domain:ty, $insert:path, $select:path) => {
        /// Stores it, unless the same is there already.
        async fn $create(api: &Api, wanted: $domain) -> Result<$domain, Error> {
            let stored = api
                .db
                .transaction(concat!("create_", $what), async |conn| {
                    $insert(conn, &wanted).await?;
                    Ok::<_, Error>($select(conn, Pick::One(&wanted.id)).await?.pop())
                })
                .await?;
            match stored {
                Some(stored) if stored == wanted => Ok(stored),
                _ => Err(Error::AlreadyExists(format!(concat!($what, "/{}"), wanted.id))),
            }
        }

        /// Reads the one of that name.
        async fn $find(api: &Api, name: &str) -> Result<$domain, Error> {
            let id = name.strip_prefix(concat!($what, "/")).unwrap_or(name);
            let mut conn = api.db.connection().await?;
            $select(&mut conn, Pick::One(id)).await?.pop().ok_or_else(|| Error::NotFound(name.to_owned()))
        }

        /// Reads a page of them.
        async fn $list(api: &Api, size: i32, token: &str) -> Result<(Vec<$domain>, String), Error> {
            let after: Option<String> =
                PageToken::decode(token, $what.as_bytes()).map_err(|_| Error::PageToken)?;
            if after.as_deref().is_some_and(|after| !<$domain>::is_id(after)) {
                return Err(Error::PageToken);
            }
            let size = page_size(size);
            let mut conn = api.db.connection().await?;
            let pick =
                Pick::Page { after: after.as_deref().unwrap_or_default(), limit: size.saturating_add(1) };
            Ok(page($select(&mut conn, pick).await?, size, $what.as_bytes(), |last| last.id.clone()))
        }
    };
}

resource!("cities", create_city, find_city, list_cities, City, catalog::insert_city, catalog::cities);
resource!(
    "airports",
    create_airport,
    find_airport,
    list_airports,
    Airport,
    catalog::insert_airport,
    catalog::airports
);
resource!(
    "airlines",
    create_airline,
    find_airline,
    list_airlines,
    Airline,
    catalog::insert_airline,
    catalog::airlines
);
resource!(
    "aircraftTypes",
    create_aircraft_type,
    find_aircraft_type,
    list_aircraft_types,
    AircraftType,
    catalog::insert_aircraft_type,
    catalog::aircraft_types
);

#[tonic::async_trait]
impl CatalogService for Api {
    async fn create_city(
        &self,
        request: Request<pb::CreateCityRequest>,
    ) -> Result<Response<pb::City>, Status> {
        let pb::CreateCityRequest { city, city_id } = request.into_inner();
        let city = city.unwrap_or_default();
        named(&city.name, "cities", &city_id, "city.name")?;
        let wanted = City { id: city_id, display_name: city.display_name, country_code: city.country_code };
        Ok(Response::new(create_city(self, wanted).await?.into()))
    }

    async fn get_city(&self, request: Request<pb::GetCityRequest>) -> Result<Response<pb::City>, Status> {
        Ok(Response::new(find_city(self, &request.into_inner().name).await?.into()))
    }

    async fn list_cities(
        &self,
        request: Request<pb::ListCitiesRequest>,
    ) -> Result<Response<pb::ListCitiesResponse>, Status> {
        let request = request.into_inner();
        let (cities, next_page_token) = list_cities(self, request.page_size, &request.page_token).await?;
        let cities = cities.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListCitiesResponse { cities, next_page_token }))
    }

    async fn create_airport(
        &self,
        request: Request<pb::CreateAirportRequest>,
    ) -> Result<Response<pb::Airport>, Status> {
        let pb::CreateAirportRequest { airport, airport_id } = request.into_inner();
        let airport = airport.unwrap_or_default();
        named(&airport.name, "airports", &airport_id, "airport.name")?;
        if jiff::tz::TimeZone::get(&airport.time_zone).is_err() {
            return Err(Error::invalid("airport.time_zone", "is an IANA time zone").into());
        }
        let city_id = airport.city.strip_prefix("cities/").unwrap_or_default().to_owned();
        match find_city(self, &airport.city).await {
            Err(Error::NotFound(_)) => {
                return Err(Error::invalid("airport.city", "is a city of the catalogue").into());
            }
            found => found?,
        };
        let wanted = Airport {
            id: airport_id,
            display_name: airport.display_name,
            city_id,
            time_zone: airport.time_zone,
        };
        Ok(Response::new(create_airport(self, wanted).await?.into()))
    }

    async fn get_airport(
        &self,
        request: Request<pb::GetAirportRequest>,
    ) -> Result<Response<pb::Airport>, Status> {
        Ok(Response::new(find_airport(self, &request.into_inner().name).await?.into()))
    }

    async fn list_airports(
        &self,
        request: Request<pb::ListAirportsRequest>,
    ) -> Result<Response<pb::ListAirportsResponse>, Status> {
        let request = request.into_inner();
        let (airports, next_page_token) = list_airports(self, request.page_size, &request.page_token).await?;
        let airports = airports.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListAirportsResponse { airports, next_page_token }))
    }

    async fn create_airline(
        &self,
        request: Request<pb::CreateAirlineRequest>,
    ) -> Result<Response<pb::Airline>, Status> {
        let pb::CreateAirlineRequest { airline, airline_id } = request.into_inner();
        let airline = airline.unwrap_or_default();
        named(&airline.name, "airlines", &airline_id, "airline.name")?;
        let wanted = Airline {
            id: airline_id,
            display_name: airline.display_name,
            ticketing_code: airline.ticketing_code,
        };
        Ok(Response::new(create_airline(self, wanted).await?.into()))
    }

    async fn get_airline(
        &self,
        request: Request<pb::GetAirlineRequest>,
    ) -> Result<Response<pb::Airline>, Status> {
        Ok(Response::new(find_airline(self, &request.into_inner().name).await?.into()))
    }

    async fn list_airlines(
        &self,
        request: Request<pb::ListAirlinesRequest>,
    ) -> Result<Response<pb::ListAirlinesResponse>, Status> {
        let request = request.into_inner();
        let (airlines, next_page_token) = list_airlines(self, request.page_size, &request.page_token).await?;
        let airlines = airlines.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListAirlinesResponse { airlines, next_page_token }))
    }

    async fn create_aircraft_type(
        &self,
        request: Request<pb::CreateAircraftTypeRequest>,
    ) -> Result<Response<pb::AircraftType>, Status> {
        let pb::CreateAircraftTypeRequest { aircraft_type, aircraft_type_id } = request.into_inner();
        let aircraft = aircraft_type.unwrap_or_default();
        named(&aircraft.name, "aircraftTypes", &aircraft_type_id, "aircraft_type.name")?;
        let cabins = aircraft
            .cabins
            .into_iter()
            .enumerate()
            .map(|(index, layout)| {
                let cabin = CabinClass::of_word(&layout.cabin).ok_or_else(|| {
                    Error::invalid(format!("aircraft_type.cabins[{index}].cabin"), "is a class of service")
                })?;
                Ok(CabinLayout {
                    cabin,
                    first_row: layout.first_row,
                    last_row: layout.last_row,
                    letters: layout.letters,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        if let Some((index, field, rule)) = layout_problem(&cabins) {
            return Err(Error::invalid(format!("aircraft_type.cabins[{index}].{field}"), rule).into());
        }
        let wanted = AircraftType { id: aircraft_type_id, display_name: aircraft.display_name, cabins };
        Ok(Response::new(create_aircraft_type(self, wanted).await?.into()))
    }

    async fn get_aircraft_type(
        &self,
        request: Request<pb::GetAircraftTypeRequest>,
    ) -> Result<Response<pb::AircraftType>, Status> {
        Ok(Response::new(find_aircraft_type(self, &request.into_inner().name).await?.into()))
    }

    async fn list_aircraft_types(
        &self,
        request: Request<pb::ListAircraftTypesRequest>,
    ) -> Result<Response<pb::ListAircraftTypesResponse>, Status> {
        let request = request.into_inner();
        let (types, next_page_token) =
            list_aircraft_types(self, request.page_size, &request.page_token).await?;
        let aircraft_types = types.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListAircraftTypesResponse { aircraft_types, next_page_token }))
    }

    async fn assign_airline_manager(
        &self,
        request: Request<pb::AssignAirlineManagerRequest>,
    ) -> Result<Response<pb::AssignAirlineManagerResponse>, Status> {
        let pb::AssignAirlineManagerRequest { name, user_id } = request.into_inner();
        let user: PrincipalId = super::id_of(user_id.parse().ok(), "user_id")?;
        let airline = find_airline(self, &name).await?;
        let mut conn = self.db.connection().await.map_err(Error::from)?;
        catalog::insert_manager(&mut conn, &airline.id, user).await?;
        Ok(Response::new(pb::AssignAirlineManagerResponse {}))
    }
}

/// A resource that says its own name says the one that it is created under.
fn named(name: &str, collection: &str, id: &str, field: &str) -> Result<(), Error> {
    if name.is_empty() || name == format!("{collection}/{id}") {
        Ok(())
    } else {
        Err(Error::invalid(field, "is empty, or the name of the id that it is created under"))
    }
}

impl From<City> for pb::City {
    fn from(city: City) -> Self {
        Self {
            name: format!("cities/{}", city.id),
            display_name: city.display_name,
            country_code: city.country_code,
        }
    }
}

impl From<Airport> for pb::Airport {
    fn from(airport: Airport) -> Self {
        Self {
            name: format!("airports/{}", airport.id),
            display_name: airport.display_name,
            city: format!("cities/{}", airport.city_id),
            time_zone: airport.time_zone,
        }
    }
}

impl From<Airline> for pb::Airline {
    fn from(airline: Airline) -> Self {
        Self {
            name: format!("airlines/{}", airline.id),
            display_name: airline.display_name,
            ticketing_code: airline.ticketing_code,
        }
    }
}

impl From<AircraftType> for pb::AircraftType {
    fn from(aircraft: AircraftType) -> Self {
        let cabins = aircraft.cabins.into_iter().map(|layout| pb::CabinLayout {
            cabin: layout.cabin.word().to_owned(),
            first_row: layout.first_row,
            last_row: layout.last_row,
            letters: layout.letters,
        });
        Self {
            name: format!("aircraftTypes/{}", aircraft.id),
            display_name: aircraft.display_name,
            cabins: cabins.collect(),
        }
    }
}
