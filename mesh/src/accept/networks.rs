//! How many connections there are, in all and from each network.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

/// The open connections of one listener.
#[derive(Debug, Default)]
pub(super) struct Open {
    all: AtomicUsize,
    by_network: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    open: Arc<Open>,
    network: Option<IpAddr>,
}

impl Open {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// A place for a connection from `address`, unless its network has `max` already. 0: no such limit.
    pub(super) fn place(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Place> {
        let network = (max > 0).then(|| network(address));
        if let Some(network) = network {
            let mut counts = self.by_network.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(network).or_default();
            if *count >= max {
                return None;
            }
            *count += 1;
        }
        self.all.fetch_add(1, Ordering::Relaxed);
        Some(Place { open: Arc::clone(self), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.all.fetch_sub(1, Ordering::Relaxed);
        let Some(network) = self.network else { return };
        let mut counts = self.open.by_network.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_so_many_places_and_gets_them_back() {
        let open = Arc::new(Open::default());
        let place = |text: &str| open.place(text.parse().unwrap(), 2);
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
