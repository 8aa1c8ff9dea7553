//! One user, for admins.

use mesh::auth::PrincipalId;
use proto::identity::v1 as pb;
use tonic::{Request, Response, Status};

use super::{Handlers, to_proto};
use crate::{error::Error, store};

pub(super) async fn handle(
    identity: &Handlers,
    request: Request<pb::GetUserRequest>,
) -> Result<Response<pb::User>, Status> {
    let id: PrincipalId = request
        .into_inner()
        .user_id
        .parse()
        .map_err(|source| Error::InvalidId { field: "user_id", source })?;
    let mut conn = identity.db.connection().await.map_err(Error::from)?;

    let user = store::users::get(&mut conn, id).await?;

    Ok(Response::new(to_proto(user)))
}
