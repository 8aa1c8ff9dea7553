//! The PROXY protocol, versions 1 and 2: the header in which a proxy names the client of the connection that follows.
//!
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use std::io;
use std::net::SocketAddr;

use ppp::{v1, v2};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1, with its CRLF.
const V1_BYTES_MAX: usize = 107;

/// The longest rest of a header of version 2: addresses, and what else the proxy wants to say.
const V2_REST_BYTES_MAX: usize = 4096;

/// Reads the header, and not a byte more. `None`: the connection is the proxy's own, for a health check.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        return v2(stream, header).await;
    }
    // Waits for the rest without taking what comes after it.
    while !header.ends_with(b"\r\n") {
        let mut ahead = [0; V1_BYTES_MAX];
        let room = V1_BYTES_MAX.saturating_sub(header.len());
        let seen = stream.peek(ahead.get_mut(..room).unwrap_or_default()).await?;
        let seen = ahead.get(..seen).unwrap_or_default();
        let length = memchr::memchr(b'\n', seen).map_or(seen.len(), |end| end + 1);
        if length == 0 {
            return Err(invalid("no end of the PROXY header"));
        }
        let start = header.len();
        header.resize(start + length, 0);
        stream.read_exact(header.get_mut(start..).unwrap_or_default()).await?;
    }
    let header = v1::Header::try_from(header.as_slice()).map_err(invalid)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(tcp) => Some((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Tcp6(tcp) => Some((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}

async fn v2(stream: &mut TcpStream, mut header: Vec<u8>) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [_, _, high, low] = fixed;
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > V2_REST_BYTES_MAX {
        return Err(invalid("the PROXY header is too long"));
    }
    header.extend_from_slice(&fixed);
    header.resize(SIGNATURE.len() + fixed.len() + rest, 0);
    stream.read_exact(header.get_mut(SIGNATURE.len() + fixed.len()..).unwrap_or_default()).await?;
    let header = v2::Header::try_from(header.as_slice()).map_err(invalid)?;
    Ok(match (header.command, header.addresses) {
        (v2::Command::Local, _) | (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => Some((ip.source_address, ip.source_port).into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => Some((ip.source_address, ip.source_port).into()),
    })
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
