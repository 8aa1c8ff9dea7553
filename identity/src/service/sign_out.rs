//! Ends a session.

use mesh::{
    auth::{Caller, unauthenticated},
    clock::Clock,
};
use proto::identity::v1 as pb;
use tonic::{Request, Response, Status};

use super::{Handlers, cookies};
use crate::{
    domain::{RefreshToken, SessionId},
    error::Error,
    store::{
        self,
        audit::{ANONYMOUS, Event, Outcome},
    },
};

pub(super) async fn handle(
    identity: &Handlers,
    request: Request<pb::SignOutRequest>,
) -> Result<Response<pb::SignOutResponse>, Status> {
    let caller = Caller::of(&request)?;
    let (refresh_token, _) = cookies::refresh_token(&request.get_ref().refresh_token, request.metadata())?;
    let in_a_browser = cookies::allowed(request.metadata());
    let actor = caller.user().map_or_else(|| ANONYMOUS.to_owned(), |user| user.id.name());
    let session = match (refresh_token.as_str(), caller.user()) {
        ("", Some(user)) => Some(SessionId::from(user.session)),
        // Asked twice.
        ("", None) if caller.session_is_over() => None,
        ("", None) => return Err(unauthenticated()),
        // A token that is not good has no session to end, which is what was asked for (RFC 7009, 2.2).
        (token, _) => session_of(identity, token).await?,
    };
    let now = Clock::system_now();

    if let Some(session) = session {
        identity
            .db
            .transaction("sign_out", async |conn| {
                if store::sessions::revoke(conn, session, now).await? {
                    let event = Event {
                        action: "session.end",
                        actor: actor.clone(),
                        target: session.name(),
                        outcome: Outcome::Done,
                        at: now,
                    };
                    store::audit::append(conn, event).await?;
                }
                Ok::<_, Error>(())
            })
            .await?;
    }

    let mut response = Response::new(pb::SignOutResponse {});
    if in_a_browser {
        cookies::expire(response.metadata_mut());
    }
    Ok(response)
}

/// The session of a refresh token, current or spent, if it is genuine.
async fn session_of(identity: &Handlers, token: &str) -> Result<Option<SessionId>, Error> {
    let Some(token) = RefreshToken::parse(token) else { return Ok(None) };
    let mut conn = identity.db.connection().await?;
    let Some(session) = store::sessions::find(&mut conn, token.session()).await? else { return Ok(None) };
    Ok(token.is_genuine(&identity.session_key(&session)?).then_some(session.id))
}
