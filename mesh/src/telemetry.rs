//! Logs and metrics: one JSON line for each event, one registry for the process.

use std::{
    fs::File,
    sync::{Mutex, OnceLock},
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt::writer::BoxMakeWriter};

use crate::config::TelemetryConfig;

/// Seconds: the buckets of the OpenTelemetry conventions, and two below them.
const BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Where logs go.
#[derive(Debug)]
pub enum Output {
    /// Standard error, which a container's log is made of.
    StandardError,
    /// A file, which is written to at its end.
    File(File),
}

/// Starts logging, as JSON, and collecting metrics. The first call in a process counts, later ones do nothing.
///
/// Password, token and card fields never get this far: the types that hold them print `[redacted]`.
pub fn init(config: &TelemetryConfig, output: Output) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(match output {
            Output::StandardError => BoxMakeWriter::new(std::io::stderr),
            Output::File(file) => BoxMakeWriter::new(Mutex::new(file)),
        })
        .try_init();
    METRICS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        // Another recorder is there already only in tests; then this one stays empty.
        let _ = metrics::set_global_recorder(recorder);
        handle
    });
}

/// The metrics of the process in Prometheus text format; empty before [`init`].
pub fn metrics_text() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}
