//! The services as separate processes, configured by environment variables only.

use std::{collections::BTreeMap, net::SocketAddr};

use jetway::{data_dir::DataDir, databases::Databases, rest::Rest};
use mesh::{
    ca::PrivateCa,
    config::TlsFiles,
    postgres::{self, Cluster},
};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Process, data_dir, eventually, free_port, sign_in, unique};

/// A platform of processes. Those that are not running have no entry.
pub(crate) struct Mesh {
    pub(crate) running: BTreeMap<&'static str, Process>,
    ports: BTreeMap<&'static str, u16>,
    pub(crate) databases: Databases,
    dir: DataDir,
    _cluster: Cluster,
    _data: TempDir,
}

/// In the order in which they start.
pub(crate) const SERVICES: [&str; 5] = ["identity", "acquirer", "payments", "bookings", "edge"];

impl Mesh {
    /// Starts PostgreSQL and every service, and waits until the edge serves.
    pub(crate) async fn start() -> Self {
        mesh::tls::install_crypto_provider();
        let data = data_dir();
        let dir = DataDir::open(data.path()).expect("a data directory");
        let cluster = Cluster::start(&postgres::Options::new(dir.postgres())).expect("PostgreSQL starts");
        let databases = Databases::prepare(&cluster, &dir).await.expect("the databases are made");
        mesh::key_file::create(&dir.keys("identity")).expect("the keys are made");
        payments::vault::create_keys_file(&dir.keys("payments")).expect("the keys are made");
        let ports = SERVICES.into_iter().map(|service| (service, free_port())).collect();
        let mut mesh =
            Self { running: BTreeMap::new(), ports, databases, dir, _cluster: cluster, _data: data };
        for service in SERVICES {
            mesh.run(service);
        }
        mesh.ready().await;
        mesh
    }

    /// Starts one service, again if it was stopped.
    pub(crate) fn run(&mut self, service: &'static str) {
        let environment = self.environment(service, self.ports[service]);
        self.running.insert(service, Process::start(service, &environment, &self.dir.log()));
    }

    /// Starts a second process of a service on the same database, and says where it listens.
    pub(crate) fn run_another(&self, service: &'static str) -> (Process, SocketAddr) {
        let port = free_port();
        let process = Process::start(service, &self.environment(service, port), &self.dir.log());
        (process, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// SIGKILL to one service.
    pub(crate) fn kill(&mut self, service: &'static str) {
        self.running.remove(service).expect("it runs").kill();
    }

    /// Waits until the edge and what is behind it answer.
    pub(crate) async fn ready(&self) {
        let rest = self.rest();
        for path in ["/readyz", "/.well-known/jwks.json", "/api/v1/airports"] {
            eventually(path, async || rest.get(path).await.ok().filter(|answer| answer.status == 200)).await;
        }
    }

    /// The edge.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports["edge"])
    }

    /// Where a service listens.
    pub(crate) fn address(&self, service: &str) -> String {
        format!("127.0.0.1:{}", self.ports[service])
    }

    /// A certificate of a service.
    pub(crate) fn certificate(&self, service: &str) -> TlsFiles {
        PrivateCa::open_or_create(&self.dir.ca())
            .and_then(|ca| ca.issue(service, &self.dir.certificates()))
            .expect("the CA issues")
    }

    /// A client of the edge.
    pub(crate) fn rest(&self) -> Rest {
        Rest::new(&self.url()).expect("a URL")
    }

    /// The variables of a service that listens on `port`.
    fn environment(&self, service: &'static str, port: u16) -> Vec<(String, String)> {
        let files = self.certificate(service);
        let mut settings = vec![
            ("SERVER__LISTEN", format!("127.0.0.1:{port}")),
            ("SERVER__PROBE_LISTEN", "127.0.0.1:0".to_owned()),
            ("SERVER__ADMIN_LISTEN", "127.0.0.1:0".to_owned()),
            ("TLS__CERTIFICATE", files.certificate.display().to_string()),
            ("TLS__KEY", files.key.display().to_string()),
            ("TLS__ROOTS", files.roots.display().to_string()),
        ];
        if service != "edge" {
            settings.push(("DATABASE__URL", self.databases.url(service).expose_secret().to_owned()));
        }
        let at = |peer: &str| format!("127.0.0.1:{}", self.ports[peer]);
        if !["identity", "acquirer"].contains(&service) {
            settings.push(("IDENTITY__ADDRESS", at("identity")));
        }
        match service {
            "identity" => settings.push(("KEYS__FILE", self.dir.keys("identity").display().to_string())),
            "payments" => {
                settings.push(("KEYS__FILE", self.dir.keys("payments").display().to_string()));
                settings.push(("ACQUIRER__ADDRESS", at("acquirer")));
                settings.push(("SIMULATOR", "true".to_owned()));
            }
            "bookings" => settings.push(("PAYMENTS__ADDRESS", at("payments"))),
            "edge" => {
                settings.push(("BOOKINGS__ADDRESS", at("bookings")));
                settings.push(("PAYMENTS__ADDRESS", at("payments")));
                // One test is many clients behind one address.
                settings.push(("LIMITS__CREDENTIALS_PER_MINUTE", "100000".to_owned()));
                settings.push(("LIMITS__CREDENTIALS_NETWORK_PER_MINUTE", "100000".to_owned()));
                settings.push(("LIMITS__DEFAULT_PER_MINUTE", "100000".to_owned()));
            }
            _ => {}
        }
        let prefix = service.to_uppercase();
        settings.into_iter().map(|(key, value)| (format!("JETWAY_{prefix}_{key}"), value)).collect()
    }
}

impl Mesh {
    /// Loads some days of the demo timetable, and makes the demo accounts.
    pub(crate) async fn load_timetable(&self) -> jetway::demo_data::Accounts {
        jetway::demo_data::load(&self.dir, &self.databases, 45).await.expect("the demo data loads")
    }

