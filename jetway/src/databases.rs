//! One database and one role for each service, on the platform's own PostgreSQL.

use std::collections::BTreeMap;

use anyhow::Context as _;
use diesel::{QueryableByName, sql_types::Bool};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _};
use mesh::{config::DatabaseConfig, postgres::Cluster};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::data_dir::{DATABASES, DataDir, random_password};

/// The services that have a database.
pub const SERVICES: [&str; 4] = ["identity", "bookings", "payments", "acquirer"];

/// How to reach each service's database.
#[derive(Debug)]
pub struct Databases {
    urls: BTreeMap<String, SecretString>,
}

/// What [`DATABASES`] holds.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    passwords: BTreeMap<String, String>,
    /// Where each database was at the last start: the port may differ at the next.
    urls: BTreeMap<String, String>,
}

#[derive(QueryableByName)]
struct Exists {
    #[diesel(sql_type = Bool)]
    exists: bool,
}

impl Databases {
    /// Makes the roles and databases that are not there yet. A role can do what it likes in its own database and cannot enter another.
    ///
    /// # Errors
    ///
    /// When PostgreSQL refuses, or the passwords cannot be kept.
    pub async fn prepare(cluster: &Cluster, dir: &DataDir) -> anyhow::Result<Self> {
        let mut stored: Stored = dir.read(DATABASES)?.unwrap_or_default();
        for service in SERVICES {
            if !stored.passwords.contains_key(service) {
                stored.passwords.insert(service.to_owned(), random_password()?);
            }
        }
        dir.write(DATABASES, &stored)?;

        let mut conn = AsyncPgConnection::establish(cluster.admin_url().expose_secret())
            .await
            .context("connect to the private PostgreSQL")?;
        for (service, password) in &stored.passwords {
            // Names and passwords are ours: lower-case letters and hexadecimal digits.
            let verb =
                if exists(&mut conn, "pg_roles", "rolname", service).await? { "ALTER" } else { "CREATE" };
            run(&mut conn, &format!("{verb} ROLE {service} LOGIN PASSWORD '{password}'")).await?;
            if !exists(&mut conn, "pg_database", "datname", service).await? {
                run(&mut conn, &format!("CREATE DATABASE {service} OWNER {service}")).await?;
                run(&mut conn, &format!("REVOKE ALL ON DATABASE {service} FROM PUBLIC")).await?;
            }
        }
        stored.urls = SERVICES
            .into_iter()
            .filter_map(|service| {
                let password = SecretString::from(stored.passwords.get(service)?.clone());
                let url = cluster.url(service, &password, service);
                Some((service.to_owned(), url.expose_secret().to_owned()))
            })
            .collect();
        dir.write(DATABASES, &stored)?;
        Ok(Self::of(stored))
    }

    /// The databases as they were at the last start.
    ///
    /// # Errors
    ///
    /// When there was none.
    pub fn known(dir: &DataDir) -> anyhow::Result<Self> {
        dir.read(DATABASES)?.map(Self::of).context("there is no platform here yet: run `make up` first")
    }

    fn of(stored: Stored) -> Self {
        Self { urls: stored.urls.into_iter().map(|(service, url)| (service, url.into())).collect() }
    }

    /// The configuration of `service`'s database.
    pub fn config(&self, service: &str) -> DatabaseConfig {
        DatabaseConfig { url: self.url(service), ..DatabaseConfig::default() }
    }

    /// The URL of `service`'s database.
    pub fn url(&self, service: &str) -> SecretString {
        self.urls.get(service).cloned().unwrap_or_default()
    }
}

async fn exists(conn: &mut AsyncPgConnection, table: &str, column: &str, name: &str) -> anyhow::Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} = '{name}') AS exists");
    let found: Exists = diesel::sql_query(sql).get_result(conn).await.context("look at the catalogue")?;
    Ok(found.exists)
}

async fn run(conn: &mut AsyncPgConnection, sql: &str) -> anyhow::Result<()> {
    // The statement may hold a password: the error must not show it.
    diesel::sql_query(sql).execute(conn).await.map(drop).context("prepare a database")
}
