//! Whether a request is let through to its service, and what goes with it.
//!
//! The rules are the policy table that the service enforces again. What a client sends in headers never reaches a service, but for the few that
//! [`PolicyGate::admit`] copies.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION, request::Parts};
use mesh::{
    auth,
    server::REQUEST_ID,
    status::Refusal,
    token::{Claims, TokenError, Verifier},
};
use proto::policy::{Method as Policy, Rate, RequestId};
use tonic::{Code, Status};
use transcoder::{Admission, Gate, Method, Outcome};

use crate::{
    access_log::Notes,
    answer::Client,
    limiter::{self, Decision, Limiter},
    refusal::TOO_MANY,
    served::Methods,
    session::{Credentials, Sessions},
};

/// `ErrorInfo.domain` of the gateway's own refusals.
pub(crate) const DOMAIN: &str = "edge.jetway";

/// The header that REST clients send a request id in.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Longest request id, in bytes: as the protos say of `request_id`.
pub(crate) const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Metadata of a service that the client may see.
const SHOWN: [&str; 1] = ["idempotent-replayed"];

/// Applies the policy table.
pub struct PolicyGate {
    verifier: Verifier,
    limiter: Arc<Limiter>,
    methods: Methods,
    sessions: Sessions,
}

impl PolicyGate {
    /// A gate that verifies tokens with `verifier`, counts calls with `limiter`, and leaves what browsers send by themselves to `sessions`.
    pub fn new(verifier: Verifier, limiter: Arc<Limiter>, sessions: Sessions) -> Self {
        Self { verifier, limiter, methods: Methods::default(), sessions }
    }

    /// Counts a call that this gate does not decide about: of a service without policies, by its network.
    pub(crate) async fn count_openly<'r>(
        &self,
        method: &Method,
        request: &'r Parts,
    ) -> Result<&'r Client, Status> {
        let client = client(request)?;
        client.notes.routed(self.methods.of(method));
        decided(client, self.limiter.count(Rate::Default, None, client.address).await)?;
        Ok(client)
    }

    async fn admit_head(&self, method: &Method, request: &Parts) -> Result<Admission, Status> {
        let client = client(request)?;
        let served = self.methods.of(method);
        client.notes.routed(Arc::clone(&served));
        // Every routed service is one of the contract, so every method has its policy.
        let policy = served.policy.ok_or_else(|| {
            Refusal::Unimplemented.status(DOMAIN, "METHOD_UNKNOWN", "there is no such method")
        })?;
        let credentials = Credentials::of(&request.headers)?;
        let verified = self.verified(client, policy, &credentials, &request.headers)?;
        // Counted before a bad token is refused: checking one is work, too.
        let user = verified.as_ref().ok().and_then(|claims| Some(claims.as_ref()?.sub));
        if let Some(user) = user {
            client.notes.signed_in(user);
        }
        decided(client, self.limiter.count(policy.rate, user, client.address).await)?;
        let mut session_is_over = false;
        let claims = match verified {
            // A stale token must not keep anyone from signing in.
            Err(error) if policy.access.public => {
                session_is_over = error == TokenError::Revoked;
                None
            }
            outcome => outcome.map_err(auth::refusal)?,
        };
        auth::check(&policy.access, claims.as_deref(), None)?;
        auth::check_freshness(policy, claims.as_deref(), &self.verifier)?;
        self.sessions.check(&credentials, request, claims.as_deref())?;

        // Who signs out of a session that is over has what they want, and only its token tells.
        let goes_along = claims.is_some() || session_is_over;
        let token = credentials.headers(&request.headers).get(AUTHORIZATION).filter(|_| goes_along);
        let mut metadata = told(client, token);
        self.sessions.tell(method.service(), &credentials, request, &mut metadata)?;
        Ok(Admission {
            metadata,
            timeout: Some(policy.timeout),
            max_body_bytes: policy.max_request_bytes,
            fields: request_id(policy, &request.headers)?,
            inspect_message: policy.rate == Rate::Credentials,
        })
    }

    /// Verifies the token of a request. A token that is not known yet is checked only for those who have not sent too many bad ones: the work of checking it
    /// must not be had for nothing.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED when it was not checked.
    fn verified(
        &self,
        client: &Client,
        policy: &Policy,
        credentials: &Credentials,
        headers: &HeaderMap,
    ) -> Result<Verified, Status> {
        // A call that brings a password or a refresh token needs no session, and must not fail for one that came along.
        let brings_its_own = policy.access.public && policy.rate == Rate::Credentials;
        if brings_its_own && credentials.by_cookie() {
            return Ok(Ok(None));
        }
        let mut decision = None;
        let may_check = || decision.insert(self.limiter.may_check_token(client.address)).allowed;
        let verified = auth::verified_if(credentials.headers(headers), &self.verifier, may_check);
        match (&verified, decision) {
            (Err(TokenError::NotChecked), Some(_)) if brings_its_own => return Ok(Ok(None)),
            (Err(TokenError::NotChecked), Some(refused)) => decided(client, refused)?,
            // One that was checked before is only out of date: it cost nothing, and those who share an address with its owner must not pay for it.
            (Err(TokenError::Expired | TokenError::Revoked | TokenError::Stale), None)
            | (Err(TokenError::NoKeys | TokenError::NotChecked) | Ok(_), _) => {}
            (Err(TokenError::Malformed | TokenError::UnknownKey | TokenError::Invalid), _)
            | (Err(TokenError::Expired | TokenError::Revoked | TokenError::Stale), Some(_)) => {
                self.limiter.count_failed_token(client.address);
            }
        }
        Ok(verified)
    }
}