    /// A new flight whose economy cabin has `seats` seats.
    pub(crate) async fn flight_with_seats(&self, seats: usize) -> String {
        let accounts = self.load_timetable().await;
        let rest = self.rest();
        let admin = sign_in(&rest, &accounts.admin.email, &accounts.admin.password).await;
        let layout = json!({
            "displayName": "Small aeroplane",
            "cabins": [{ "cabin": "ECONOMY", "firstRow": 1, "lastRow": seats, "letters": "A" }],
        });
        let made = admin.post("/api/v1/aircraftTypes?aircraftTypeId=XS1", &layout).await.expect("an answer");
        assert_eq!(made.status, 200, "{}", made.body);
        let departs = mesh::clock::Clock::system_now() + jiff::SignedDuration::from_hours(240);
        let inr = |minor: i64| json!({ "currencyCode": "INR", "amountMinor": minor.to_string() });
        let flight = json!({
            "airline": "airlines/AI", "flightNumber": "9009", "origin": "airports/DEL", "destination": "airports/BLR",
            "departureTime": departs.to_string(), "arrivalTime": (departs + jiff::SignedDuration::from_hours(2)).to_string(),
            "aircraftType": "aircraftTypes/XS1",
            "cabins": [{ "cabin": "ECONOMY", "fares": [
                { "fare": "FLEX", "base": inr(500_000), "taxes": inr(60_000), "refundable": true },
            ]}],
        });
        let made = admin.post_with_key("/api/v1/flights", &flight, &unique()).await.expect("an answer");
        assert_eq!(made.status, 200, "{}", made.body);
        made.text("name")
    }

    /// A second edge, in front of the bookings process at `address`; and clients of both edges.
    pub(crate) async fn edge_to(&self, address: SocketAddr) -> (Process, [Rest; 2]) {
        let port = free_port();
        let mut environment = self.environment("edge", port);
        environment.push(("JETWAY_EDGE_BOOKINGS__ADDRESS".to_owned(), address.to_string()));
        let process = Process::start("edge", &environment, &self.dir.log());
        let rest = Rest::new(&format!("http://127.0.0.1:{port}")).expect("a URL");
        let path = "/api/v1/airports";
        eventually(path, async || rest.get(path).await.ok().filter(|answer| answer.status == 200)).await;
        (process, [self.rest(), rest])
    }
}
