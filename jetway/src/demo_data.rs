//! What a new platform starts with: real places and airlines, a generated timetable, and an account for each role.

use anyhow::Context as _;
use bookings::import;
use identity::{
    admin::{self, Account as NewAccount},
    config::PasswordConfig,
    domain::Password,
    password::Passwords,
};
use jiff::{ToSpan as _, civil::Date, tz::TimeZone};
use mesh::{auth::PrincipalId, clock::Clock, db::Db};
use serde::{Deserialize, Serialize};

use crate::{
    data_dir::{ACCOUNTS, DataDir, TIMETABLE, random_password},
    databases::Databases,
    schedule::{self, CabinClass, Schedule},
};

/// The same timetable on every machine.
const SEED: u64 = 20_261_121;

/// The timetable is extended when it ends this many days sooner than it should, so not at every start.
const SLACK_DAYS: i64 = 30;

/// The airline that the demo's flight company manages.
const COMPANY_AIRLINE: &str = "AI";

/// An account for trying things out.
#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    /// `admin`, `flight_company` or `customer`.
    pub role: String,
    /// To sign in with.
    pub email: String,
    /// Made at random for each data directory.
    pub password: String,
}

/// The accounts of a platform.
#[derive(Clone, Serialize, Deserialize)]
pub struct Accounts {
    /// May do everything that needs a role.
    pub admin: Account,
    /// Manages the flights of one airline.
    pub company: Account,
    /// A customer.
    pub traveller: Account,
}

impl Accounts {
    fn random() -> anyhow::Result<Self> {
        let account = |role: &str, name: &str| {
            let email = format!("{name}@jetway.example");
            Ok::<_, anyhow::Error>(Account { role: role.to_owned(), email, password: random_password()? })
        };
        Ok(Self {
            admin: account("admin", "admin")?,
            company: account("flight_company", "company")?,
            traveller: account("customer", "traveller")?,
        })
    }

    /// All of them.
    pub fn all(&self) -> [&Account; 3] {
        [&self.admin, &self.company, &self.traveller]
    }
}

/// Makes what is missing: accounts, and flights for `days` days from today. Cheap when nothing is.
///
/// # Errors
///
/// When a database or the data directory cannot be written.
pub async fn load(dir: &DataDir, databases: &Databases, days: u16) -> anyhow::Result<Accounts> {
    // Passwords are kept before they are used: after a start that was interrupted, the next one goes on with the same.
    let accounts = if let Some(accounts) = dir.read(ACCOUNTS)? {
        accounts
    } else {
        let accounts = Accounts::random()?;
        dir.write(ACCOUNTS, &accounts)?;
        accounts
    };
    let today = Clock::system_now().to_zoned(TimeZone::UTC).date();
    let until = today.checked_add(i64::from(days).days()).context("the end of the timetable")?;
    let loaded: Option<Date> = dir.read(TIMETABLE)?;
    if loaded.is_none_or(|loaded| loaded < until - SLACK_DAYS.days()) {
        let company = make_accounts(&accounts, databases).await.context("make the demo accounts")?;
        let data = data(schedule::generate(SEED, today, days), company);
        let db = Db::new(&databases.config("bookings"))?;
        import::schedule(&db, &data, Clock::system_now()).await.context("load the timetable")?;
        dir.write(TIMETABLE, &until)?;
    }
    Ok(accounts)
}

/// Makes the accounts that are not there, and says which is the flight company's.
async fn make_accounts(accounts: &Accounts, databases: &Databases) -> anyhow::Result<PrincipalId> {
    let db = Db::new(&databases.config("identity"))?;
    let passwords = Passwords::start(&PasswordConfig::default())?;
    let mut ids = Vec::new();
    for account in accounts.all() {
        let wanted = NewAccount {
            email: &account.email,
            username: None,
            display_name: &account.role,
            password: Password::chosen(account.password.clone()).context("the password keeps the rules")?,
            roles: &[account.role.as_str()],
        };
        ids.push(admin::ensure_account(&db, &passwords, &wanted, Clock::system_now()).await?);
    }
    let [_, company, _] = ids[..] else { anyhow::bail!("there are three accounts") };
    Ok(company)
}

/// The schedule as bookings takes it.
fn data(schedule: Schedule, company: PrincipalId) -> import::Data {
    let cities = schedule.cities.into_iter().map(|city| import::City {
        id: city.code.to_lowercase(),
        display_name: city.name,
        country_code: city.country,
    });
    let airports = schedule.airports.into_iter().map(|airport| import::Airport {
        id: airport.iata,
        display_name: airport.name,
        city_id: airport.city_code.to_lowercase(),
        time_zone: airport.time_zone,
    });
    let airlines = schedule.airlines.into_iter().map(|airline| import::Airline {
        id: airline.iata,
        display_name: airline.name,
        ticketing_code: airline.accounting_code,
    });
    let aircraft_types = schedule.aircraft_types.into_iter().map(|aircraft| import::AircraftType {
        id: aircraft.iata,
        display_name: aircraft.name,
        cabins: aircraft.cabins.iter().map(layout).collect(),
    });
    import::Data {
        cities: cities.collect(),
        airports: airports.collect(),
        airlines: airlines.collect(),
        aircraft_types: aircraft_types.collect(),
        flights: schedule.departures.into_iter().map(flight).collect(),
        managers: vec![import::Manager { airline_id: COMPANY_AIRLINE.to_owned(), user: company }],
    }
}

fn layout(cabin: &schedule::CabinLayout) -> import::CabinLayout {
    let first_row = i32::from(cabin.first_row);
    import::CabinLayout {
        cabin: class(cabin.class),
        first_row,
        last_row: first_row + i32::from(cabin.rows) - 1,
        letters: cabin.columns.clone(),
    }
}

fn flight(departure: schedule::Departure) -> import::Flight {
    let cabin = |cabin: &schedule::Cabin| import::Cabin {
        cabin: class(cabin.class),
        fares: cabin.fares.iter().map(fare).collect(),
    };
    import::Flight {
        flight_number: i32::from(departure.number),
        departure_at: departure.departs_at,
        arrival_at: departure.arrives_at,
        departure_date: departure.date,
        cabins: departure.cabins.iter().map(cabin).collect(),
        airline_id: departure.airline,
        origin: departure.origin,
        destination: departure.destination,
        aircraft_type_id: departure.aircraft_type,
        currency: departure.currency,
    }
}

fn fare(fare: &schedule::Fare) -> import::Fare {
    import::Fare {
        fare: fare.code.to_owned(),
        base_minor: fare.base_minor,
        taxes_minor: fare.taxes_minor,
        refundable: fare.refundable,
        penalty_minor: fare.penalty_minor,
    }
}

fn class(class: CabinClass) -> import::CabinClass {
    match class {
        CabinClass::Business => import::CabinClass::Business,
        CabinClass::Economy => import::CabinClass::Economy,
    }
}
