//! Starts the gateways, drives them round by round, and reads from the kernel what they cost.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use edge_bench::samples;
use serde_json::Value;

use crate::{
    RunArguments,
    load::{self, Prepared},
    platform::Platform,
    report::{Figure, Report, Sample, print_figures},
    upstream,
};

/// The core that the gateway has to itself, and the one that everything else shares.
const GATEWAY_CORE: &str = "0";
const OTHER_CORE: usize = 1;

/// Connections of the closed loop.
const CONNECTIONS: usize = 32;

/// Connections of the paced loop: enough that none has to wait for another.
const PACED_CONNECTIONS: usize = 64;

/// Where latency is measured, as a share of the gateway's own saturation.
const PACED_SHARE: f64 = 0.7;

/// Requests before anything is counted.
const WARM_UP: Duration = Duration::from_millis(500);

/// What is asked.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    method: &'static str,
    target: &'static str,
    with_body: bool,
}

/// The four requests of the comparison.
pub(crate) const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "small GET",
        method: "GET",
        target: "/v1/flights/01932c5e-7f3a-7c00-9d1e-000000000001",
        with_body: false,
    },
    Scenario {
        name: "50-item list",
        method: "GET",
        target: "/v1/flights?origin=DEL&destination=BLR&page_size=50",
        with_body: false,
    },
    Scenario { name: "POST 400 B", method: "POST", target: "/v1/bookings", with_body: true },
    Scenario {
        name: "stream of 1,000",
        method: "GET",
        target: "/v1/flights:watch?origin=DEL",
        with_body: false,
    },
];

/// What the whole pipeline is asked: a small GET with a token.
pub(crate) const PIPELINE: &str = "small GET of the platform, signed in";

impl Scenario {
    fn request(&self) -> anyhow::Result<Prepared> {
        let body = self.with_body.then(|| serde_json::to_vec(&samples::create_booking())).transpose()?;
        Ok(Prepared::new(self.method, self.target, &[], body.as_deref()))
    }
}

/// A process that ends with its owner.
struct Process {
    name: String,
    child: Child,
    address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(
        name: &str,
        core: &str,
        program: &Path,
        arguments: &[String],
        address: SocketAddr,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let log = fs::File::create(log.join(format!("{}.log", name.replace(' ', "-"))))?;
        let child = Command::new("taskset")
            .args(["-c", core])
            .arg(program)
            .args(arguments)
            // As the edge's image has it; the allocators of the others do not read it.
            .env("MIMALLOC_PURGE_DELAY", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, address })
    }

    /// CPU time of all threads so far.
    fn cpu(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanoseconds += text.split_whitespace().next().context("schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Resident memory, in KiB.
    fn resident(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("VmRSS")?.parse()?)
    }

    /// One measurement under as many requests as go through.
    async fn measure(&self, request: &Prepared, duration: Duration) -> anyhow::Result<Sample> {
        let before = self.cpu()?;
        let requests = load::saturate(self.address, request, CONNECTIONS, duration).await?;
        let cpu = self.cpu()?.saturating_sub(before);
        Ok(Sample { requests, cpu, wall: duration, resident_kib: self.resident()? })
    }

    async fn answers(&mut self, request: &Prepared) -> anyhow::Result<Vec<u8>> {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            match load::once(self.address, request).await {
                Ok(body) => return Ok(body),
                Err(error) if std::time::Instant::now() > deadline => {
                    bail!("{} does not answer: {error:#}", self.name)
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}", self.name);
            }
        }
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Measures everything and prints the tables.
pub(crate) async fn run(arguments: &RunArguments) -> anyhow::Result<()> {
    let directory = std::env::temp_dir().join(format!("edge-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let measured = measure(arguments, &directory).await;
    if measured.is_ok() {
        fs::remove_dir_all(&directory)?;
    }
    measured.with_context(|| format!("the logs are in {}", directory.display()))
}

async fn measure(arguments: &RunArguments, directory: &Path) -> anyhow::Result<()> {
    let mut cores = nix::sched::CpuSet::new();
    cores.set(OTHER_CORE)?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cores)
        .context("this bench needs two cores")?;

    let this = std::env::current_exe()?;
    let other = OTHER_CORE.to_string();
    let upstream = free_address()?;
    let serve = ["upstream".to_owned(), "--listen".to_owned(), upstream.to_string()];
    let direct = Process::start("direct", &other, &this, &serve, upstream, directory)?;
    let mut gateways = vec![direct];
    gateways.extend(start_all(arguments, directory, &this, upstream)?);
    gateways.retain(|gateway| {
        gateway.name == "direct"
            || arguments.only.is_empty()
            || arguments.only.iter().any(|part| gateway.name.contains(part.as_str()))
    });

    let duration = Duration::from_secs_f64(arguments.seconds);
    for gateway in &mut gateways {
        for scenario in &SCENARIOS {
            let request = scenario.request()?;
            let body = gateway.answers(&request).await.with_context(|| scenario.name.to_owned())?;
            if gateway.name != "copying proxy" {
                let answer: Value = serde_json::from_str(&upstream::canonical(std::str::from_utf8(&body)?))
                    .with_context(|| format!("{}: {}", gateway.name, scenario.name))?;
                if answer != upstream::expected(scenario.target)? {
                    bail!("{} answers {} with something else: {answer}", gateway.name, scenario.name);
                }
            }
            load::saturate(gateway.address, &request, CONNECTIONS, WARM_UP).await?;
        }
    }

    let measurements = gateways.len() * (SCENARIOS.len() + usize::from(!arguments.no_latency)) + 2;
    let whole = duration * u32::try_from(measurements * arguments.rounds)?;
    eprintln!("{} rounds, {} minutes", arguments.rounds, whole.as_secs().div_ceil(60));
    let mut report = Report::new(
        gateways.iter().map(|gateway| gateway.name.clone()).collect(),
        &SCENARIOS.map(|scenario| scenario.name),
        "Envoy",
    );
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            let request = scenario.request()?;
            for (number, gateway) in gateways.iter().enumerate() {
                let before = gateway.cpu()?;
                let requests = load::saturate(gateway.address, &request, CONNECTIONS, duration).await?;
                let cpu = gateway.cpu()?.saturating_sub(before);
                report.add(
                    index,
                    number,
                    Sample { requests, cpu, wall: duration, resident_kib: gateway.resident()? },
                );
            }
        }
        if !arguments.no_latency {
            let request = SCENARIOS[0].request()?;
            for (number, gateway) in gateways.iter().enumerate() {
                let rate = report.saturation(0, number) * PACED_SHARE;
                let latencies =
                    load::pace(gateway.address, &request, PACED_CONNECTIONS, rate, duration).await?;
                report.add_latency(number, latencies);
            }
        }
    }
    report.print();
    drop(gateways);
    let Some(edge) = &arguments.edge else { return Ok(()) };
    let mut figures = figures(&report);
    figures.extend(pipeline(arguments, directory, &this, edge).await?);
    print_figures(&figures);
    Ok(())
}

