//! Which addresses may be called: those of the public internet. A URL comes from outside, and must not reach what stands beside us.
//!
//! The URL is judged when it is stored, the addresses of its host before every attempt, and then the attempt goes to the very addresses that were
//! judged: a name that points elsewhere a moment later is not asked again. A redirect is not followed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Not of the public internet: private, shared, loopback, link-local (the metadata services of clouds among them), multicast, reserved, for
/// documentation and benchmarks.
///
/// Source: the IANA IPv4 Special-Purpose Address Registry.
const SPECIAL_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Global unicast: everything outside of it is not of the public internet, IPv4 in disguise (`::ffff:0:0/96`, `64:ff9b::/96`) included.
///
/// Source: RFC 4291, section 2.4.
const GLOBAL_V6: ([u16; 8], u8) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Of that, what leads elsewhere: protocol assignments with Teredo, documentation, 6to4.
///
/// Source: the IANA IPv6 Special-Purpose Address Registry.
const SPECIAL_V6: [([u16; 8], u8); 4] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

/// Why a URL cannot be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no URL, or not of a scheme that may be called, or has a user, password or fragment.
    #[error("the URL is none that may be called")]
    Url,
    /// Its host has an address that may not be called.
    #[error("the address is not a public one")]
    Address,
    /// The name of its host has no address.
    #[error("the name of the host cannot be resolved")]
    Name,
}

/// What may be called beside `https` to public addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Plain HTTP as well.
    pub(crate) http: bool,
    /// These addresses as well.
    pub(crate) networks: Vec<IpNet>,
}

/// A URL that may be called, as far as can be said before its host is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Whether with TLS.
    pub(crate) tls: bool,
    /// The host: a name, or an address.
    pub(crate) host: Host<String>,
    /// The port.
    pub(crate) port: u16,
    /// What the header `Host` says.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: String,
}

/// Finds the addresses of a name.
#[tonic::async_trait]
pub(crate) trait Resolve: Send + Sync + 'static {
    /// All of them.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the operating system does it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemResolver;

#[tonic::async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

impl Rules {
    /// Reads a URL. One that names an address names it in any of its spellings.
    pub(crate) fn target(&self, url: &str) -> Result<Target, Refused> {
        let url = Url::parse(url).map_err(|_| Refused::Url)?;
        let tls = match url.scheme() {
            "https" => true,
            "http" if self.http => false,
            _ => return Err(Refused::Url),
        };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(Refused::Url);
        }
        let host = url.host().ok_or(Refused::Url)?.to_owned();
        let literal = match &host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::from(*address)),
            Host::Ipv6(address) => Some(IpAddr::from(*address)),
        };
        if literal.is_some_and(|address| !self.allows(address)) {
            return Err(Refused::Address);
        }
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Target {
            tls,
            port: url.port_or_known_default().ok_or(Refused::Url)?,
            authority: url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}")),
            host,
            path,
        })
    }

    /// The addresses to call. A host with one that may not be called is not called at all.
    pub(crate) async fn addresses(
        &self,
        target: &Target,
        resolver: &dyn Resolve,
    ) -> Result<Vec<SocketAddr>, Refused> {
        let found = match &target.host {
            Host::Domain(name) => resolver.resolve(name).await.map_err(|_| Refused::Name)?,
            Host::Ipv4(address) => vec![IpAddr::from(*address)],
            Host::Ipv6(address) => vec![IpAddr::from(*address)],
        };
        if found.is_empty() {
            return Err(Refused::Name);
        }
        if found.iter().any(|address| !self.allows(*address)) {
            return Err(Refused::Address);
        }
        Ok(found.into_iter().map(|address| SocketAddr::new(address, target.port)).collect())
    }

    fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.networks.iter().any(|network| network.contains(&address))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| v4(*network).contains(&address)),
        IpAddr::V6(address) => {
            v6(GLOBAL_V6).contains(&address)
                && !SPECIAL_V6.iter().any(|network| v6(*network).contains(&address))
        }
    }
}

fn v4((address, prefix): ([u8; 4], u8)) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from(address), prefix)
}

fn v6((address, prefix): ([u16; 8], u8)) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from(address), prefix)
}

#[cfg(test)]
mod tests;
