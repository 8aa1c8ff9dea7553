//! Who is calling, and whether they may: the layer that every call passes before its handler.
//!
//! The peer is known by its certificate, the user by the access token, which is verified here again whatever the edge did. Nothing else says who
//! is calling: no header, no field. The rules come from the policy table that the protos compile to; a method that is not in it does not exist.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header::AUTHORIZATION};
use proto::policy::{Access, Method};
use tonic::Status;

use crate::{
    call::Call,
    status::Refusal,
    tls::Workload,
    token::{Claims, TokenError, Verifier},
};

/// `ErrorInfo.domain` of refusals by the mesh itself.
pub const DOMAIN: &str = "mesh.jetway";

crate::typed_id!(
    /// A user, by the `sub` claim of the access token.
    PrincipalId,
    "users"
);

/// Who is calling. Put into every request's extensions by the layer.
#[derive(Clone, Debug)]
pub struct Caller {
    user: Option<User>,
    workload: Option<String>,
    session_is_over: bool,
}

/// A signed-in user.
#[derive(Clone, Debug)]
pub struct User {
    /// Who.
    pub id: PrincipalId,
    /// The session that the token belongs to.
    pub session: uuid::Uuid,
    /// The roles in the token.
    pub roles: Vec<String>,
}

impl Caller {
    /// The caller of a request that came through the layer.
    ///
    /// # Errors
    ///
    /// INTERNAL when it did not: a bug in how the server is put together.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request.extensions().get::<Self>().cloned().ok_or_else(|| {
            tracing::error!("a request reached its handler without passing the authorisation layer");
            Refusal::Internal.status(DOMAIN, "INTERNAL", "internal error")
        })
    }

    /// The signed-in user; `None` when a service calls for itself, or nobody is signed in.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// The signed-in user's id.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED when no user is signed in.
    pub fn principal(&self) -> Result<PrincipalId, Status> {
        self.user.as_ref().map(|user| user.id).ok_or_else(unauthenticated)
    }

    /// Whether the call came, to a public method, with the token of a session that is over. Its user is nobody then.
    pub fn session_is_over(&self) -> bool {
        self.session_is_over
    }

    /// Whether the user has the role.
    pub fn has_role(&self, role: &str) -> bool {
        self.user.as_ref().is_some_and(|user| user.roles.iter().any(|held| held == role))
    }

    /// The service that calls for itself, without a user's token.
    pub fn workload(&self) -> Option<&str> {
        if self.user.is_some() { None } else { self.workload.as_deref() }
    }

    /// Whose request ids these are: the user, else the service.
    pub fn idempotency_scope(&self) -> String {
        match (&self.user, &self.workload) {
            (Some(user), _) => user.id.name(),
            (None, Some(workload)) => format!("workloads/{workload}"),
            (None, None) => "anonymous".to_owned(),
        }
    }
}

/// Whether the table admits a caller with these roles and this workload. `None` for no token, or no certificate.
///
/// # Errors
///
/// UNAUTHENTICATED when a credential is missing, PERMISSION_DENIED when it is not enough.
pub fn check(access: &Access, claims: Option<&Claims>, workload: Option<&str>) -> Result<(), Status> {
    if access.public {
        return Ok(());
    }
    let admitted = match claims {
        Some(claims) => {
            access.signed_in || claims.roles.iter().any(|role| access.roles.contains(&role.as_str()))
        }
        None => workload.is_some_and(|workload| access.workloads.contains(&workload)),
    };
    match (admitted, claims) {
        (true, Some(claims)) if access.step_up => step_up(claims),
        (true, _) => Ok(()),
        (false, None) if access.is_for_users() => Err(unauthenticated()),
        (false, _) => {
            Err(Refusal::PermissionDenied.status(DOMAIN, "ACCESS_DENIED", "you may not call this method"))
        }
    }
}

/// How recent an authentication is when a method wants a recent one, in seconds.
const STEP_UP_SECONDS: i64 = 300;

fn step_up(claims: &Claims) -> Result<(), Status> {
    if crate::clock::Clock::system_now().as_second().saturating_sub(claims.auth_time) <= STEP_UP_SECONDS {
        Ok(())
    } else {
        Err(Refusal::FailedPrecondition { subject: "session".to_owned() }.status(
            DOMAIN,
            "STEP_UP_REQUIRED",
            "sign in again to do this",
        ))
    }
}

