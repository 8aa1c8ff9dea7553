//! What every request and every answer has, whatever happens in between: request id, client address, security headers, a place in the limits, one line
//! of log.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh::{
    accept::{PeerAddr, Places, UntilSent},
    server::REQUEST_ID,
};
use proto::policy::Rate;
use transcoder::RequestId;

use crate::{
    access_log::{self, Meters, Notes, Record},
    client_address::{self, Trusted},
    config::Config,
    cors::{self, Origins, Page},
    hygiene,
    limiter::Limiter,
    refusal, security_headers, unreadable,
};

/// Longest request id that is taken over from a client, in bytes.
const REQUEST_ID_LENGTH_MAX: usize = 64;

/// Paths that are asked for all the time by those who run the platform, and cost nothing.
const FREE: [&str; 2] = ["/healthz", "/readyz"];

/// What the layer works with.
#[derive(Clone)]
pub struct Settings(Arc<Inner>);

struct Inner {
    trusted: Trusted,
    limiter: Arc<Limiter>,
    in_flight: Arc<Places>,
    meters: Arc<Meters>,
    origins: Origins,
}

impl Settings {
    /// The settings in a configuration, and the limiter that the gate counts with.
    pub fn of(config: &Config, limiter: Arc<Limiter>) -> Self {
        let trusted = Trusted { hops: config.trusted_hops, networks: config.trusted_proxies.clone() };
        let origins = Origins::new(&config.browsers.origins);
        let in_flight = Places::new(config.limits.in_flight_per_client_max);
        Self(Arc::new(Inner { trusted, limiter, in_flight, meters: Arc::default(), origins }))
    }
}

/// Who is asking. In the extensions of every request.
#[derive(Clone)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// The request's id: visible ASCII.
    pub request_id: HeaderValue,
    pub(crate) notes: Arc<Notes>,
}

/// The layer.
pub async fn layer(State(Settings(settings)): State<Settings>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerAddr>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    let address = client_address::of(peer, request.headers(), &settings.trusted);
    let request_id = request_id(request.headers());
    let is_free = is_free(&request);
    let (record, mut request) = Record::begin(&settings.meters, request, address, &request_id);
    let notes = Arc::clone(&record.notes);

    request.extensions_mut().insert(RequestId(request_id.to_str().unwrap_or_default().to_owned()));
    let client = Client { address, request_id: request_id.clone(), notes: Arc::clone(&notes) };
    request.extensions_mut().insert(client);
    let page = Page::of(&settings.origins, &request);
    let place = if is_free { None } else { Some(settings.in_flight.take(address)) };
    let mut response = if matches!(place, Some(None)) {
        refusal::too_many_at_once(request.headers())
    } else {
        access_log::noted(Arc::clone(&notes), pass(&page, request, next)).await
    };

    if !is_free && notes.decision().is_none() {
        // The gate was not asked, so nothing was done for the client but to tell it so: that, too, only so often.
        let decision = settings.limiter.count(Rate::Default, None, address).await;
        notes.decided(decision);
        if let Some(wait) = decision.wait() {
            response = refusal::too_many(wait, &response);
        }
    }
    let headers = response.headers_mut();
    page.tell(headers);
    if let Some(decision) = notes.decision() {
        settings.limiter.policies().describe(&decision, headers);
    }
    security_headers::apply(headers);
    headers.insert(HeaderName::from_static(REQUEST_ID), request_id);
    if let Some(place) = place.flatten() {
        // An answer that the client does not read is a call in flight.
        response.extensions_mut().insert(UntilSent(Arc::new(place)));
    }
    record.answer(response)
}

/// What comes before the routes: a request that cannot be read, or that says two things at once, gets no further; a browser's page gets as far as it may.
async fn pass(page: &Page, mut request: Request, next: Next) -> Response {
    if let Some(refused) = unreadable::refused(&request) {
        return refused;
    }
    match hygiene::clean(&mut request) {
        Ok(()) => page.pass(request, next).await,
        Err(refused) => refused,
    }
}

/// Whether a request counts against no limit: health, and the question of a browser whether it may ask.
fn is_free(request: &Request) -> bool {
    (FREE.contains(&request.uri().path()) && matches!(*request.method(), Method::GET | Method::HEAD))
        || cors::is_preflight(request)
}

/// The client's own id when it is short and plain, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        (1..=REQUEST_ID_LENGTH_MAX).contains(&value.len())
            && value.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(|| {
        HeaderValue::try_from(mesh::id::generate().to_string()).expect("a UUID is visible ASCII")
    })
}
