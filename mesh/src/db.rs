//! The service's own database: a pool, and one named, retried transaction.

use std::{future::Future, time::Duration};

use deadpool::managed::Timeouts;
use diesel::{
    ConnectionError,
    result::{DatabaseErrorKind, Error as DieselError},
};
use diesel_async::{
    AsyncMigrationHarness, AsyncPgConnection,
    pooled_connection::{
        AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
        deadpool::{Object, Pool, PoolError},
    },
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _};
use futures::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{call::Call, config::DatabaseConfig};

/// How often a transaction runs before a lost race is given back to the caller.
pub const ATTEMPTS_MAX: u32 = 5;

/// How long work that answers no call waits for a connection.
const CONNECTION_WAIT_MAX: Duration = Duration::from_secs(3);

/// What is kept of a call's deadline to do the work in, and to answer: whoever has no connection by then is refused.
const WORK_RESERVE: Duration = Duration::from_secs(1);

/// Session settings: no statement runs for ever, none waits long for a lock, and none is left open by a client that is gone.
const SESSION: &str =
    "-c statement_timeout=20s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s -c timezone=UTC";

/// The advisory lock that migrations run under, so that replicas starting together do not collide.
const MIGRATION_LOCK: i64 = 0x6a65_7477_6179;

/// A connection from the pool.
pub type Connection = Object<AsyncPgConnection>;

/// The pool of connections to the service's own database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    pool: Pool<AsyncPgConnection>,
}

impl Db {
    /// Makes the pool; connections are opened when they are needed.
    ///
    /// # Errors
    ///
    /// When the TLS files cannot be read, or the pool's settings contradict each other.
    pub fn new(config: &DatabaseConfig) -> anyhow::Result<Self> {
        let mut manager = ManagerConfig::default();
        manager.recycling_method = RecyclingMethod::Fast;
        let tls = config.tls_config()?;
        manager.custom_setup = Box::new(move |url| connect(url.to_owned().into(), tls.clone()).boxed());
        let manager = AsyncDieselConnectionManager::new_with_config(config.url.expose_secret(), manager);
        let pool = Pool::builder(manager)
            .max_size(config.connections_max)
            .wait_timeout(Some(CONNECTION_WAIT_MAX))
            .create_timeout(Some(CONNECTION_WAIT_MAX))
            .runtime(deadpool::Runtime::Tokio1)
            .build()?;
        Ok(Self { pool })
    }

    /// A connection for reads outside a transaction.
    ///
    /// # Errors
    ///
    /// When none comes free or can be opened while the call being served can still use it, or within three seconds outside of a call.
    pub async fn connection(&self) -> Result<Connection, PoolError> {
        // A burst is waited out: a refusal would only bring the same call back.
        let patience = Call::current()
            .map_or(CONNECTION_WAIT_MAX, |call| call.remaining().saturating_sub(WORK_RESERVE))
            .max(CONNECTION_WAIT_MAX);
        let timeouts = Timeouts { wait: Some(patience), create: Some(patience), recycle: Some(patience) };
        self.pool.timeout_get(&timeouts).await
    }

    /// Runs `body` in a transaction (READ COMMITTED) and commits if it returns `Ok`.
    ///
    /// `body` may run several times: it is run again from the start when PostgreSQL reports a deadlock or serialization failure, so it must have no
    /// effect outside the transaction. `name` labels the transaction in logs.
    ///
    /// # Errors
    ///
    /// Whatever `body` returns; or the pool's or database's own error. After [`ATTEMPTS_MAX`] lost races the last failure is returned.
    pub async fn transaction<T, E, F>(&self, name: &'static str, body: F) -> Result<T, E>
    where
        for<'c> F: AsyncFn(&'c mut AsyncPgConnection) -> Result<T, E>
            + Body<&'c mut AsyncPgConnection, Result<T, E>, Future: Send>
            + Send
            + Sync,
        T: Send,
        E: From<DieselError> + From<PoolError> + LostRace + Send,
    {
        let mut conn = self.connection().await?;
        for attempt in 1.. {
            match run(&mut conn, &body).await {
                Err(error) if error.lost_race() && attempt < ATTEMPTS_MAX => {
                    tracing::debug!(name, attempt, "transaction lost a race; running it again");
                }
                outcome => return outcome,
            }
        }
        unreachable!("the loop returns on its last attempt")
    }

