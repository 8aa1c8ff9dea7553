//! Logs and metrics: one JSON line for each event, one registry for the process.

mod lines;

use std::{
    fs::File,
    io::Write,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt::writer::BoxMakeWriter};

use self::lines::Lines;
use crate::config::TelemetryConfig;

/// Seconds: the buckets of the OpenTelemetry conventions, and two below them.
const BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

static LINES: OnceLock<Lines> = OnceLock::new();

static FILTER: OnceLock<Filter> = OnceLock::new();

/// Which events are logged.
struct Filter {
    directives: Mutex<String>,
    replace: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
}

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
    let (lines, events): (Box<dyn Write + Send>, _) = match output {
        Output::StandardError => (Box::new(std::io::stderr()), BoxMakeWriter::new(std::io::stderr)),
        Output::File(file) => {
            // A file at whose end is written takes both without one cutting into the other.
            let file = Arc::new(file);
            (Box::new(Arc::clone(&file)), BoxMakeWriter::new(file))
        }
    };
    let directives = config.log.clone();
    let filter = EnvFilter::try_new(&directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(events)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    if subscriber.try_init().is_err() {
        return;
    }
    FILTER.get_or_init(|| Filter {
        directives: Mutex::new(directives),
        replace: Box::new(move |filter| handle.reload(filter).is_ok()),
    });
    if LINES.set(Lines::new(lines)).is_ok() {
        let named = std::thread::Builder::new().name("log".to_owned());
        let spawned = named.spawn(|| {
            if let (Some(lines), Some(metrics)) = (LINES.get(), METRICS.get()) {
                // What histograms are told is kept one by one until somebody adds it up.
                lines.write_all(|| metrics.run_upkeep());
            }
        });
        spawned.expect("a process can start a thread");
    }
}

/// Writes one line as it is, with its end: for what comes with every request. Before [`init`] it goes nowhere.
pub fn log_line(line: &[u8]) {
    if let Some(lines) = LINES.get() {
        lines.push(line);
    }
}

/// Writes what [`log_line`] has been given and the log has not: before the process ends.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush();
    }
}

/// The directives that say which events are logged; empty before [`init`].
pub fn log_filter() -> String {
    let directives = FILTER.get().map(|filter| &filter.directives);
    directives
        .map(|directives| directives.lock().unwrap_or_else(PoisonError::into_inner).clone())
        .unwrap_or_default()
}

/// Why a filter is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a log filter: directives like `info,edge=debug` are expected")]
pub struct FilterError;

/// Replaces the directives that say which events are logged, until the process ends.
///
/// # Errors
///
/// They are no directives, or nothing is logged at all.
pub fn set_log_filter(directives: &str) -> Result<(), FilterError> {
    let directives = directives.trim();
    let filter = EnvFilter::try_new(directives).map_err(|_| FilterError)?;
    let current = FILTER.get().filter(|_| !directives.is_empty()).ok_or(FilterError)?;
    let mut text = current.directives.lock().unwrap_or_else(PoisonError::into_inner);
    if (current.replace)(filter) {
        directives.clone_into(&mut text);
        Ok(())
    } else {
        Err(FilterError)
    }
}

/// The metrics of the process in Prometheus text format; empty before [`init`].
pub fn metrics_text() -> String {
    METRICS.get().map(PrometheusHandle::render).unwrap_or_default()
}
