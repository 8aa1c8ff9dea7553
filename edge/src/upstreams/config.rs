//! Settings of the services that are fronted beside Jetway's own.

use std::path::PathBuf;

use clap::{Arg, ArgMatches};
use http::uri::Authority;
use mesh::client::{self, TargetError};
use serde::{Deserialize, Serialize};

/// Whether an upstream's calls are checked here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// By the policy of the contract: rate, token, roles.
    #[default]
    Policy,
    /// Not at all: for a service whose protos carry no policy, and which checks its callers itself.
    Open,
}

/// A gRPC service to front: one `[[upstream]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// `http://host:port` or `https://host:port`, or several with commas. A name with several addresses, such as that of a headless service, is
    /// balanced over and looked up again all the time.
    pub address: String,
    /// File with the `FileDescriptorSet`, imports included. It is read again when it changes.
    pub descriptor_set: Option<PathBuf>,
    /// Ask the service itself for its descriptors (`grpc.reflection.v1`, else `v1alpha`).
    pub reflection: bool,
    /// Full names of the services to front. Empty: every service in the set, but for health and reflection.
    pub services: Vec<String>,
    /// Whether calls are checked here.
    pub access: Access,
    /// Whether the `Authorization` header of clients goes along, when access is open: to a service that checks its callers itself, and may see what
    /// they sign in with. Unset: yes, unless calls of other services are checked here. Then what clients send are tokens of the platform, which whoever
    /// has them can act with, and a service that is none of its own must not get them. Cookies never go along, nor what a session's cookie stands for.
    pub forward_authorization: Option<bool>,
    /// With `https://`: the workload of the platform that must answer, to which the own workload certificate is shown.
    pub workload: Option<String>,
    /// With `https://`: PEM file of the authorities to trust. Unset: those of the operating system.
    pub roots: Option<PathBuf>,
    /// With `https://`: PEM file of the certificate to show. Unset: none is.
    pub certificate: Option<PathBuf>,
    /// PEM file of its private key.
    pub key: Option<PathBuf>,
    /// With `https://`: the name in the service's certificate. Unset: the host of the first address.
    pub server_name: Option<String>,
    /// Connections to each address.
    pub connections: usize,
    /// How long a call may take that is no stream of the server's, in milliseconds, when access is open. 0: for ever.
    pub timeout_ms: u64,
    /// The largest request message, in bytes, when access is open.
    pub request_bytes_max: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            descriptor_set: None,
            reflection: false,
            services: Vec::new(),
            access: Access::default(),
            forward_authorization: None,
            workload: None,
            roots: None,
            certificate: None,
            key: None,
            server_name: None,
            connections: 2,
            timeout_ms: 60_000,
            request_bytes_max: transcoder::BODY_BYTES_MAX_DEFAULT,
        }
    }
}

/// Where an upstream is.
pub(crate) struct Place {
    pub(crate) tls: bool,
    pub(crate) authorities: Vec<Authority>,
}

impl UpstreamConfig {
    /// The address, taken apart.
    pub(crate) fn place(&self) -> Result<Place, String> {
        let mut schemes = Vec::new();
        let mut addresses = Vec::new();
        for address in self.address.split(',').map(str::trim).filter(|address| !address.is_empty()) {
            let (scheme, rest) =
                address.split_once("://").ok_or("must start with `http://` or `https://`")?;
            let port = match scheme {
                "http" => 80,
                "https" => 443,
                _ => return Err("must start with `http://` or `https://`".to_owned()),
            };
            schemes.push(scheme == "https");
            let host = rest.trim_end_matches('/');
            let has_port = host.parse::<Authority>().is_ok_and(|authority| authority.port_u16().is_some());
            addresses.push(if has_port { host.to_owned() } else { format!("{host}:{port}") });
        }
        if schemes.iter().any(|tls| Some(tls) != schemes.first()) {
            return Err("must not mix `http://` and `https://`".to_owned());
        }
        match client::authorities(&addresses) {
            Ok(authorities) => Ok(Place { tls: schemes.first() == Some(&true), authorities }),
            Err(TargetError::Empty) => Err("is missing".to_owned()),
            Err(TargetError::Service(_) | TargetError::Address { .. }) => {
                Err("must be `http://host:port`".to_owned())
            }
        }
    }