    /// Whether the database answers.
    pub async fn is_up(&self) -> bool {
        use diesel_async::RunQueryDsl as _;

        match self.connection().await {
            Ok(mut conn) => diesel::sql_query("SELECT 1").execute(&mut conn).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Closes every connection; calls that come later are refused.
    pub fn close(&self) {
        self.pool.close();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that opens transactions")]
async fn run<T, E, F>(conn: &mut AsyncPgConnection, body: &F) -> Result<T, E>
where
    for<'c> F: AsyncFn(&'c mut AsyncPgConnection) -> Result<T, E>
        + Body<&'c mut AsyncPgConnection, Result<T, E>, Future: Send>
        + Send
        + Sync,
    T: Send,
    E: From<DieselError> + Send,
{
    conn.build_transaction().read_committed().run(async |conn: &mut AsyncPgConnection| body(conn).await).await
}

/// An async function whose future can be named, so that it can be asked to be `Send`.
pub trait Body<A, R>: AsyncFn(A) -> R + Fn(A) -> <Self as Body<A, R>>::Future {
    /// The future that a call returns.
    type Future: Future<Output = R>;
}

impl<A, R, F, Fut> Body<A, R> for F
where
    F: AsyncFn(A) -> R + Fn(A) -> Fut,
    Fut: Future<Output = R>,
{
    type Future = Fut;
}

/// Tells a lost race, which is worth running again, from every other error.
pub trait LostRace {
    /// True when the database ended the transaction in favour of another one.
    fn lost_race(&self) -> bool;
}

impl LostRace for DieselError {
    fn lost_race(&self) -> bool {
        // diesel has no kind for deadlocks.
        matches!(self, Self::DatabaseError(DatabaseErrorKind::SerializationFailure, _))
            || matches!(self, Self::DatabaseError(DatabaseErrorKind::Unknown, info) if info.message() == "deadlock detected")
    }
}

/// Whether the database ended a statement that took too long: it waited for a lock that another transaction would not let go of (`55P03`), or ran
/// beyond its limit (`57014`). The transaction has left nothing behind and may be run again; [`Db::transaction`] does not, because the wait was long.
pub fn waited_too_long(error: &DieselError) -> bool {
    // diesel has no kinds for these, and does not show the SQLSTATE.
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::Unknown, info)
    if matches!(
        info.message(),
        "canceling statement due to lock timeout" | "canceling statement due to statement timeout"
    ))
}

/// Brings the database to the newest schema: the tables that every service has, then the service's own.
///
/// Runs on one connection under an advisory lock, so replicas may start together.
///
/// # Errors
///
/// When the database cannot be reached, or a migration fails.
pub async fn migrate(config: &DatabaseConfig, migrations: EmbeddedMigrations) -> anyhow::Result<()> {
    use anyhow::Context as _;
    use diesel_async::RunQueryDsl as _;

    let mut conn =
        connect(config.url.clone(), config.tls_config()?).await.context("connect to the database")?;
    // Another replica may be at it for longer than a call may wait, and so may a migration of large tables.
    for setting in ["SET statement_timeout = 0", "SET lock_timeout = 0"] {
        diesel::sql_query(setting).execute(&mut conn).await.context("prepare the session")?;
    }
    diesel::sql_query("SELECT pg_advisory_lock($1)")
        .bind::<diesel::sql_types::BigInt, _>(MIGRATION_LOCK)
        .execute(&mut conn)
        .await
        .context("take the migration lock")?;
    // A migration that waits for a table keeps everybody behind it waiting as well.
    diesel::sql_query("SET lock_timeout = '5s'").execute(&mut conn).await.context("prepare the session")?;
    // The connection, and the lock with it, ends with this function.
    tokio::task::spawn_blocking(move || {
        let mut harness = AsyncMigrationHarness::new(conn);
        harness.run_pending_migrations(crate::migrations::MIGRATIONS).map_err(anyhow::Error::from_boxed)?;
        harness.run_pending_migrations(migrations).map_err(anyhow::Error::from_boxed)?;
        Ok::<_, anyhow::Error>(())
    })
    .await
    .context("migrate")?
    .context("apply a migration")
}

/// Opens one connection, with TLS when it is configured.
async fn connect(
    url: SecretString,
    tls: Option<rustls::ClientConfig>,
) -> diesel::ConnectionResult<AsyncPgConnection> {
    let bad = |error: tokio_postgres::Error| ConnectionError::BadConnection(error.to_string());
    let mut config: tokio_postgres::Config = url.expose_secret().parse().map_err(bad)?;
    config.options(SESSION);
    if let Some(tls) = tls {
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        let (client, connection) = config.connect(MakeRustlsConnect::new(tls)).await.map_err(bad)?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await
    } else {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(bad)?;
        AsyncPgConnection::try_from_client_and_connection(client, connection).await
    }
}
