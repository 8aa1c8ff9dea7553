//! The OpenAPI document of the public API, and the page that shows it.
//!
//! What the descriptors do not say comes from the policy table: who may call, and which methods take `Idempotency-Key`.

use axum::{Router, body::Bytes, routing::get};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use proto::policy::{Access, Idempotency, Method as Policy, RequestId};
use proto::session::ACCESS_COOKIE;
use serde_json::json;
use transcoder::{Method, Notes, OpenApi, RequestHeader, docs};

use crate::{gate, session::CSRF_HEADER};

/// The names of the security schemes.
const BEARER: &str = "bearer";
const SESSION: &str = "session";
const CSRF: &str = "csrf";

/// What the document says besides what follows from the descriptors; little where every upstream is open, for then nothing here is Jetway's.
pub(crate) fn settings(all_open: bool) -> OpenApi {
    if all_open {
        return OpenApi::new("API", "v1")
            .description("What the services behind this gateway offer, by their own descriptors.")
            .contact("The operator of this gateway", "https://example.com");
    }
    OpenApi::new("Jetway", "v1")
        .description(
            "Flights, bookings and payments. Every error is a `google.rpc.Status`; branch on its `code` and on the `reason` of the detail \
             `google.rpc.ErrorInfo`. Lists are paged: ask again with `pageToken` until `nextPageToken` is empty.",
        )
        .contact("Jetway", "https://jetway.example")
        .security_scheme(
            BEARER,
            json!({
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "The access token that SignIn and RefreshSession give.",
            }),
        )
        .security_scheme(
            SESSION,
            json!({
                "type": "apiKey",
                "in": "cookie",
                "name": ACCESS_COOKIE,
                "description": "The same token in a cookie that no script can read, for browsers. Not together with a bearer token.",
            }),
        )
        .security_scheme(
            CSRF,
            json!({
                "type": "apiKey",
                "in": "header",
                "name": CSRF_HEADER,
                "description": "With the cookie, and on calls that change something: the token against cross-site requests.",
            }),
        )
        .describe(notes)
}

/// The routes of the document and of the page. `document` gives the document as it is now.
pub(crate) fn routes(document: impl Fn() -> Bytes + Clone + Send + Sync + 'static) -> Router {
    let json = get(async move || ([(CONTENT_TYPE, "application/json")], document()));
    docs::FILES.into_iter().fold(
        Router::new().route("/openapi.json", json),
        |router, (path, media_type, bytes)| {
            let headers =
                [(CONTENT_TYPE, media_type), (CONTENT_SECURITY_POLICY, docs::CONTENT_SECURITY_POLICY)];
            router.route(path, get(async move || (headers, bytes)))
        },
    )
}

/// The paths that they answer to.
pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
    std::iter::once("/openapi.json").chain(docs::FILES.into_iter().map(|(path, ..)| path))
}

fn notes(method: &Method) -> Notes {
    // A service without a policy checks its callers itself, if anybody does.
    let Some(policy) = Policy::of(method.path()) else { return Notes::default() };
    let reads = policy.idempotency == Idempotency::NoSideEffects;
    Notes {
        hidden: !for_users(&policy.access),
        security: security(&policy.access, reads),
        remarks: remarks(&policy.access),
        headers: idempotency_key(policy.request_id).into_iter().collect(),
    }
}

/// Whether a client of the gateway can be let in at all: what only other services may call is not for it.
fn for_users(access: &Access) -> bool {
    access.public || access.signed_in || !access.roles.is_empty()
}

fn security(access: &Access, reads: bool) -> Vec<Vec<(String, Vec<String>)>> {
    if access.public {
        return Vec::new();
    }
    let scheme = |name: &str| (name.to_owned(), Vec::new());
    let mut cookie = vec![scheme(SESSION)];
    if !reads {
        cookie.push(scheme(CSRF));
    }
    vec![vec![scheme(BEARER)], cookie]
}

fn remarks(access: &Access) -> Vec<String> {
    let mut remarks = Vec::new();
    if !access.public && !access.signed_in && !access.roles.is_empty() {
        let roles: Vec<String> = access.roles.iter().map(|role| format!("`{role}`")).collect();
        remarks.push(format!("Needs the role {}.", roles.join(" or ")));
    }
    if access.step_up {
        remarks.push("Needs a recent sign-in.".to_owned());
    }
    remarks
}

fn idempotency_key(request_id: RequestId) -> Option<RequestHeader> {
    let required = match request_id {
        RequestId::None => return None,
        RequestId::Optional => false,
        RequestId::Required => true,
    };
    Some(RequestHeader {
        name: "Idempotency-Key".to_owned(),
        description: "Makes retries safe: the same key with the same request gives the first answer again."
            .to_owned(),
        required,
        schema: json!({
            "type": "string",
            "minLength": 1,
            "maxLength": gate::IDEMPOTENCY_KEY_MAX,
            "pattern": "^[!-~]+$",
            "examples": ["3f0c5e1a-hold-1"],
        }),
        field: Some("request_id".to_owned()),
    })
}
