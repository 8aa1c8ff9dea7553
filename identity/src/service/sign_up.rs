//! Creates a user.

use diesel_async::AsyncPgConnection;
use jiff::Timestamp;
use mesh::{auth::PrincipalId, outbox};
use proto::identity::v1 as pb;
use tonic::{Request, Response, Status};

use super::{Handlers, to_proto, without_controls};
use crate::{
    domain::{EmailAddress, Password, User, Username, roles::CUSTOMER},
    error::Error,
    password::PasswordHash,
    store::{
        self,
        audit::{ANONYMOUS, Outcome},
        users::NewUser,
    },
};

/// A sign-up that was understood.
struct SignUp {
    user: NewUser,
    password: Password,
}

pub(super) async fn handle(
    identity: &Handlers,
    request: Request<pb::SignUpRequest>,
) -> Result<Response<pb::User>, Status> {
    let SignUp { user, password } = request.into_inner().try_into()?;
    let now = identity.clock.now();
    // Before anything is known of the address, so that a taken one takes as long.
    let hash = identity.passwords.make(password).await.map_err(Error::from)?;
    let id = PrincipalId::generate();

    let created = identity
        .db
        .transaction("sign_up", async |conn| create(conn, id, &user, &hash, ANONYMOUS, now).await)
        .await?;

    Ok(Response::new(to_proto(created)))
}

/// Stores a new user with the role every user has, and tells of it.
///
/// # Errors
///
/// [`Error::EmailTaken`], [`Error::UsernameTaken`].
pub(crate) async fn create(
    conn: &mut AsyncPgConnection,
    id: PrincipalId,
    user: &NewUser,
    hash: &PasswordHash,
    actor: &str,
    now: Timestamp,
) -> Result<User, Error> {
    store::users::insert(conn, id, user, now).await?;
    store::credentials::insert(conn, id, hash, now).await?;
    store::roles::grant(conn, id, CUSTOMER, now).await?;
    let event = store::audit::Event {
        action: "user.create",
        actor: actor.to_owned(),
        target: id.name(),
        outcome: Outcome::Done,
        at: now,
    };
    store::audit::append(conn, event).await?;
    let event = outbox::Event {
        aggregate_type: "user",
        aggregate_id: id.uuid(),
        event_type: "UserCreated",
        payload: serde_json::json!({ "user": id, "roles": [CUSTOMER] }),
        request_id: mesh::server::request_id(),
        occurred_at: now,
    };
    outbox::append(conn, &event).await?;
    store::users::get(conn, id).await
}

impl TryFrom<pb::SignUpRequest> for SignUp {
    type Error = Error;

    fn try_from(request: pb::SignUpRequest) -> Result<Self, Error> {
        let password = Password::chosen(request.password).map_err(Error::Password)?;
        let username = match request.username.as_str() {
            "" => None,
            text => Some(Username::parse(text).ok_or(Error::Username)?),
        };
        let user = NewUser {
            email: EmailAddress::parse(&request.email).map_err(Error::Email)?,
            username,
            display_name: without_controls("display_name", request.display_name)?,
            locale: without_controls("locale", request.locale)?,
        };
        Ok(Self { user, password })
    }
}
