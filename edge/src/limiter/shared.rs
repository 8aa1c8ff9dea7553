//! Counts in Redis: one budget for all edges.
//!
//! A call is counted by all of its limits, or by none, by one script in one round trip, by the server's clock. When an answer fails or takes too long, the connection is given up on the
//! spot, and until a new one is there nobody waits for it: a limit must not cost more than what it protects.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, RedisResult, Script, TlsCertificates,
    aio::MultiplexedConnection,
};
use secrecy::ExposeSecret as _;
use tokio::{sync::Notify, time::timeout};

use super::{
    Decision, Key, Who,
    settings::{LimitsConfig, WINDOW},
};

/// What a new connection may take, its first answer included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// How often a connection is asked whether it is still there.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The counters that all edges share.
pub(super) struct Shared {
    client: Client,
    count: Script,
    take_back: Script,
    timeout: Duration,
    config: LimitsConfig,
    /// The connection, while there is one that works.
    connection: ArcSwapOption<MultiplexedConnection>,
    lost: Notify,
}

impl Shared {
    /// The counters in the Redis of the configuration, if there is one.
    pub(super) fn new(config: &LimitsConfig) -> anyhow::Result<Option<Self>> {
        let url = config.redis_url.expose_secret();
        if url.is_empty() {
            return Ok(None);
        }
        let client = match &config.redis_roots {
            None => Client::open(url),
            Some(path) => {
                let roots = std::fs::read(path)
                    .with_context(|| format!("`limits.redis_roots`: cannot read {}", path.display()))?;
                Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(roots) })
            }
        };
        // Without the cause, which may quote the URL and its password.
        let client = client.ok().context(
            "`limits.redis_url` is not the URL of a Redis server, or `limits.redis_roots` has no certificates",
        )?;
        store_up(false);
        metrics::counter!("edge_rate_limit_fallback_total").increment(0);
        Ok(Some(Self {
            client,
            count: Script::new(include_str!("gcra.lua")),
            take_back: Script::new(include_str!("take_back.lua")),
            timeout: config.redis_timeout(),
            config: config.clone(),
            connection: ArcSwapOption::empty(),
            lost: Notify::new(),
        }))
    }

    /// Counts a call by all of the keys, or by none when one of them refuses it; `None` when Redis does not say.
    pub(super) async fn count(&self, keys: &[Key]) -> Option<Decision> {
        let reply = self.ask(&self.count, keys).await;
        let decision = reply.and_then(|reply| decision(keys, reply));
        if decision.is_none() {
            metrics::counter!("edge_rate_limit_fallback_total").increment(1);
        }
        decision
    }

    /// Takes back what was counted for a call that was not made after all. What Redis does not answer stays counted: it is lost, and so are its counts.
    pub(super) async fn take_back(&self, keys: &[Key]) {
        let _answered: Option<u8> = self.ask(&self.take_back, keys).await;
    }

    /// Runs a script; `None` when there is no answer, and then no connection any more either.
    async fn ask<T: FromRedisValue>(&self, script: &Script, keys: &[Key]) -> Option<T> {
        let connection = self.connection.load_full()?;
        let reply = timeout(self.timeout, self.invoke(&connection, script, keys)).await;
        let reply = reply.ok().and_then(RedisResult::ok);
        if reply.is_none() {
            self.give_up(&connection);
        }
        reply
    }

    async fn invoke<T: FromRedisValue>(
        &self,
        connection: &MultiplexedConnection,
        script: &Script,
        keys: &[Key],
    ) -> RedisResult<T> {
        let mut invocation = script.prepare_invoke();
        for key in keys {
            let per_minute = u64::from(self.config.per_minute(key.lane).max(1));
            let window = u64::try_from(WINDOW.as_micros()).unwrap_or(u64::MAX);
            invocation.key(name(key)).arg((window / per_minute).max(1)).arg(per_minute);
        }
        invocation.invoke_async(&mut connection.clone()).await
    }

    /// Takes the connection out of use, unless another has taken its place.
    fn give_up(&self, connection: &Arc<MultiplexedConnection>) {
        let current = self.connection.compare_and_swap(connection, None);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            self.lost.notify_one();
        }
    }

    /// Connects, and again whenever the connection is lost. Never ends.
    pub(super) async fn keep_connected(&self) {
        let mut was_lost = false;
        loop {
            match timeout(CONNECT_TIMEOUT, self.connect()).await {
                Ok(Ok(connection)) => {
                    tracing::info!("rate limits are shared with other edges, in Redis");
                    self.connection.store(Some(Arc::new(connection)));
                    store_up(true);
                    self.until_lost().await;
                    store_up(false);
                    was_lost = true;
                    tracing::warn!("Redis does not answer: rate limits are those of this edge alone");
                    // At once: most often it was one late answer.
                    continue;
                }
                outcome if !was_lost => {
                    was_lost = true;
                    let error = outcome.map_or_else(
                        |_| "no answer in time".to_owned(),
                        |failed| failed.err().map_or_else(String::new, |error| error.category().to_owned()),
                    );
                    tracing::warn!(
                        error,
                        "Redis cannot be reached: rate limits are those of this edge alone"
                    );
                }
                Ok(Err(_)) | Err(_) => {}
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    /// A connection to a server that knows the scripts.
    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        for script in [&self.count, &self.take_back] {
            script.load_async(&mut connection).await?;
        }
        Ok(connection)
    }

    /// Completes when the connection that is in use is not so any more.
    async fn until_lost(&self) {
        loop {
            if timeout(CHECK_INTERVAL, self.lost.notified()).await.is_ok() {
                return;
            }
            let Some(connection) = self.connection.load_full() else { return };
            let mut checked = (*connection).clone();
            let ping = redis::cmd("PING");
            let answered = timeout(CONNECT_TIMEOUT, ping.query_async::<()>(&mut checked)).await;
            if !matches!(answered, Ok(Ok(()))) {
                self.give_up(&connection);
            }
        }
    }
}

fn store_up(up: bool) {
    metrics::gauge!("edge_rate_limit_store_up").set(if up { 1.0 } else { 0.0 });
}

fn decision(keys: &[Key], (nearest, allowed, remaining, reset): (usize, u8, u32, u64)) -> Option<Decision> {
    let class = keys.first()?.lane;
    let lane = keys.get(nearest.checked_sub(1)?)?.lane;
    Some(Decision { class, lane, remaining, reset: Duration::from_micros(reset), allowed: allowed == 1 })
}

/// What a key is called in Redis.
fn name(key: &Key) -> String {
    let lane = key.lane.name();
    match key.who {
        Who::User(user) => format!("jetway:limit:{lane}:u:{}", user.simple()),
        Who::Network(IpAddr::V4(network)) => format!("jetway:limit:{lane}:4:{network}"),
        Who::Network(IpAddr::V6(network)) => format!("jetway:limit:{lane}:6:{network}"),
        Who::Account(digest) => format!("jetway:limit:{lane}:a:{:032x}", u128::from_be_bytes(digest)),
    }
}
