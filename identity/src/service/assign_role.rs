//! Gives a role to a user.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::auth::{Caller, PrincipalId};
use proto::identity::v1 as pb;
use tonic::{Request, Response, Status};

use super::{Handlers, to_proto};
use crate::{
    domain::User,
    error::Error,
    store::{
        self,
        audit::{Event, Outcome},
    },
};

/// Which role, to or from whom.
pub(super) struct RoleOfUser {
    pub(super) user: PrincipalId,
    pub(super) role: String,
}

pub(super) async fn handle(
    identity: &Handlers,
    request: Request<pb::AssignRoleRequest>,
) -> Result<Response<pb::User>, Status> {
    let actor = Caller::of(&request)?.principal()?;
    let RoleOfUser { user, role } = request.into_inner().try_into()?;
    let now = identity.clock.now();

    let user = identity
        .db
        .transaction("assign_role", async |conn| {
            // The lock first: whoever waits for it sees what the one before did to the caller's own role.
            store::roles::lock(conn, &role).await?;
            may_administer(conn, actor).await?;
            assign(conn, user, &role, &actor.name(), now).await
        })
        .await?;

    Ok(Response::new(to_proto(user)))
}

/// Refuses an admin who was deposed after the access token was issued: otherwise they could make themselves one again.
pub(super) async fn may_administer(conn: &mut AsyncPgConnection, actor: PrincipalId) -> Result<(), Error> {
    if store::roles::is_admin(conn, actor).await? { Ok(()) } else { Err(Error::NotAdmin) }
}

/// Gives the role, and writes it down.
///
/// # Errors
///
/// [`Error::RoleNotFound`], [`Error::UserNotFound`].
pub(crate) async fn assign(
    conn: &mut AsyncPgConnection,
    user: PrincipalId,
    role: &str,
    actor: &str,
    now: Timestamp,
) -> Result<User, Error> {
    store::roles::lock(conn, role).await?;
    store::users::lock(conn, user).await?;
    let granted = store::roles::grant(conn, user, role, now).await?;
    if granted {
        store::users::bump_sv(conn, user, now).await?;
    }
    let event = Event {
        action: "role.assign",
        actor: actor.to_owned(),
        target: format!("{}/roles/{role}", user.name()),
        outcome: if granted { Outcome::Done } else { Outcome::Unchanged },
        at: now,
    };
    store::audit::append(conn, event).await?;
    store::users::get(conn, user).await
}

impl TryFrom<pb::AssignRoleRequest> for RoleOfUser {
    type Error = Error;

    fn try_from(request: pb::AssignRoleRequest) -> Result<Self, Error> {
        let user = request.user_id.parse().map_err(|source| Error::InvalidId { field: "user_id", source })?;
        Ok(Self { user, role: request.role })
    }
}
