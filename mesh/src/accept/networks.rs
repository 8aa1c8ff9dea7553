//! How many connections there are, in all and from each network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::Gauge;

/// The network that clients are counted by: the address itself for IPv4, its /64 for IPv6, where one subscriber has many addresses.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// So many places for each client network, of connections or of calls.
#[derive(Debug)]
pub struct Places {
    max: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// `None` when places are not counted.
    network: Option<IpAddr>,
}

impl Places {
    /// `max` for each [`network`]. 0: as many as are wanted.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: Mutex::default() })
    }

    /// A place for the network of `address`, unless it has all of its own.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = (self.max > 0).then(|| network(address));
        if let Some(network) = network {
            let mut counts = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(network).or_default();
            if *count >= self.max {
                return None;
            }
            *count += 1;
        }
        Some(Place { places: Arc::clone(self), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut counts = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&network);
            }
        }
    }
}

/// The open connections of one listener.
pub(super) struct Open {
    all: AtomicUsize,
    shown: Gauge,
    places: Arc<Places>,
}

/// One of them, until it is dropped.
pub(super) struct OpenConnection {
    open: Arc<Open>,
    _place: Place,
}

impl Open {
    /// At most `max` for each network, as in [`Places::new`]. `shown` is their number.
    pub(super) fn new(max: usize, shown: Gauge) -> Self {
        Self { all: AtomicUsize::new(0), shown, places: Places::new(max) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// Counts a connection from `address`, unless its network has too many.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<OpenConnection> {
        let place = self.places.take(address)?;
        self.all.fetch_add(1, Ordering::Relaxed);
        self.shown.increment(1.0);
        Some(OpenConnection { open: Arc::clone(self), _place: place })
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.all.fetch_sub(1, Ordering::Relaxed);
        self.open.shown.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_places_and_gets_them_back() {
        let open = Arc::new(Open::new(2, Gauge::noop()));
        let place = |text: &str| open.admit(text.parse().unwrap());
        let first = place("2001:db8:1:2::1").unwrap();
        let _second = place("2001:db8:1:2::2").unwrap();

        assert!(place("2001:db8:1:2:ffff::3").is_none());
        assert!(place("2001:db8:1:3::1").is_some(), "another subscriber");
        drop(first);
        assert!(place("2001:db8:1:2::3").is_some());
        assert_eq!(open.count(), 1);
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert_eq!(network("::ffff:203.0.113.9".parse().unwrap()), "203.0.113.9".parse::<IpAddr>().unwrap());
    }
}
