//! The connections to one service: to each of its addresses, several at once, made again when they are gone.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::uri::Authority;
use tokio::time::{Instant, timeout};

use super::connection::{CONNECT_TIMEOUT, Connection, Place};
use super::room::Room;
use super::{ConnectionState, Security};

/// How long an address is avoided that no connection could be made to.
const AVOIDED_FOR: Duration = Duration::from_secs(1);

/// How old the addresses of a name may be when a call is made.
const NAMES_GOOD_FOR: Duration = Duration::from_secs(5);

/// How many calls in turn use one of the connections to an address before the next is used. What is asked for at the same time is written with one
/// system call then, and answered with one; written to each connection in turn, every call would cost its own.
const STREAK: usize = 16;

pub(crate) struct Pool {
    service: Arc<str>,
    authorities: Vec<Authority>,
    security: Security,
    per_address: usize,
    /// In the order of their addresses.
    slots: ArcSwap<Vec<Arc<Slot>>>,
    names: Option<Names>,
    /// Whose turn it is.
    turn: AtomicUsize,
    /// How many connections have been made.
    made: Arc<AtomicU64>,
    /// Where calls wait when every connection has as many as it takes.
    pub(crate) room: Arc<Room>,
}

/// The names among the addresses, which have to be looked up now and then.
struct Names {
    looked_up: Mutex<Option<Instant>>,
    looking_up: AtomicBool,
    /// Held while calls wait for the first look-up.
    first: tokio::sync::Mutex<()>,
}

/// Room for one connection.
pub(crate) struct Slot {
    pub(crate) address: SocketAddr,
    connection: ArcSwapOption<Connection>,
    /// Held while connecting, so that many calls at once open one connection.
    opening: tokio::sync::Mutex<()>,
    /// When no connection could be made last.
    failed_at: Mutex<Option<Instant>>,
    made: Arc<AtomicU64>,
}

impl Pool {
    pub(crate) fn new(
        service: Arc<str>,
        authorities: Vec<Authority>,
        security: Security,
        per_address: usize,
    ) -> Self {
        let literal: BTreeSet<SocketAddr> = authorities.iter().filter_map(literal).collect();
        let names = authorities.iter().any(|authority| literal_ip(authority).is_none()).then(|| Names {
            looked_up: Mutex::new(None),
            looking_up: AtomicBool::new(false),
            first: tokio::sync::Mutex::new(()),
        });
        let pool = Self {
            service,
            authorities,
            security,
            per_address: per_address.max(1),
            slots: ArcSwap::default(),
            names,
            turn: AtomicUsize::new(0),
            made: Arc::default(),
            room: Arc::default(),
        };
        pool.use_addresses(&literal);
        pool
    }

    /// How many connections have been made since the start.
    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    pub(crate) fn states(&self) -> Vec<ConnectionState> {
        let state = |slot: &Arc<Slot>| {
            let open = slot.open_connection();
            ConnectionState {
                address: slot.address,
                open: open.is_some(),
                in_flight: open.map_or(0, |connection| connection.in_flight()),
            }
        };
        self.slots.load().iter().map(state).collect()
    }

    /// A place on the less busy of two connections that are open, or on any that has one; `None` when none has. What is found missing is made in the
    /// background.
    pub(crate) fn ready(self: &Arc<Self>) -> Option<(SocketAddr, Place)> {
        self.look_up_when_stale();
        let slots = self.slots.load();
        let (first, second) = self.draw(slots.len())?;
        let (first, second) = (&slots[first], &slots[second]);
        let (one, other) = (first.open_connection(), second.open_connection());
        for (slot, connection) in [(first, &one), (second, &other)] {
            if connection.is_none() {
                self.open_aside(slot);
            }
        }
        // Both go to the same place: neither is better before one is much busier.
        let margin = if first.address == second.address { STREAK } else { 0 };
        let (slot, chosen) = match (one, other) {
            (Some(one), Some(other)) if other.load() + margin < one.load() => (second, Some(other)),
            (Some(one), _) => (first, Some(one)),
            (None, other) => (second, other),
        };
        let placed = chosen.and_then(|connection| Some((slot.address, connection.place()?)));
        placed
            .or_else(|| slots.iter().find_map(|slot| Some((slot.address, slot.open_connection()?.place()?))))
    }

