//! The command line: run the whole platform, try it, audit it.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use jetway::{
    audit, demo,
    platform::{self, Platform},
    rest::Rest,
};

#[derive(Parser)]
#[command(name = "jetway", about = "Flight booking and payments: the whole platform on one machine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole platform until Ctrl-C: PostgreSQL, all services, demo data.
    Up(Up),
    /// Make one traveller's journey over REST against a running platform, and print every step.
    Demo {
        /// The edge's address.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        url: String,
    },
    /// Check every invariant in the databases, whether the platform runs or not.
    Audit(Data),
    /// Run the simulated acquirer alone, configured as any service.
    Acquirer {
        /// As for any service: see `jetway acquirer -- --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Work with the private certificate authority.
    Cert {
        #[command(subcommand)]
        command: Cert,
    },
}

#[derive(Subcommand)]
enum Cert {
    /// Issue a workload certificate for a service that runs as a process of its own.
    Issue {
        /// The service's name.
        service: String,
        #[command(flatten)]
        data: Data,
    },
}

#[derive(Args)]
struct Data {
    /// Where the platform keeps its data. Default: .jetway/data, or /var/lib/jetway for root in a directory that only root can enter.
    #[arg(long)]
    data: Option<PathBuf>,
}

impl Data {
    fn dir(self) -> PathBuf {
        self.data.unwrap_or_else(platform::data_dir)
    }
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    data: Data,
    /// Delete all data first.
    #[arg(long)]
    fresh: bool,
    /// Where the edge listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Let every service take any free port instead of its usual one.
    #[arg(long)]
    any_port: bool,
    /// How many days of flights the demo data has, from today.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=365))]
    schedule_days: u16,
    /// Limit calls as strictly as in production. Otherwise the limits are a thousand times as high.
    #[arg(long)]
    strict_limits: bool,
    /// Pages of this origin may call the gateway with a session in cookies, for example `http://localhost:5173`. Can be given several times.
    #[arg(long = "origin", value_name = "ORIGIN", value_parser = origin)]
    origins: Vec<String>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        // Reads its own arguments and environment, like every service.
        Command::Acquirer { arguments } => {
            return mesh::run::run_with::<acquirer::Acquirer>(
                ["jetway acquirer".into()].into_iter().chain(arguments),
            );
        }
        Command::Up(up) => block_on(run_up(up)),
        Command::Demo { url } => block_on(async { demo::run(&Rest::new(&url)?).await }),
        Command::Audit(data) => block_on(async { audit::run(&data.dir()).await }),
        Command::Cert { command: Cert::Issue { service, data } } => platform::issue(&data.dir(), &service),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jetway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// An origin as browsers write it.
fn origin(text: &str) -> Result<String, String> {
    edge::cors::Origins::problem(text).map_or_else(|| Ok(text.to_owned()), |problem| Err(problem.to_owned()))
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

async fn run_up(up: Up) -> anyhow::Result<()> {
    let options = platform::Options {
        data_dir: up.data.dir(),
        fresh: up.fresh,
        listen: up.listen,
        any_port: up.any_port,
        schedule_days: up.schedule_days,
        strict_limits: up.strict_limits,
        origins: up.origins,
    };
    // One listener for the whole life of the process: a signal that came between two would be lost.
    let mut stop = std::pin::pin!(mesh::run::stop_requested());
    let platform = tokio::select! {
        platform = Platform::start(&options) => platform?,
        () = &mut stop => anyhow::bail!("stopped before the platform was ready"),
    };
    eprint!("{}", platform.welcome());
    stop.await;
    eprintln!("stopping; calls in flight are finished");
    platform.stop().await;
    mesh::telemetry::flush();
    Ok(())
}
