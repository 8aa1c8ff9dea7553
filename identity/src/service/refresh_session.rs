//! Spends a refresh token for the next one.

use mesh::clock::Clock;
use proto::identity::v1 as pb;
use tonic::{Request, Response, Status};

use super::{Handlers, cookies};
use crate::{
    domain::{self, Presented, RefreshToken},
    error::Error,
    store::{
        self,
        audit::{ANONYMOUS, Event, Outcome},
    },
};

pub(super) async fn handle(
    identity: &Handlers,
    request: Request<pb::RefreshSessionRequest>,
) -> Result<Response<pb::Tokens>, Status> {
    let (token, delivery) = cookies::refresh_token(&request.get_ref().refresh_token, request.metadata())?;
    let token = RefreshToken::parse(&token).ok_or(Error::RefreshInvalid)?;
    let now = Clock::system_now();
    let idle = identity.tokens.lifetimes().idle;

    // A refusal commits too: it may have ended the session.
    let refreshed = identity
        .db
        .transaction("refresh_session", async |conn| {
            let Some(session) = store::sessions::find(conn, token.session()).await? else {
                return Ok(None);
            };
            // Who does not hold a token must not be able to end a session by its id.
            if !token.is_genuine(&identity.session_key(&session)?) {
                return Ok(None);
            }
            let event = |action, outcome| Event {
                action,
                actor: ANONYMOUS.to_owned(),
                target: session.id.name(),
                outcome,
                at: now,
            };
            let advanced = store::sessions::advance(conn, session.id, token.counter(), idle, now).await?;
            let session = match advanced {
                Some(session) => session,
                None => match store::sessions::lock(conn, session.id).await? {
                    Some(locked) => match locked.presented(token.counter(), now) {
                        Presented::JustSpent => {
                            store::audit::append(conn, event("refresh.grace", Outcome::Unchanged)).await?;
                            locked
                        }
                        Presented::Replayed => {
                            store::sessions::revoke(conn, locked.id, now).await?;
                            store::audit::append(conn, event("refresh.reuse", Outcome::Refused)).await?;
                            return Ok(None);
                        }
                        Presented::Current | Presented::Void => return Ok(None),
                    },
                    None => return Ok(None),
                },
            };
            match store::users::get(conn, session.user).await {
                Ok(user) if user.status == domain::Status::Active => Ok(Some((user, session))),
                Ok(_) | Err(Error::UserNotFound(_)) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await?;

    let Some((user, session)) = refreshed else {
        return Err(Error::RefreshInvalid.into());
    };
    let key = identity.session_key(&session)?;
    let tokens = identity.tokens(&user, &session, &key, now)?;
    Ok(delivery.answer(tokens, &session, now, std::convert::identity))
}
