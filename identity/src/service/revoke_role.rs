//! Takes a role from a user.

use mesh::auth::Caller;
use proto::identity::v1 as pb;
use tonic::{Request, Response, Status};

use super::{
    Handlers,
    assign_role::{RoleOfUser, may_administer},
    to_proto,
};
use crate::{
    domain::roles::{ADMIN, CUSTOMER},
    error::Error,
    store::{
        self,
        audit::{Event, Outcome},
    },
};

pub(super) async fn handle(
    identity: &Handlers,
    request: Request<pb::RevokeRoleRequest>,
) -> Result<Response<pb::User>, Status> {
    let actor = Caller::of(&request)?.principal()?;
    let RoleOfUser { user, role } = request.into_inner().try_into()?;
    let now = identity.clock.now();

    let user = identity
        .db
        .transaction("revoke_role", async |conn| {
            store::roles::lock(conn, &role).await?;
            may_administer(conn, actor).await?;
            let before = store::users::lock(conn, user).await?;
            let holds = before.roles.contains(&role);
            if role == CUSTOMER {
                return Err(Error::BaseRole(user));
            }
            if holds && role == ADMIN && !store::roles::has_other_admin(conn, user).await? {
                return Err(Error::LastAdmin(user));
            }
            let revoked = store::roles::revoke(conn, user, &role).await?;
            if revoked {
                store::users::bump_sv(conn, user, now).await?;
            }
            let event = Event {
                action: "role.revoke",
                actor: actor.name(),
                target: format!("{}/roles/{role}", user.name()),
                outcome: if revoked { Outcome::Done } else { Outcome::Unchanged },
                at: now,
            };
            store::audit::append(conn, event).await?;
            store::users::get(conn, user).await
        })
        .await?;

    Ok(Response::new(to_proto(user)))
}

impl TryFrom<pb::RevokeRoleRequest> for RoleOfUser {
    type Error = Error;

    fn try_from(request: pb::RevokeRoleRequest) -> Result<Self, Error> {
        let user = request.user_id.parse().map_err(|source| Error::InvalidId { field: "user_id", source })?;
        Ok(Self { user, role: request.role })
    }
}