/// The one UNAUTHENTICATED answer to a missing credential.
pub fn unauthenticated() -> Status {
    Refusal::Unauthenticated.status(DOMAIN, "CREDENTIALS_REQUIRED", "an access token is required")
}

/// Finds and verifies the token of a request, and asks before the work of checking one that is not remembered. Two `authorization` headers, or another
/// scheme than Bearer, are refused.
///
/// # Errors
///
/// The error itself, for the caller to count; see [`refusal`].
pub fn verified_if(
    headers: &HeaderMap,
    verifier: &Verifier,
    may_check: impl FnOnce() -> bool,
) -> Result<Option<Arc<Claims>>, TokenError> {
    find_token(headers).map(|token| verifier.verify_if(token?, may_check)).transpose()
}

/// The token of a request, if there is an `authorization` header at all.
fn find_token(headers: &HeaderMap) -> Option<Result<&str, TokenError>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?;
    let token = value
        .to_str()
        .ok()
        .filter(|_| values.next().is_none())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    Some(token.ok_or(TokenError::Malformed))
}

/// The answer to a call with such a token.
pub fn refusal(error: TokenError) -> Status {
    let refusal = match error {
        TokenError::NoKeys | TokenError::NotChecked => {
            Refusal::Unavailable { retry_after: Duration::from_secs(1) }
        }
        TokenError::Expired
        | TokenError::Revoked
        | TokenError::Stale
        | TokenError::Malformed
        | TokenError::UnknownKey
        | TokenError::Invalid => Refusal::Unauthenticated,
    };
    let reason = match error {
        // Who says that a token may not be checked has an answer of its own to that.
        TokenError::NoKeys | TokenError::NotChecked => "TOKEN_KEYS_UNAVAILABLE",
        TokenError::Expired => "TOKEN_EXPIRED",
        TokenError::Revoked => "TOKEN_REVOKED",
        TokenError::Stale => "TOKEN_STALE",
        TokenError::Malformed | TokenError::UnknownKey | TokenError::Invalid => "TOKEN_INVALID",
    };
    refusal.status(DOMAIN, reason, error.to_string())
}

/// Refuses a user's call of a method that must not be open to a user who was banned a moment ago, while nobody knows whether this one was.
///
/// # Errors
///
/// UNAVAILABLE.
pub fn check_freshness(method: &Method, claims: Option<&Claims>, verifier: &Verifier) -> Result<(), Status> {
    if method.sensitive && claims.is_some() && verifier.revocations().is_stale() {
        Err(Refusal::Unavailable { retry_after: Duration::from_secs(1) }.status(
            DOMAIN,
            "REVOCATION_FEED_STALE",
            "it is not known at present whether the access token was revoked",
        ))
    } else {
        Ok(())
    }
}

/// The layer: peer, token, table; then the caller is in the request's extensions.
pub(crate) async fn layer(State(verifier): State<Verifier>, mut request: Request, next: Next) -> Response {
    match admit(&verifier, &mut request) {
        Ok(()) => next.run(request).await,
        Err(status) => {
            tracing::info!(
                path = request.uri().path(),
                reason = crate::status::reason(&status),
                "call refused"
            );
            status.into_http()
        }
    }
}

fn admit(verifier: &Verifier, request: &mut Request) -> Result<(), Status> {
    let path = request.uri().path();
    let method = Method::of(path)
        .ok_or_else(|| Refusal::Unimplemented.status(DOMAIN, "METHOD_UNKNOWN", "there is no such method"))?;
    let mut session_is_over = false;
    let claims = match verified_if(request.headers(), verifier, || true) {
        // A stale token must not keep anyone from signing in.
        Err(error) if method.access.public => {
            session_is_over = error == TokenError::Revoked;
            None
        }
        outcome => outcome.map_err(refusal)?,
    };
    let workload = request.extensions().get::<Workload>().map(|workload| workload.name().to_owned());
    check(&method.access, claims.as_deref(), workload.as_deref())?;
    check_freshness(method, claims.as_deref(), verifier)?;
    if claims.is_none()
        && let Some(call) = request.extensions_mut().get_mut::<Call>()
    {
        // What was not verified does not go on to other services in the user's name.
        call.token = None;
    }
    let user =
        claims.map(|claims| User { id: claims.sub.into(), session: claims.sid, roles: claims.roles.clone() });
    request.extensions_mut().insert(Caller { user, workload, session_is_over });
    Ok(())
}

#[cfg(test)]
mod tests;
