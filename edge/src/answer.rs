//! What every request and every answer has, whatever happens in between: request id, client address, security headers, a place in the limits, one line
//! of log.

use std::{net::IpAddr, sync::Arc};

use axum::{body::Body, extract::Request};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header::CONTENT_LENGTH};
use http_body::Body as _;
use mesh::{
    accept::{PeerAddr, Places, UntilSent},
    server::REQUEST_ID,
};
use proto::policy::Rate;
use transcoder::RequestId;
use uuid::fmt::Hyphenated;

use crate::{
    access_log::{self, Meters, Notes, Record},
    client_address::{self, Trusted},
    config::Config,
    cors::{self, Origins, Page},
    hygiene,
    limiter::Limiter,
    refusal,
    routes::{Content, Routes, own},
    security_headers, unreadable,
};

/// Longest request id that is taken over from a client, in bytes.
const REQUEST_ID_LENGTH_MAX: usize = 64;

/// Paths that are asked for all the time by those who run the platform, and cost nothing.
const FREE: [&str; 2] = ["/healthz", "/readyz"];

/// The way of every request.
///
/// One function rather than a stack of layers: each layer would copy those below it to the heap for every request.
pub(crate) struct Gateway {
    trusted: Trusted,
    limiter: Arc<Limiter>,
    in_flight: Arc<Places>,
    meters: Arc<Meters>,
    origins: Origins,
    routes: Routes,
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

impl Gateway {
    /// As configured, with the limiter that the gate counts with.
    pub(crate) fn new(config: &Config, limiter: Arc<Limiter>, routes: Routes) -> Self {
        let trusted = Trusted { hops: config.trusted_hops, networks: config.trusted_proxies.clone() };
        let origins = Origins::new(&config.browsers.origins);
        let in_flight = Places::new(config.limits.in_flight_per_client_max);
        Self { trusted, limiter, in_flight, meters: Arc::default(), origins, routes }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: Request) -> Response<Body> {
        let peer =
            request.extensions().get::<PeerAddr>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
        let address = client_address::of(peer, request.headers(), &self.trusted);
        let request_id = request_id(request.headers());
        let (is_free, is_head) = (is_free(&request), request.method() == Method::HEAD);
        let (record, mut request) = Record::begin(&self.meters, request, address, &request_id);
        let notes = Arc::clone(&record.notes);

        request.extensions_mut().insert(RequestId(request_id.to_str().unwrap_or_default().to_owned()));
        let client = Client { address, request_id: request_id.clone(), notes: Arc::clone(&notes) };
        request.extensions_mut().insert(client);
        let page = Page::of(&self.origins, &request);
        let place = if is_free { None } else { Some(self.in_flight.take(address)) };
        let mut response = if matches!(place, Some(None)) {
            own(refusal::too_many_at_once(request.headers()))
        } else {
            access_log::noted(Arc::clone(&notes), self.pass(&page, request)).await
        };

        if !is_free && notes.decision().is_none() {
            // The gate was not asked, so nothing was done for the client but to tell it so: that, too, only so often.
            let decision = self.limiter.count(Rate::Default, None, address).await;
            notes.decided(decision);
            if let Some(wait) = decision.wait() {
                response = own(refusal::too_many(wait, &response));
            }
        }
        let headers = response.headers_mut();
        page.tell(headers);
        if let Some(decision) = notes.decision() {
            self.limiter.policies().describe(&decision, headers);
        }
        security_headers::apply(headers);
        headers.insert(HeaderName::from_static(REQUEST_ID), request_id);
        if let Some(place) = place.flatten() {
            // An answer that the client does not read is a call in flight.
            response.extensions_mut().insert(UntilSent(Arc::new(place)));
        }
        record.answer(if is_head { headless(response) } else { response })
    }

    /// What comes before the routes: a request that cannot be read, or that says two things at once, gets no further; a browser's page gets as far as it
    /// may.
    async fn pass(&self, page: &Page, mut request: Request) -> Response<Content> {
        if let Some(refused) = unreadable::refused(&request) {
            return own(refused);
        }
        match hygiene::clean(&mut request) {
            Ok(()) => page.pass(request, &self.routes).await,
            Err(refused) => own(refused),
        }
    }
}

/// The answer to HEAD: that to GET without its body, whose length is told all the same.
fn headless(response: Response<Content>) -> Response<Content> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        head.headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    Response::from_parts(head, Content::Right(Body::empty()))
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
        let mut text = [0; Hyphenated::LENGTH];
        mesh::id::generate().hyphenated().encode_lower(&mut text);
        HeaderValue::from_bytes(&text).expect("a UUID is visible ASCII")
    })
}
