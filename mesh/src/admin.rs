//! What operators reach on the admin port, and nobody else does: it is another port than that for calls, on the loopback address unless configured
//! otherwise.
//!
//! | path | what |
//! |---|---|
//! | `GET /metrics` | metrics, in Prometheus text format |
//! | `GET /debug/channels` | the connections to other services, as JSON |
//! | `GET /debug/log` | the directives that say which events are logged |
//! | `PUT /debug/log` | replaces them until the process ends: the body is for example `info,edge=debug` |

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Router, extract::DefaultBodyLimit, routing::get};
use http::{StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::{client::Channel, telemetry};

/// Longest filter that is read, in bytes.
const FILTER_LENGTH_MAX: usize = 4 * 1024;

/// What of a service operators may look at. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Admin {
    channels: Arc<Mutex<Vec<Channel>>>,
}

impl Admin {
    /// Shows the connections of a channel from now on.
    pub fn show(&self, channel: &Channel) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).push(channel.clone());
    }

    /// The routes.
    pub(crate) fn routes(self) -> Router {
        Router::new()
            .route("/metrics", get(async || telemetry::metrics_text()))
            .route(
                "/debug/channels",
                get(async move || ([(CONTENT_TYPE, "application/json")], self.channels().to_string())),
            )
            .route("/debug/log", get(async || telemetry::log_filter() + "\n").put(set_log_filter))
            .layer(DefaultBodyLimit::max(FILTER_LENGTH_MAX))
    }

    fn channels(&self) -> Value {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        channels
            .iter()
            .map(|channel| {
                let connections = channel.connections().into_iter().map(|connection| {
                    json!({
                        "address": connection.address.to_string(),
                        "open": connection.open,
                        "in_flight": connection.in_flight,
                    })
                });
                json!({
                    "service": channel.name(),
                    "connections_made": channel.connections_made(),
                    "connections": connections.collect::<Value>(),
                })
            })
            .collect()
    }
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
