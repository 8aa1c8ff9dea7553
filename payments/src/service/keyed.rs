//! Calls whose whole effect is one transaction of ours: with a request id they happen once, and are answered the same for ever.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::{
    auth::Caller,
    idempotency::{self, Claim},
};
use prost::Message;
use tonic::{Response, Status};

use super::once::{self, replayed};
use crate::error::Error;

/// An answer, and whether it was given before.
pub(super) enum Answer<M> {
    New(M),
    Replayed(M),
}

impl<M> Answer<M> {
    pub(super) fn response(self) -> Result<Response<M>, Status> {
        match self {
            Self::New(message) => Ok(Response::new(message)),
            Self::Replayed(message) => replayed(Ok(Response::new(message))),
        }
    }
}

/// Which call it is; `None` for one without a request id. The message is fingerprinted without it.
pub(super) fn request<M: Message>(
    caller: &Caller,
    method: &'static str,
    key: &str,
    message: impl FnOnce() -> M,
) -> Option<idempotency::Request> {
    (!key.is_empty()).then(|| once::request(caller, method, key, message))
}

/// The answer that an earlier call with this request id got. Else the call is claimed, and is to be completed in the same transaction.
pub(super) async fn claim<M: Message + Default>(
    conn: &mut AsyncPgConnection,
    request: Option<&idempotency::Request>,
    now: Timestamp,
) -> Result<Option<M>, Error> {
    let Some(request) = request else { return Ok(None) };
    match idempotency::claim(conn, request, now).await? {
        Claim::New | Claim::Resume { .. } => Ok(None),
        Claim::Replay(stored) => {
            let corrupt = || Error::Corrupt("an answer".to_owned());
            let response = stored.response.as_ref().map_err(|_| corrupt())?;
            M::decode(response.as_slice()).map(Some).map_err(|_| corrupt())
        }
    }
}

/// Stores the answer of a claimed call. It must hold no secret.
pub(super) async fn complete(
    conn: &mut AsyncPgConnection,
    request: Option<&idempotency::Request>,
    response: &impl Message,
    now: Timestamp,
) -> Result<(), Error> {
    match request {
        Some(request) => Ok(idempotency::complete(conn, request, response, now).await?),
        None => Ok(()),
    }
}
