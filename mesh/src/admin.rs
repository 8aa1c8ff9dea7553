//! What operators reach on the admin port, and nobody else does: it is another port than that for calls, on the loopback address unless configured
//! otherwise.
//!
//! | path | what |
//! |---|---|
//! | `GET /metrics` | metrics, in Prometheus text format |
//! | `GET /debug/log` | the directives that say which events are logged |
//! | `PUT /debug/log` | replaces them until the process ends: the body is for example `info,edge=debug` |

use axum::{Router, extract::DefaultBodyLimit, routing::get};
use http::StatusCode;

use crate::telemetry;

/// Longest filter that is read, in bytes.
const FILTER_LENGTH_MAX: usize = 4 * 1024;

/// The routes.
pub(crate) fn routes() -> Router {
    Router::new()
        .route("/metrics", get(async || telemetry::metrics_text()))
        .route("/debug/log", get(async || telemetry::log_filter() + "\n").put(set_log_filter))
        .layer(DefaultBodyLimit::max(FILTER_LENGTH_MAX))
}

async fn set_log_filter(directives: String) -> (StatusCode, String) {
    match telemetry::set_log_filter(&directives) {
        Ok(()) => {
            tracing::warn!(filter = directives.trim(), "the log filter was changed");
            (StatusCode::OK, telemetry::log_filter() + "\n")
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}
