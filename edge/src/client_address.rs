//! Who is at the other end of a connection, through our own proxies and no others.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;

/// The client's address: the connection's, or the entry of `X-Forwarded-For` that the outermost of `trusted_hops` proxies of ours wrote.
///
/// Entries further left are the client's own words and count for nothing. With fewer entries than hops, the connection's address is taken.
pub fn of(peer: IpAddr, headers: &HeaderMap, trusted_hops: usize) -> IpAddr {
    if trusted_hops == 0 {
        return peer;
    }
    // Split as bytes: what a client wrote need not be text, and must not hide what our proxies added after it.
    let entries: Vec<&[u8]> = headers
        .get_all("x-forwarded-for")
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect();
    entries
        .len()
        .checked_sub(trusted_hops)
        .and_then(|index| std::str::from_utf8(entries.get(index)?).ok()?.trim().parse().ok())
        .unwrap_or(peer)
}

/// The network that limits are counted by: the address itself for IPv4, its /64 for IPv6, where one subscriber has many addresses.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static("x-forwarded-for"), value.parse().unwrap())])
    }

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn without_trusted_hops_the_header_counts_for_nothing() {
        assert_eq!(of(PEER, &forwarded("203.0.113.9"), 0), PEER);
    }

    #[test]
    fn behind_one_proxy_the_last_entry_is_the_client_and_the_rest_is_forged() {
        let headers = forwarded("198.51.100.66, 203.0.113.9");
        assert_eq!(of(PEER, &headers, 1), "203.0.113.9".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_what_a_proxy_added() {
        let value = http::HeaderValue::from_bytes(b"\xff, 203.0.113.9").unwrap();
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-forwarded-for"), value)]);
        assert_eq!(of(PEER, &headers, 1), "203.0.113.9".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn with_fewer_entries_than_hops_the_connection_counts() {
        assert_eq!(of(PEER, &forwarded("203.0.113.9"), 2), PEER);
    }

    #[test]
    fn addresses_of_one_ipv6_subscriber_are_one_network() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:203.0.113.9"), network("203.0.113.9"));
    }
}
