//! What one listener puts up with.

use std::time::Duration;

use ipnet::IpNet;

/// What one listener puts up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at a time; more wait in the kernel's queue, and those that are idle are closed sooner (see [`Limits::idle_timeout`]).
    pub max_connections: usize,
    /// Connections open at a time for each client network: an IPv4 address, an IPv6 /64. More are closed at once. 0: no such limit.
    pub max_connections_per_network: usize,
    /// The proxies that connections may come from, each beginning with a PROXY protocol header that names the client. Empty: connections come from
    /// clients themselves. Otherwise a connection from anywhere else is closed at once.
    pub proxies: Vec<IpNet>,
    /// How long a handshake may take: the PROXY header, TLS, and what tells HTTP/1.1 from HTTP/2.
    pub handshake_timeout: Duration,
    /// How long the header of an HTTP/1.1 request may take, from its first byte.
    pub header_read_timeout: Duration,
    /// How long a connection may have no request. A sixtieth of it when the listener is nearly full.
    pub idle_timeout: Duration,
    /// How long a peer may read nothing, or leave unread a part of one answer: of each, it must take all or 16 KiB in this time, give or take a quarter,
    /// whatever else it reads. After that an HTTP/2 connection is told to go away and ends after as long again, one that cannot be told at once.
    ///
    /// What a peer can make us hold is what its requests in flight bring ([`Limits::max_concurrent_streams`] times the largest answer) and
    /// [`Limits::max_unread_bytes`]; for how long is bounded here.
    pub write_stall_timeout: Duration,
    /// Bytes of answers that a peer may leave unread on one connection before no further request of it is begun. `usize::MAX`: no such limit.
    pub max_unread_bytes: usize,
    /// How slow the body of a request may be whose length is known, in bytes a second after [`Limits::handshake_timeout`].
    pub min_body_rate: u32,
    /// Requests in flight at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Requests that a peer may take back before they are answered, on one HTTP/2 connection, when they are more than half of its requests.
    pub max_abandoned: u64,
    /// The largest header of a request, in bytes.
    pub max_header_list_bytes: u32,
    /// Bytes of a request's body that are read ahead of the service, on one HTTP/2 stream.
    pub stream_window_bytes: u32,
    /// How often an HTTP/2 peer is asked whether it is still there.
    pub keep_alive_interval: Duration,
    /// How long it may take to answer.
    pub keep_alive_timeout: Duration,
    /// The age at which a connection is told to go away, give or take a tenth.
    pub max_connection_age: Duration,
    /// How long the requests in flight on such a connection may still take.
    pub max_connection_age_grace: Duration,
    /// How long requests in flight may take when the listener stops.
    pub drain: Duration,
    /// Whether the app itself answers requests that could not be read: they come with a [`super::Violation`] in their extensions, and nothing else in
    /// them is the client's. Otherwise they are answered here, with a status and no more.
    pub app_answers_violations: bool,
}

impl Default for Limits {
    /// For a listener inside the mesh.
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_network: 0,
            proxies: Vec::new(),
            handshake_timeout: Duration::from_secs(5),
            header_read_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_mins(15),
            write_stall_timeout: Duration::from_mins(5),
            max_unread_bytes: usize::MAX,
            min_body_rate: 0,
            max_concurrent_streams: 1_000,
            max_abandoned: u64::MAX,
            max_header_list_bytes: 16 * 1024,
            stream_window_bytes: 1024 * 1024,
            keep_alive_interval: Duration::from_mins(1),
            keep_alive_timeout: Duration::from_secs(20),
            max_connection_age: Duration::from_mins(5),
            max_connection_age_grace: Duration::from_secs(30),
            drain: Duration::from_secs(25),
            app_answers_violations: false,
        }
    }
}

impl Limits {
    /// For a listener that the world reaches: everything a client can hold on to is less, and ends sooner.
    pub fn public() -> Self {
        Self {
            max_connections_per_network: 1_000,
            idle_timeout: Duration::from_mins(1),
            write_stall_timeout: Duration::from_secs(30),
            max_unread_bytes: 4 << 20,
            min_body_rate: 1024,
            max_concurrent_streams: 100,
            max_abandoned: 200,
            stream_window_bytes: 64 * 1024,
            max_connection_age: Duration::from_mins(15),
            // A download may take as long as its reader takes something.
            max_connection_age_grace: Duration::from_mins(15),
            app_answers_violations: true,
            ..Self::default()
        }
    }
}
