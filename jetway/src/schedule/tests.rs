use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use jiff::civil::{Date, date};
use jiff::{SignedDuration, tz::TimeZone};

use super::catalogue::{self, Days};
use super::{Departure, Schedule, generate};

fn year() -> Schedule {
    generate(7, date(2027, 1, 1), 365)
}

fn find<'a>(schedule: &'a Schedule, airline: &str, number: u16, day: Date) -> &'a Departure {
    schedule
        .departures
        .iter()
        .find(|d| d.airline == airline && d.number == number && d.date == day)
        .expect("the flight is flown that day")
}

#[test]
fn the_same_seed_gives_the_same_schedule_and_another_other_prices() {
    let schedule = |seed| generate(seed, date(2027, 1, 1), 14);

    assert_eq!(schedule(7), schedule(7));
    assert_ne!(schedule(7).departures, schedule(8).departures);
}

#[test]
fn a_departure_does_not_depend_on_the_day_the_schedule_starts() {
    let early = generate(7, date(2027, 1, 1), 60);
    let late = generate(7, date(2027, 2, 1), 28);

    let of_february: Vec<_> = early.departures.iter().filter(|d| d.date.month() == 2).collect();
    assert_eq!(of_february, late.departures.iter().collect::<Vec<_>>());
}

/// Pinned numbers: a library upgrade that changed them would change every demo database.
#[test]
fn a_known_departure_keeps_its_price_and_times() {
    let schedule = generate(7, date(2027, 1, 1), 1);
    let flight = find(&schedule, "6E", 2111, date(2027, 1, 1));

    assert_eq!(flight.departs_at.to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(flight.arrives_at.to_string(), "2027-01-01T02:45:00Z");
    assert_eq!(flight.currency, "INR");
    let economy = &flight.cabins[1];
    assert_eq!(economy.capacity, 162);
    let prices: Vec<_> =
        economy.fares.iter().map(|f| (f.code, f.base_minor, f.taxes_minor, f.penalty_minor)).collect();
    assert_eq!(prices, [("LIGHT", 467_600, 65_464, 0), ("FLEX", 631_200, 88_368, 63_120)]);
}

#[test]
fn a_year_is_about_forty_thousand_departures_and_quick() {
    let started = Instant::now();
    let schedule = year();
    let took = started.elapsed();

    assert!((38_000..46_000).contains(&schedule.departures.len()), "{}", schedule.departures.len());
    // Unoptimised and alone it takes 0.1 s. The rest is for a busy machine: this fails only when the work itself grew.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn every_flight_refers_to_what_the_catalogue_has() {
    let schedule = generate(7, date(2027, 1, 4), 7);
    let airports: HashSet<_> = schedule.airports.iter().map(|a| a.iata.as_str()).collect();
    let airlines: HashSet<_> = schedule.airlines.iter().map(|a| a.iata.as_str()).collect();
    let types: HashSet<_> = schedule.aircraft_types.iter().map(|t| t.iata.as_str()).collect();
    let flown: HashSet<_> = schedule.departures.iter().map(|d| (d.airline.as_str(), d.number)).collect();

    assert_eq!(flown.len(), catalogue::routes().len(), "every route is flown in any week");
    for flight in &schedule.departures {
        assert!(airports.contains(flight.origin.as_str()), "{flight:?}");
        assert!(airports.contains(flight.destination.as_str()), "{flight:?}");
        assert!(airlines.contains(flight.airline.as_str()), "{flight:?}");
        assert!(types.contains(flight.aircraft_type.as_str()), "{flight:?}");
        assert_ne!(flight.origin, flight.destination);
        assert!((1..=9999).contains(&flight.number), "{flight:?}");
    }
}

#[test]
fn no_flight_is_there_twice() {
    let schedule = generate(7, date(2027, 1, 4), 7);
    let distinct: HashSet<_> = schedule.departures.iter().map(|d| (&d.airline, d.number, d.date)).collect();

    assert_eq!(distinct.len(), schedule.departures.len());
}

#[test]
fn codes_are_distinct_sorted_and_of_their_standards_shape() {
    let schedule = generate(7, date(2027, 1, 1), 0);
    let sorted = |codes: Vec<&str>| {
        let distinct: BTreeSet<_> = codes.iter().copied().collect();
        assert_eq!(codes, distinct.into_iter().collect::<Vec<_>>());
    };
    let capitals = |code: &str, length| code.len() == length && code.bytes().all(|b| b.is_ascii_uppercase());

    sorted(schedule.airports.iter().map(|a| a.iata.as_str()).collect());
    sorted(schedule.cities.iter().map(|c| c.code.as_str()).collect());
    sorted(schedule.airlines.iter().map(|a| a.iata.as_str()).collect());
    sorted(schedule.aircraft_types.iter().map(|t| t.iata.as_str()).collect());
    for airport in &schedule.airports {
        assert!(capitals(&airport.iata, 3) && capitals(&airport.city_code, 3), "{airport:?}");
        assert!(capitals(&airport.country, 2), "{airport:?}");
        assert!(airport.latitude.abs() <= 90.0 && airport.longitude.abs() <= 180.0, "{airport:?}");
    }
    for airline in &schedule.airlines {
        assert!(airline.iata.len() == 2 && capitals(&airline.country, 2), "{airline:?}");
        assert!(airline.accounting_code.len() == 3, "{airline:?}");
        assert!(airline.accounting_code.bytes().all(|b| b.is_ascii_digit()), "{airline:?}");
        assert!(["AED", "EUR", "GBP", "INR", "JPY", "SGD", "USD"].contains(&airline.currency.as_str()));
    }
    let accounting: HashSet<_> = schedule.airlines.iter().map(|a| &a.accounting_code).collect();
    assert_eq!(accounting.len(), schedule.airlines.len());
}

#[test]
fn airports_of_one_city_agree_about_it() {
    let schedule = generate(7, date(2027, 1, 1), 0);

    for airport in &schedule.airports {
        let city = schedule.cities.iter().find(|c| c.code == airport.city_code).expect("its city is there");
        assert_eq!((&city.name, &city.country), (&airport.city, &airport.country));
        assert_eq!(city.time_zone, airport.time_zone);
    }
    assert_eq!(schedule.airports.iter().filter(|a| a.city_code == "NYC").count(), 2);
}

#[test]
fn a_flight_leaves_on_its_local_day_and_at_its_local_time_through_every_clock_change() {
    let schedule = year();
    let routes = catalogue::routes();
    let zones: Vec<_> = schedule.airports.iter().map(|a| (a.iata.as_str(), a.zone())).collect();
    let zone =
        |iata: &str| -> TimeZone { zones.iter().find(|(code, _)| *code == iata).expect("known").1.clone() };

    for route in &routes {
        let zone = zone(&route.origin);
        let flights =
            schedule.departures.iter().filter(|d| d.airline == route.airline && d.number == route.number);
        for flight in flights {
            let local = flight.departs_at.to_zoned(zone.clone());
            assert_eq!((local.date(), local.time()), (flight.date, route.departure), "{flight:?}");
        }
    }
}

#[test]
fn the_same_local_time_is_another_instant_in_summer() {
    let schedule = year();
    let utc = |day| find(&schedule, "BA", 117, day).departs_at.to_zoned(TimeZone::UTC).time().to_string();

    // London moves its clocks on 28 March 2027.
    assert_eq!(utc(date(2027, 3, 27)), "08:25:00");
    assert_eq!(utc(date(2027, 3, 28)), "07:25:00");
}

#[test]
fn every_flight_arrives_after_it_leaves_within_a_day() {
    for flight in year().departures {
        let duration = flight.departs_at.duration_until(flight.arrives_at);
        assert!(
            duration >= SignedDuration::from_mins(30) && duration <= SignedDuration::from_hours(20),
            "{flight:?}"
        );
    }
}

#[test]
fn every_cabin_has_seats_and_two_sane_fares() {
    for flight in generate(7, date(2027, 1, 1), 31).departures {
        for cabin in &flight.cabins {
            let [light, flex] = cabin.fares;
            assert!(cabin.capacity > 0, "{flight:?}");
            assert!(light.base_minor >= 100 && light.base_minor < flex.base_minor, "{flight:?}");
            assert_eq!((light.code, light.refundable, light.penalty_minor), ("LIGHT", false, 0));
            assert_eq!((flex.code, flex.refundable), ("FLEX", true));
            assert!((1..flex.base_minor).contains(&flex.penalty_minor), "{flight:?}");
            assert!(light.taxes_minor > 0 && flex.taxes_minor > 0, "{flight:?}");
        }
    }
}

#[test]
fn prices_stay_within_a_band_around_the_route_s_fare() {
    let schedule = year();
    for route in catalogue::routes() {
        let flights =
            schedule.departures.iter().filter(|d| d.airline == route.airline && d.number == route.number);
        let cheapest: Vec<_> =
            flights.map(|d| d.cabins.last().expect("economy is last").fares[0].base_minor).collect();
        let (min, max) = (cheapest.iter().min().expect("flown"), cheapest.iter().max().expect("flown"));
        assert!(min * 2 > route.fare_minor && *max < route.fare_minor * 2, "{route:?}: {min} to {max}");
        assert!(min < max, "prices vary: {route:?}");
    }
}

#[test]
fn delhi_and_bengaluru_have_several_flights_every_day_both_ways() {
    let schedule = year();
    for (origin, destination) in [("DEL", "BLR"), ("BLR", "DEL")] {
        let flights =
            schedule.departures.iter().filter(|d| d.origin == origin && d.destination == destination);
        assert_eq!(flights.count(), 6 * 365);
    }
}

#[test]
fn every_flight_has_its_way_back() {
    let routes = catalogue::routes();
    for route in &routes {
        let back = routes.iter().filter(|r| {
            (&r.airline, &r.origin, &r.destination) == (&route.airline, &route.destination, &route.origin)
        });
        let out = routes.iter().filter(|r| {
            (&r.airline, &r.origin, &r.destination) == (&route.airline, &route.origin, &route.destination)
        });
        assert_eq!(back.count(), out.count(), "{route:?}");
    }
}

#[test]
fn seats_are_numbered_through_the_cabins_without_a_gap() {
    let types = generate(7, date(2027, 1, 1), 0).aircraft_types;
    let narrow = types.iter().find(|t| t.iata == "320").expect("the A320 is there");
    let [business, economy] = &narrow.cabins[..] else { panic!("{narrow:?}") };

    assert_eq!((business.capacity(), economy.capacity()), (12, 150));
    assert_eq!(business.seats().last().as_deref(), Some("3F"));
    assert_eq!(economy.seats().next().as_deref(), Some("4A"));
    for cabin in types.iter().flat_map(|t| &t.cabins) {
        let seats: HashSet<_> = cabin.seats().collect();
        assert_eq!(u32::try_from(seats.len()), Ok(cabin.capacity()), "{cabin:?}");
    }
}

#[test]
fn days_of_the_week_are_in_their_places() {
    let mask = "1.3..6.".parse::<Days>().expect("three days");
    let flown: Vec<_> = (0..7)
        .map(|day| mask.contains(jiff::civil::Weekday::from_monday_zero_offset(day).unwrap()))
        .collect();

    assert_eq!(flown, [true, false, true, false, false, true, false]);
    for wrong in ["", ".......", "123456", "12345678", "2134567", "123456x", "１２"] {
        assert!(wrong.parse::<Days>().is_err(), "{wrong}");
    }
}
