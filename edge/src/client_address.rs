//! Who is at the other end of a connection, through our own proxies and no others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Networks, in settings: a list, or one text with commas between them. A single address is a network of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Networks(pub Vec<IpNet>);

/// Networks as they are written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "networks like `10.0.0.0/8`, with commas between them")]
enum Written {
    Text(String),
    List(Vec<String>),
}

impl TryFrom<Written> for Networks {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let texts = match written {
            Written::Text(text) => text.split(',').map(str::to_owned).collect(),
            Written::List(texts) => texts,
        };
        let texts = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        let network = |text: &str| text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
        let networks: Option<_> = texts.map(network).collect();
        networks.map(Self).ok_or("must be networks like `10.0.0.0/8`, with commas between them")
    }
}

impl From<Networks> for String {
    fn from(networks: Networks) -> Self {
        networks.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Which proxies are our own. With none of either, `X-Forwarded-For` counts for nothing.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// How many proxies of our own stand in front; with networks, at most so many. 0: none, with networks any number.
    pub hops: usize,
    /// The networks that they are in. Set: the header of a peer elsewhere counts for nothing.
    pub networks: Networks,
}

impl Trusted {
    fn covers(&self, address: IpAddr) -> bool {
        self.networks.0.iter().any(|network| network.contains(&address))
    }
}

/// The client's address: the connection's, or the entry of `X-Forwarded-For` that the outermost proxy of ours wrote.
///
/// Entries further left are the client's own words and count for nothing. With a number of hops alone and fewer entries than that, the connection's
/// address is taken. With networks, entries are followed from the right as long as the one who wrote them is in one of the networks.
pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &Trusted) -> IpAddr {
    let peer = peer.to_canonical();
    if trusted.networks.0.is_empty() {
        let outermost = trusted.hops.checked_sub(1).and_then(|index| entries(headers).nth(index));
        return outermost.and_then(parse).unwrap_or(peer);
    }
    let hops = if trusted.hops == 0 { usize::MAX } else { trusted.hops };
    let mut address = peer;
    for entry in entries(headers).take(hops) {
        if !trusted.covers(address) {
            break;
        }
        let Some(before) = parse(entry) else { break };
        address = before;
    }
    address
}

/// The entries of `X-Forwarded-For`, the last first. As bytes: what a client wrote need not be text, and must not hide what our proxies added after it.
fn entries(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all("x-forwarded-for").iter().rev();
    values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
}

/// An address, with or without the port that some proxies add.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

/// The network that limits are counted by: the address itself for IPv4, its /64 for IPv6, where one subscriber has many addresses.
pub fn network(address: IpAddr) -> IpAddr {
    truncated(address, 32, 64)
}

/// The network that may be one party all the same: /24 for IPv4, /48 for IPv6.
pub fn wide_network(address: IpAddr) -> IpAddr {
    truncated(address, 24, 48)
}

fn truncated(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (u32::BITS - v4_bits))))
        }
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (u128::BITS - v6_bits))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn forwarded(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static("x-forwarded-for"), value.parse().unwrap())])
    }

    fn hops(hops: usize) -> Trusted {
        Trusted { hops, ..Trusted::default() }
    }

    /// Proxies in two networks of ours.
    fn networks(hops: usize) -> Trusted {
        let networks = serde_json::from_value("10.0.0.0/8, 2001:db8:ffff::/48".into()).unwrap();
        Trusted { hops, networks }
    }

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn without_trusted_hops_the_header_counts_for_nothing() {
        assert_eq!(of(PEER, &forwarded("203.0.113.9"), &Trusted::default()), PEER);
    }

    #[test]
    fn behind_one_proxy_the_last_entry_is_the_client_and_the_rest_is_forged() {
        let headers = forwarded("198.51.100.66, 203.0.113.9");
        assert_eq!(of(PEER, &headers, &hops(1)), ip("203.0.113.9"));
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_what_a_proxy_added() {
        let value = http::HeaderValue::from_bytes(b"\xff, 203.0.113.9").unwrap();
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-forwarded-for"), value)]);
        for trusted in [hops(1), networks(0)] {
            assert_eq!(of(PEER, &headers, &trusted), ip("203.0.113.9"));
        }
    }

    #[test]
    fn with_fewer_entries_than_hops_the_connection_counts() {
        assert_eq!(of(PEER, &forwarded("203.0.113.9"), &hops(2)), PEER);
    }

    #[test]
    fn several_headers_are_one_list() {
        let name = http::HeaderName::from_static("x-forwarded-for");
        let mut headers = HeaderMap::new();
        for value in ["198.51.100.66", "203.0.113.9, 10.0.0.2"] {
            headers.append(&name, value.parse().unwrap());
        }
        for trusted in [hops(2), networks(0), networks(2)] {
            assert_eq!(of(PEER, &headers, &trusted), ip("203.0.113.9"));
        }
    }

    #[test]
    fn a_forged_header_from_an_untrusted_peer_is_without_effect() {
        for (peer, forged) in [("203.0.113.9", "198.51.100.66"), ("203.0.113.9", "10.0.0.2, 10.0.0.3")] {
            for trusted in [networks(0), networks(1)] {
                assert_eq!(of(ip(peer), &forwarded(forged), &trusted), ip(peer));
            }
        }
    }

    #[test]
    fn trusted_proxies_are_followed_to_the_first_address_that_is_none() {
        let chain = forwarded("198.51.100.66, 203.0.113.9, 2001:db8:ffff::7, 10.9.9.9");
        assert_eq!(of(PEER, &chain, &networks(0)), ip("203.0.113.9"));
        assert_eq!(of(ip("::ffff:10.0.0.1"), &chain, &networks(0)), ip("203.0.113.9"));
        assert_eq!(of(PEER, &chain, &networks(2)), ip("2001:db8:ffff::7"), "two hops and no more");
        assert_eq!(of(PEER, &forwarded("10.1.1.1, 10.9.9.9"), &networks(0)), ip("10.1.1.1"));
        assert_eq!(of(PEER, &forwarded("203.0.113.9, nobody"), &networks(0)), PEER);
    }

    #[test]
    fn an_entry_may_have_a_port() {
        for (entry, address) in [
            ("203.0.113.9:1234", "203.0.113.9"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
        ] {
            assert_eq!(of(PEER, &forwarded(entry), &hops(1)), ip(address));
        }
    }

    #[test]
    fn addresses_of_one_ipv6_subscriber_are_one_network() {
        let network = |text: &str| network(ip(text));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:203.0.113.9"), network("203.0.113.9"));
        assert_ne!(network("203.0.113.9"), network("203.0.113.10"));
    }

    #[test]
    fn networks_are_written_as_a_list_or_as_one_text() {
        let read = |value: serde_json::Value| serde_json::from_value::<Networks>(value).map(String::from);
        let both = "10.0.0.0/8,2001:db8::1/128";
        assert_eq!(read("10.0.0.0/8, 2001:db8::1".into()).unwrap(), both);
        assert_eq!(read(vec!["10.0.0.0/8", "2001:db8::1"].into()).unwrap(), both);
        assert_eq!(read("".into()).unwrap(), "");
        for wrong in ["10.0.0.0/33", "proxy", "10.0.0.0/8;"] {
            assert!(read(wrong.into()).unwrap_err().to_string().contains("10.0.0.0/8"), "{wrong}");
        }
    }

    #[test]
    fn a_wide_network_is_a_24_or_a_48() {
        assert_eq!(wide_network(ip("203.0.113.9")), ip("203.0.113.0"));
        assert_eq!(wide_network(ip("2001:db8:1:2::1")), ip("2001:db8:1::"));
    }
}
