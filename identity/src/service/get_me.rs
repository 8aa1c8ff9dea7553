//! The caller's own account.

use mesh::auth::Caller;
use proto::identity::v1 as pb;
use tonic::{Request, Response, Status};

use super::{Handlers, to_proto};
use crate::{error::Error, store};

pub(super) async fn handle(
    identity: &Handlers,
    request: Request<pb::GetMeRequest>,
) -> Result<Response<pb::User>, Status> {
    let id = Caller::of(&request)?.principal()?;
    let mut conn = identity.db.connection().await.map_err(Error::from)?;

    let user = store::users::get(&mut conn, id).await?;

    Ok(Response::new(to_proto(user)))
}