    /// What is wrong with it, by the names of the settings of the `index`th upstream.
    pub(crate) fn check(&self, index: usize) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wrong = |name: &str, why: &str| problems.push(format!("`upstream.{index}.{name}` {why}"));
        let tls = match self.place() {
            Ok(place) => Some(place.tls),
            Err(why) => {
                wrong("address", &why);
                None
            }
        };
        match (&self.descriptor_set, self.reflection) {
            (None, false) => wrong("descriptor_set", "is missing: give a file, or `reflection = true`"),
            (Some(_), true) => wrong("reflection", "and `descriptor_set` exclude each other"),
            (Some(_), false) | (None, true) => {}
        }
        let of_tls = [
            ("workload", self.workload.is_some()),
            ("roots", self.roots.is_some()),
            ("certificate", self.certificate.is_some()),
            ("key", self.key.is_some()),
            ("server_name", self.server_name.is_some()),
        ];
        for (name, given) in of_tls {
            if given && tls == Some(false) {
                wrong(name, "needs an address with `https://`");
            }
            if given && name != "workload" && self.workload.is_some() {
                wrong(name, "and `workload` exclude each other");
            }
        }
        if self.certificate.is_some() != self.key.is_some() {
            wrong("certificate", "and `key` go together");
        }
        if self.forward_authorization.is_some() && self.access == Access::Policy {
            wrong(
                "forward_authorization",
                "needs `access = \"open\"`: by policy, a token goes along that is good",
            );
        }
        if self.connections == 0 {
            wrong("connections", "must be at least 1");
        }
        if self.request_bytes_max == 0 {
            wrong("request_bytes_max", "must be at least 1");
        }
        problems
    }
}

/// Each flag of a quick start: its name, what it takes, what it says, and the setting of an upstream that it is.
const FLAGS: [(&str, &str, &str, &str); 5] = [
    (
        "upstream",
        "URL",
        "Front the gRPC service at this address. Begins a new upstream when repeated",
        "address",
    ),
    ("descriptor-set", "FILE", "The upstream's FileDescriptorSet, imports included", "descriptor_set"),
    ("reflection", "BOOL", "Ask the upstream itself for its descriptors", "reflection"),
    ("services", "NAMES", "Front only these services of the upstream, with commas between", "services"),
    ("access", "ACCESS", "`open`: do not check who calls. `policy`: by the policy in the protos", "access"),
];

/// The flags of a quick start.
pub(crate) fn flags() -> Vec<Arg> {
    let listen = Arg::new("listen").long("listen").value_name("ADDRESS").help("Serve on this address");
    let upstream = FLAGS.into_iter().map(|(name, value, help, _)| {
        let arg = Arg::new(name).long(name).value_name(value).help(help).action(clap::ArgAction::Append);
        if name == "reflection" {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg
        }
    });
    std::iter::once(listen).chain(upstream).collect()
}

/// The settings that the flags are: those behind an `--upstream` belong to it, and those in front of the first to that.
pub(crate) fn set_by_flags(matches: &ArgMatches) -> Vec<String> {
    let mut given: Vec<(usize, &str, &String)> = Vec::new();
    for (name, _, _, setting) in FLAGS {
        let places = matches.indices_of(name).into_iter().flatten();
        let values = matches.get_many::<String>(name).into_iter().flatten();
        given.extend(places.zip(values).map(|(place, value)| (place, setting, value)));
    }
    given.sort_unstable();
    let mut settings: Vec<String> =
        matches.get_one::<String>("listen").into_iter().map(|at| format!("server.listen={at}")).collect();
    let mut upstreams = 0_usize;
    for (_, setting, value) in given {
        upstreams += usize::from(setting == "address");
        settings.push(format!("upstream.{}.{setting}={value}", upstreams.saturating_sub(1)));
    }
    settings
}
