//! What the whole pipeline is measured in front of: an issuer of tokens and a `bookings` that always gives the same hold, as the platform has them,
//! over mutual TLS.

use std::{fs, path::Path};

use mesh::{
    auth::PrincipalId,
    clock::Clock,
    config::{Configuration, Parts, ServerConfig, TargetConfig, TelemetryConfig, TlsFiles},
    run::{self, App, Context, Service},
    testing::{self, Issuer},
};
use proto::{
    bookings::v1::{
        CreateHoldRequest, GetHoldRequest, Hold, HoldItem, ReleaseHoldRequest,
        hold_service_server::{HoldService, HoldServiceServer},
    },
    r#type::Money,
};
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status, service::Routes};

/// The method that is measured.
pub(crate) const PATH: &str = "/api/v1/holds/01932c5e-7f3a-7c00-9d1e-000000000001";

/// Where a gateway finds everything.
#[derive(Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) identity: String,
    pub(crate) bookings: String,
    /// The access token of a customer.
    pub(crate) token: String,
    /// The workload certificate of the gateway.
    pub(crate) tls: TlsFiles,
}

/// Starts both, writes where they are to `file`, and serves until killed.
pub(crate) async fn serve(file: &Path) -> anyhow::Result<()> {
    let issuer = Issuer::start().await;
    let config = ScriptedConfig {
        identity: issuer.target(),
        tls: testing::certificate("bookings"),
        ..ScriptedConfig::default()
    };
    let bookings = run::start::<Scripted>(config, Clock::system(None)).await?;
    bookings.ready().await;
    let platform = Platform {
        identity: issuer.target().address,
        bookings: bookings.address().to_string(),
        token: issuer.token(PrincipalId::generate(), &["customer"]),
        tls: testing::certificate("edge"),
    };
    // Whole at once: the other process waits for the file.
    let written = file.with_extension("new");
    fs::write(&written, serde_json::to_vec(&platform)?)?;
    fs::rename(written, file)?;
    std::future::pending().await
}

#[derive(Serialize, Deserialize)]
struct ScriptedConfig {
    server: ServerConfig,
    telemetry: TelemetryConfig,
    tls: TlsFiles,
    identity: TargetConfig,
}

impl Default for ScriptedConfig {
    fn default() -> Self {
        Self {
            server: testing::free_ports(),
            telemetry: TelemetryConfig::default(),
            tls: TlsFiles::default(),
            identity: TargetConfig::on_loopback(0),
        }
    }
}

impl Configuration for ScriptedConfig {
    fn parts(&self) -> Parts<'_> {
        Parts {
            server: &self.server,
            telemetry: &self.telemetry,
            tls: &self.tls,
            database: None,
            identity: Some(&self.identity),
            clock_file: None,
        }
    }
}

struct Scripted;

impl Service for Scripted {
    const NAME: &'static str = "bookings";
    type Config = ScriptedConfig;

    fn migrations() -> Option<diesel_migrations::EmbeddedMigrations> {
        None
    }

    async fn start(_context: Context<ScriptedConfig>) -> anyhow::Result<App> {
        Ok(App::Mesh(Routes::new(HoldServiceServer::new(Holds))))
    }
}

struct Holds;

#[tonic::async_trait]
impl HoldService for Holds {
    async fn get_hold(&self, _call: Request<GetHoldRequest>) -> Result<Response<Hold>, Status> {
        Ok(Response::new(hold()))
    }

    async fn create_hold(&self, _call: Request<CreateHoldRequest>) -> Result<Response<Hold>, Status> {
        Ok(Response::new(hold()))
    }

    async fn release_hold(&self, _call: Request<ReleaseHoldRequest>) -> Result<Response<Hold>, Status> {
        Ok(Response::new(hold()))
    }
}

fn hold() -> Hold {
    let price = Money { currency_code: "INR".to_owned(), amount_minor: 649_900 };
    let item = HoldItem {
        flight: "flights/01932c5e-7f3a-7c00-9d1e-000000000001".to_owned(),
        cabin: "ECONOMY".to_owned(),
        ..HoldItem::default()
    };
    Hold {
        name: "holds/01932c5e-7f3a-7c00-9d1e-000000000001".to_owned(),
        uid: "01932c5e-7f3a-7c00-9d1e-000000000001".to_owned(),
        items: vec![item.clone(), item],
        total: Some(price),
        ..Hold::default()
    }
}