/// What is asked of the edge in front of any service: spec/edge.md, section 3.
fn figures(report: &Report) -> Vec<Figure> {
    // What CPU time may be of Envoy's, by scenario: at most, and aimed at.
    const COSTS: [(f64, f64); SCENARIOS.len()] = [(0.27, 0.20), (0.14, 0.10), (0.32, 0.27), (0.10, 0.06)];
    let figure = |name, measured, (must, aim)| Some(Figure { name, measured: measured?, must, aim });
    let costs = SCENARIOS.iter().zip(COSTS).enumerate().map(|(index, (scenario, bounds))| {
        figure(format!("CPU, {}, × Envoy", scenario.name), report.cost_ratio(index, "edge"), bounds)
    });
    let latency = "added latency, p99 at 70 % of saturation, × Envoy".to_owned();
    let latency = figure(latency, report.latency_ratio("edge"), (0.5, 0.3));
    let memory = figure("resident memory under load, MB".to_owned(), report.resident("edge"), (20.0, 14.0));
    costs.chain([latency, memory]).flatten().collect()
}

/// The edge with everything that it does for the platform, and the transcoder alone, in front of the same service.
async fn pipeline(
    arguments: &RunArguments,
    directory: &Path,
    this: &Path,
    edge: &Path,
) -> anyhow::Result<Option<Figure>> {
    let file = directory.join("platform.json");
    let flags = ["platform".to_owned(), file.display().to_string()];
    let nowhere = free_address()?;
    let mut service = Process::start("platform", &OTHER_CORE.to_string(), this, &flags, nowhere, directory)?;
    while !file.exists() {
        if let Some(status) = service.child.try_wait()? {
            bail!("the platform ended with {status}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let platform: Platform = serde_json::from_slice(&fs::read(&file)?)?;
    let bearer = format!("Bearer {}", platform.token);
    let request = Prepared::new("GET", crate::platform::PATH, &[("authorization", &bearer)], None);

    let address = free_address()?;
    let flags = ["bare", "--listen", &address.to_string(), "--platform", &file.display().to_string()]
        .map(str::to_owned);
    let bare = Process::start("transcoder alone", GATEWAY_CORE, this, &flags, address, directory)?;
    let address = free_address()?;
    let whole = Process::start(
        "whole edge",
        GATEWAY_CORE,
        edge,
        &platform_flags(address, &platform)?,
        address,
        directory,
    )?;
    let mut gateways = vec![bare, whole];
    for gateway in &mut gateways {
        gateway.answers(&request).await?;
        load::saturate(gateway.address, &request, CONNECTIONS, WARM_UP).await?;
    }
    let mut report = Report::new(
        gateways.iter().map(|gateway| gateway.name.clone()).collect(),
        &[PIPELINE],
        "transcoder alone",
    );
    let duration = Duration::from_secs_f64(arguments.seconds);
    for _ in 0..arguments.rounds {
        for (number, gateway) in gateways.iter().enumerate() {
            report.add(0, number, gateway.measure(&request, duration).await?);
        }
    }
    report.print();
    let measured = report.cost_ratio(0, "whole edge");
    let name = "CPU, whole pipeline, × bare transcoding".to_owned();
    Ok(measured.map(|measured| Figure { name, measured, must: 1.25, aim: 1.15 }))
}

fn platform_flags(address: SocketAddr, platform: &Platform) -> anyhow::Result<Vec<String>> {
    let limit = u32::MAX / 2;
    let settings = [
        format!("server.listen={address}"),
        format!("server.probe_listen={}", free_address()?),
        format!("server.admin_listen={}", free_address()?),
        format!("identity.address={}", platform.identity),
        format!("bookings.address={}", platform.bookings),
        format!("tls.certificate={}", platform.tls.certificate.display()),
        format!("tls.key={}", platform.tls.key.display()),
        format!("tls.roots={}", platform.tls.roots.display()),
        format!("limits.default_per_minute={limit}"),
        format!("limits.network_per_minute={limit}"),
    ];
    Ok(settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect())
}

fn start_all(
    arguments: &RunArguments,
    directory: &Path,
    this: &Path,
    upstream: SocketAddr,
) -> anyhow::Result<Vec<Process>> {
    let descriptor_set = directory.join("bench.binpb");
    fs::write(&descriptor_set, edge_bench::DESCRIPTOR_SET)?;
    let mut gateways = Vec::new();
    if let Some(envoy) = &arguments.envoy {
        let address = free_address()?;
        let config = directory.join("envoy.json");
        fs::write(&config, envoy_config(address, upstream, &descriptor_set).to_string())?;
        let flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--config-path"]
            .map(str::to_owned);
        let flags: Vec<String> = flags.into_iter().chain([config.display().to_string()]).collect();
        gateways.push(Process::start("Envoy", GATEWAY_CORE, envoy, &flags, address, directory)?);
    }
    if let Some(edge) = &arguments.edge {
        let address = free_address()?;
        gateways.push(Process::start(
            "edge",
            GATEWAY_CORE,
            edge,
            &edge_flags(address, upstream, &descriptor_set)?,
            address,
            directory,
        )?);
    }
    for (name, command) in
        [("library alone", "library"), ("hand-typed", "typed"), ("copying proxy", "copying")]
    {
        let address = free_address()?;
        let flags = [command, "--listen", &address.to_string(), "--upstream", &upstream.to_string()]
            .map(str::to_owned);
        gateways.push(Process::start(name, GATEWAY_CORE, this, &flags, address, directory)?);
    }
    Ok(gateways)
}

fn edge_flags(
    address: SocketAddr,
    upstream: SocketAddr,
    descriptor_set: &Path,
) -> anyhow::Result<Vec<String>> {
    let mut flags = vec![
        "--listen".to_owned(),
        address.to_string(),
        "--upstream".to_owned(),
        format!("http://{upstream}"),
        "--descriptor-set".to_owned(),
        descriptor_set.display().to_string(),
        "--access".to_owned(),
        "open".to_owned(),
    ];
    let limit = u32::MAX / 2;
    for setting in [
        format!("server.probe_listen={}", free_address()?),
        format!("server.admin_listen={}", free_address()?),
        format!("limits.default_per_minute={limit}"),
    ] {
        flags.push("--set".to_owned());
        flags.push(setting);
    }
    Ok(flags)
}

/// Envoy with its transcoder and nothing else, on one thread.
fn envoy_config(listen: SocketAddr, upstream: SocketAddr, descriptor_set: &PathBuf) -> Value {
    let socket = |address: SocketAddr| serde_json::json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    serde_json::json!({
        "static_resources": {
            "listeners": [{
                "address": socket(listen),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "http",
                        "generate_request_id": false,
                        "route_config": {"virtual_hosts": [{
                            "name": "all", "domains": ["*"],
                            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "60s"}}],
                        }]},
                        "http_filters": [
                            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
                                "proto_descriptor": descriptor_set,
                                "services": ["bench.v1.FlightService"],
                            }},
                            {"name": "envoy.filters.http.router", "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                            }},
                        ],
                    },
                }]}],
            }],
            "clusters": [{
                "name": "upstream", "type": "STATIC", "connect_timeout": "5s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
                "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": socket(upstream)}},
                ]}]},
            }],
        },
    })
}