/// What is known of who sent a request: who it is, or what is wrong with the token that says so.
type Verified = Result<Option<Arc<Claims>>, TokenError>;

fn client(request: &Parts) -> Result<&Client, Status> {
    request
        .extensions
        .get::<Client>()
        .ok_or_else(|| Refusal::Internal.status(DOMAIN, "INTERNAL", "internal error"))
}

/// What every upstream is told: which request this is, and with which credentials it came.
pub(crate) fn told(client: &Client, credentials: Option<&HeaderValue>) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    if let Some(credentials) = credentials {
        metadata.insert(AUTHORIZATION, credentials.clone());
    }
    metadata.insert(HeaderName::from_static(REQUEST_ID), client.request_id.clone());
    metadata
}

/// Notes what the limiter said, and refuses if it did.
fn decided(client: &Client, decision: Decision) -> Result<(), Status> {
    client.notes.decided(decision);
    decision.wait().map_or(Ok(()), |retry_after| {
        let refusal = Refusal::ResourceExhausted { retry_after };
        Err(refusal.status(DOMAIN, "RATE_LIMITED", TOO_MANY))
    })
}

/// The `Idempotency-Key` header as the field `request_id`, on methods that take one.
fn request_id(policy: &Policy, headers: &HeaderMap) -> Result<Vec<(String, String)>, Status> {
    let invalid = |why: &str| {
        Refusal::InvalidArgument { field: "request_id".to_owned() }.status(
            DOMAIN,
            "IDEMPOTENCY_KEY_INVALID",
            why,
        )
    };
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next().filter(|_| policy.request_id != RequestId::None) else {
        return Ok(Vec::new());
    };
    if values.next().is_some() {
        return Err(invalid("`Idempotency-Key` must be sent once"));
    }
    let key = value.to_str().ok().filter(|key| (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len()));
    let key = key.ok_or_else(|| invalid("`Idempotency-Key` must have 1 to 255 visible ASCII characters"))?;
    Ok(vec![("request_id".to_owned(), key.to_owned())])
}

impl Gate for PolicyGate {
    fn admit<'a>(
        &'a self,
        method: &'a Method,
        request: &'a Parts,
    ) -> BoxFuture<'a, Result<Admission, Status>> {
        Box::pin(self.admit_head(method, request))
    }

    /// Guesses at one account are counted, too; which one it is, only the message tells.
    fn admit_message<'a>(
        &'a self,
        method: &'a Method,
        request: &'a Parts,
        message: &'a [u8],
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            match limiter::email_of(&method.input(), message) {
                Some(email) => {
                    let client = client(request)?;
                    decided(client, self.limiter.count_account(method.path(), email, client.address).await)
                }
                None => Ok(()),
            }
        })
    }

    fn response_headers(&self, method: &Method, upstream: &HeaderMap, out: &mut HeaderMap) {
        for name in SHOWN {
            if let Some(value) = upstream.get(name) {
                out.insert(HeaderName::from_static(name), value.clone());
            }
        }
        self.sessions.cookies(method.service(), upstream, &self.verifier, out);
    }

    fn observe(&self, outcome: Outcome<'_>) {
        let path = outcome.method.map_or("_OTHER", Method::path);
        if let Some(cause) = outcome.cause {
            tracing::warn!(method = path, code = ?outcome.code, cause, "a call failed behind the edge");
        }
        if outcome.code == Code::Internal {
            tracing::error!(method = path, "a service answered INTERNAL");
        }
        let notes = Notes::of_current();
        if let Some(notes) = &notes {
            notes.ended(outcome.code);
        }
        match (notes.as_ref().and_then(|notes| notes.served()), outcome.method) {
            (Some(served), _) => served.count(outcome.code),
            (None, None) => self.methods.other().count(outcome.code),
            (None, Some(method)) => {
                let served = self.methods.of(method);
                served.count(outcome.code);
                if let Some(notes) = &notes {
                    notes.routed(served);
                }
            }
        }
    }
}