    /// Two different places out of so many, if there are two: at different addresses, if there are two of those.
    fn draw(&self, slots: usize) -> Option<(usize, usize)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        drawn(turn, slots / self.per_address, self.per_address)
    }

    /// Where to send a call, but not to the address `last`, which has just failed: to an open connection that takes it, or else to one that may be
    /// opened, or else to any: one that takes no more calls now, rather than one that could not be opened a moment ago.
    pub(crate) async fn slot(self: &Arc<Self>, last: Option<SocketAddr>) -> io::Result<Arc<Slot>> {
        self.look_up_first().await?;
        let slots = self.slots.load_full();
        let (from, _) = self.draw(slots.len()).ok_or(io::ErrorKind::NotFound)?;
        let now = Instant::now();
        let in_turn = || slots[from..].iter().chain(&slots[..from]);
        let elsewhere = |slot: &&Arc<Slot>| last.is_none_or(|last| slot.address != last);
        let with_room = |slot: &Arc<Slot>| slot.open_connection().filter(|connection| connection.has_room());
        let chosen = in_turn()
            .filter(elsewhere)
            .filter_map(|slot| Some((with_room(slot)?.load(), slot)))
            .min_by_key(|(load, _)| *load)
            .map(|(_, slot)| slot)
            .or_else(|| in_turn().filter(elsewhere).find(|slot| slot.is_shut() && !slot.avoided(now)))
            .or_else(|| in_turn().find(|slot| with_room(slot).is_some()))
            .or_else(|| in_turn().find(|slot| !slot.is_shut()))
            .or_else(|| in_turn().find(elsewhere))
            .or_else(|| in_turn().next());
        chosen.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The connection of a place, made when there is none.
    pub(crate) async fn connection(self: &Arc<Self>, slot: &Arc<Slot>) -> io::Result<Arc<Connection>> {
        if let Some(open) = slot.open_connection() {
            return Ok(open);
        }
        let connection = slot.open(&self.security, &self.room).await?;
        // The others at this address will be of use soon, too.
        for other in self.slots.load().iter().filter(|other| other.address == slot.address) {
            if other.open_connection().is_none() {
                self.open_aside(other);
            }
        }
        Ok(connection)
    }

    /// Makes a connection while calls go elsewhere.
    fn open_aside(self: &Arc<Self>, slot: &Arc<Slot>) {
        if slot.avoided(Instant::now()) || slot.opening.try_lock().is_err() {
            return;
        }
        let (pool, slot) = (Arc::clone(self), Arc::clone(slot));
        #[expect(clippy::disallowed_methods, reason = "ends with the attempt, which is bounded")]
        tokio::spawn(async move {
            if let Err(error) = slot.open(&pool.security, &pool.room).await {
                tracing::debug!(service = &*pool.service, address = %slot.address, %error, "cannot connect");
            }
        });
    }

    async fn look_up_first(self: &Arc<Self>) -> io::Result<()> {
        let Some(names) = &self.names else { return Ok(()) };
        if names.looked_up().is_some() {
            self.look_up_when_stale();
            return Ok(());
        }
        let _one_at_a_time = names.first.lock().await;
        if names.looked_up().is_some() { Ok(()) } else { self.look_up(names).await }
    }

    fn look_up_when_stale(self: &Arc<Self>) {
        let Some(names) = &self.names else { return };
        let stale = names.looked_up().is_some_and(|at| at.elapsed() > NAMES_GOOD_FOR);
        if !stale || names.looking_up.swap(true, Ordering::Relaxed) {
            return;
        }
        let pool = Arc::clone(self);
        #[expect(clippy::disallowed_methods, reason = "ends with the look-up, which is bounded")]
        tokio::spawn(async move {
            let Some(names) = &pool.names else { return };
            if let Err(error) = pool.look_up(names).await {
                tracing::warn!(service = &*pool.service, %error, "names cannot be looked up; the old addresses stay");
                names.set_looked_up();
            }
            names.looking_up.store(false, Ordering::Relaxed);
        });
    }

    /// Looks up every name, and uses what is found: connections to addresses that stay, stay.
    async fn look_up(&self, names: &Names) -> io::Result<()> {
        let mut found = BTreeSet::new();
        for authority in &self.authorities {
            if let Some(literal) = literal(authority) {
                found.insert(literal);
                continue;
            }
            let port = authority.port_u16().ok_or(io::ErrorKind::InvalidInput)?;
            found.extend(timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((authority.host(), port))).await??);
        }
        if found.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.use_addresses(&found);
        names.set_looked_up();
        Ok(())
    }

    fn use_addresses(&self, addresses: &BTreeSet<SocketAddr>) {
        let old = self.slots.load();
        let kept = |address: SocketAddr| old.iter().filter(move |slot| slot.address == address).cloned();
        let new = |address: SocketAddr| {
            Arc::new(Slot {
                address,
                connection: ArcSwapOption::empty(),
                opening: tokio::sync::Mutex::new(()),
                failed_at: Mutex::new(None),
                made: Arc::clone(&self.made),
            })
        };
        let slots: Vec<_> = addresses
            .iter()
            .flat_map(|&address| {
                kept(address)
                    .chain(std::iter::repeat_with(move || new(address)))
                    .take(self.per_address)
                    .collect::<Vec<_>>()
            })
            .collect();
        self.slots.store(Arc::new(slots));
    }
}

