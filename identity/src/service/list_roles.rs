//! Every role.

use proto::identity::v1 as pb;
use tonic::{Response, Status};

use super::Handlers;
use crate::{error::Error, store};

pub(super) async fn handle(identity: &Handlers) -> Result<Response<pb::ListRolesResponse>, Status> {
    let mut conn = identity.db.connection().await.map_err(Error::from)?;

    let roles = store::roles::all(&mut conn).await?;

    let roles = roles.into_iter().map(|(role, description)| pb::Role { role, description }).collect();
    Ok(Response::new(pb::ListRolesResponse { roles }))
}
