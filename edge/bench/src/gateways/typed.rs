//! What a team would write by hand: axum handlers, a generated client, generated types with JSON by `pbjson`.

use std::net::SocketAddr;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use edge_bench::pb::{
    CreateBookingRequest, GetFlightRequest, ListFlightsRequest, WatchFlightsRequest,
    flight_service_client::FlightServiceClient,
};
use futures::{StreamExt as _, stream};
use serde::Serialize;
use tonic::transport::{Channel, Endpoint};

type Client = FlightServiceClient<Channel>;

/// Serves until killed.
pub(crate) async fn serve(listen: SocketAddr, upstream: SocketAddr) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{upstream}"))?
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect_lazy();
    let app = Router::new()
        .route("/v1/flights/{flight_id}", get(get_flight))
        .route("/v1/flights", get(list_flights))
        .route("/v1/bookings", post(create_booking))
        .route("/v1/flights:watch", get(watch_flights))
        .with_state(FlightServiceClient::new(channel));
    let listener = tokio::net::TcpListener::bind(listen).await?;
    Ok(axum::serve(listener, app).await?)
}

fn json<T: Serialize>(answer: Result<tonic::Response<T>, tonic::Status>) -> Response {
    match answer {
        Ok(reply) => Json(reply.into_inner()).into_response(),
        Err(status) => (StatusCode::BAD_GATEWAY, status.message().to_owned()).into_response(),
    }
}

async fn get_flight(State(mut client): State<Client>, Path(flight_id): Path<String>) -> Response {
    json(client.get_flight(GetFlightRequest { flight_id }).await)
}

async fn list_flights(State(mut client): State<Client>) -> Response {
    json(client.list_flights(ListFlightsRequest { page_size: 50, ..ListFlightsRequest::default() }).await)
}

async fn create_booking(
    State(mut client): State<Client>,
    Json(request): Json<CreateBookingRequest>,
) -> Response {
    json(client.create_booking(request).await)
}

async fn watch_flights(State(mut client): State<Client>) -> Response {
    let flights = match client.watch_flights(WatchFlightsRequest::default()).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return (StatusCode::BAD_GATEWAY, status.message().to_owned()).into_response(),
    };
    // What is there at once goes out in one piece.
    let pieces = flights.enumerate().ready_chunks(64).map(|flights| {
        let mut piece = Vec::with_capacity(64 << 10);
        for (index, flight) in flights {
            piece.push(if index == 0 { b'[' } else { b',' });
            serde_json::to_writer(&mut piece, &flight.map_err(axum::Error::new)?)
                .map_err(axum::Error::new)?;
        }
        Ok::<_, axum::Error>(Bytes::from(piece))
    });
    let pieces = pieces.chain(stream::iter([Ok(Bytes::from_static(b"]"))]));
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response()
}