/// What [`Pool::draw`] gives in this turn.
fn drawn(turn: usize, addresses: usize, per_address: usize) -> Option<(usize, usize)> {
    let address = turn.checked_rem(addresses)?;
    let nth = turn / (addresses * STREAK) % per_address;
    let first = address * per_address + nth;
    let second = if addresses > 1 {
        let step = 1 + turn / addresses % (addresses - 1);
        (address + step) % addresses * per_address + nth
    } else {
        (nth + 1) % per_address
    };
    Some((first, second))
}

impl Names {
    fn looked_up(&self) -> Option<Instant> {
        *self.looked_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_looked_up(&self) {
        *self.looked_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

impl Slot {
    fn open_connection(&self) -> Option<Arc<Connection>> {
        self.connection.load().as_ref().filter(|connection| connection.is_open()).cloned()
    }

    fn is_shut(&self) -> bool {
        self.open_connection().is_none()
    }

    /// Whether connecting failed a moment ago.
    fn avoided(&self, now: Instant) -> bool {
        self.failed_at().is_some_and(|at| now < at + AVOIDED_FOR)
    }

    fn failed_at(&self) -> Option<Instant> {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_failed_at(&self, at: Option<Instant>) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    async fn open(&self, security: &Security, room: &Arc<Room>) -> io::Result<Arc<Connection>> {
        let asked_at = Instant::now();
        let _one_at_a_time = self.opening.lock().await;
        if let Some(open) = self.open_connection() {
            return Ok(open);
        }
        // Others have waited for the same attempt: its failure is theirs too, or they would fail one after the other.
        if self.failed_at().is_some_and(|at| at > asked_at) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let opened = Connection::open(self.address, security, room).await;
        self.set_failed_at(opened.is_err().then(Instant::now));
        let connection = opened?;
        self.made.fetch_add(1, Ordering::Relaxed);
        // The old one, if any, goes on with what is in flight on it.
        self.connection.store(Some(Arc::clone(&connection)));
        room.changed();
        Ok(connection)
    }
}

fn literal_ip(authority: &Authority) -> Option<IpAddr> {
    authority.host().trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn literal(authority: &Authority) -> Option<SocketAddr> {
    Some(SocketAddr::new(literal_ip(authority)?, authority.port_u16()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_spread_over_addresses_one_by_one_and_over_connections_by_streaks() {
        let turns = |addresses, per_address, count| {
            (0..count).map(|turn| drawn(turn, addresses, per_address).unwrap()).collect::<Vec<_>>()
        };
        let one_address = turns(1, 2, 2 * STREAK);
        assert!(one_address[..STREAK].iter().all(|drawn| *drawn == (0, 1)), "{one_address:?}");
        assert!(one_address[STREAK..].iter().all(|drawn| *drawn == (1, 0)), "{one_address:?}");

        let three_addresses = turns(3, 2, 3 * STREAK);
        for (turn, (first, second)) in three_addresses.iter().enumerate() {
            assert_eq!(first / 2, turn % 3);
            assert_ne!(first / 2, second / 2, "the other is at another address");
        }
        assert_eq!(turns(1, 1, 2), [(0, 0), (0, 0)]);
        assert_eq!(drawn(0, 0, 2), None);
    }
}
