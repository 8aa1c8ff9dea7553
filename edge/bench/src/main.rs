//! Measures the edge side by side with Envoy and with gateways of other designs: `make bench`.
//!
//! Every gateway stands in front of the same upstream, alone on one core; upstream and load generator share the other. The first figure is CPU time
//! of the gateway's process for each request, as the kernel counts it. Rounds are interleaved, so that what else the machine does hits all alike,
//! and medians are reported.

mod gateways;
mod load;
mod platform;
mod report;
mod run;
mod upstream;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure all gateways and print the tables.
    Run(RunArguments),
    /// The upstream that all gateways call.
    Upstream {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A gateway for comparison: the transcoder in the plainest server.
    Library(GatewayArguments),
    /// A gateway for comparison: hand-written handlers over generated types.
    Typed(GatewayArguments),
    /// A gateway for comparison: copies bytes and understands none.
    Copying(GatewayArguments),
    /// The issuer and the service of the platform that the whole pipeline is measured in front of.
    Platform {
        /// Where to write how they are reached.
        file: PathBuf,
    },
    /// A gateway for comparison: the transcoder alone in front of the platform's contract.
    Bare {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// What `platform` wrote.
        #[arg(long)]
        platform: PathBuf,
    },
}

#[derive(clap::Args)]
struct GatewayArguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
}

/// What is measured, and how long.
#[derive(clap::Args)]
pub(crate) struct RunArguments {
    /// The edge's binary.
    #[arg(long)]
    edge: Option<PathBuf>,
    /// Envoy's binary; without it there are no ratios.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Interleaved rounds; medians of them are reported.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of one measurement, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these gateways, by a part of the name.
    #[arg(long)]
    only: Vec<String>,
    /// Leave the latencies out.
    #[arg(long)]
    no_latency: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments).await,
        Command::Upstream { listen } => upstream::serve(listen).await,
        Command::Library(GatewayArguments { listen, upstream }) => {
            gateways::library::serve(listen, upstream).await
        }
        Command::Typed(GatewayArguments { listen, upstream }) => {
            gateways::typed::serve(listen, upstream).await
        }
        Command::Copying(GatewayArguments { listen, upstream }) => {
            gateways::copying::serve(listen, upstream).await
        }
        Command::Platform { file } => platform::serve(&file).await,
        Command::Bare { listen, platform } => gateways::bare::serve(listen, &platform).await,
    }
}
