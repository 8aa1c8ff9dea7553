//! Exchanges a password for a session.
//!
//! Whatever is wrong (no such account, a wrong password, a banned user) costs the same work and gives the same answer.

use jiff::Timestamp;
use mesh::clock::Clock;
use proto::identity::v1 as pb;
use tonic::{Request, Response, Status};

use super::{Handlers, cookies::Delivery, place, without_controls};
use crate::{
    domain::{self, EmailAddress, Password, Session, SessionId, SessionKey, User, Username},
    error::Error,
    password::{PasswordHash, Verdict},
    store::{
        self,
        audit::{ANONYMOUS, Event, Outcome},
        credentials::{Credential, Identifier},
    },
};

/// A sign-in that was understood.
struct SignIn {
    identifier: Identifier,
    password: Password,
    device_name: String,
}

pub(super) async fn handle(
    identity: &Handlers,
    request: Request<pb::SignInRequest>,
) -> Result<Response<pb::SignInResponse>, Status> {
    let delivery = Delivery::asked(request.get_ref().token_delivery(), request.metadata())?;
    let SignIn { identifier, password, device_name } = request.into_inner().try_into()?;
    let now = Clock::system_now();

    let credential = find(identity, &identifier).await?;
    let hash = credential.as_ref().map(|credential| &credential.hash);
    let verdict = identity.passwords.verify(password.clone(), hash).await.map_err(Error::from)?;
    let (Some(credential), Verdict::Right { outdated }) = (credential, verdict) else {
        refuse(identity, now).await?;
        return Err(Error::InvalidCredentials.into());
    };
    // A sign-in does not fail because the threads are too busy to renew its hash.
    let renewed = if outdated { identity.passwords.make(password).await.ok() } else { None };

    let id = SessionId::generate();
    let key = random_key();
    let sealed = identity.kek.seal(&place(id), key.as_slice());
    let lifetimes = identity.tokens.lifetimes();
    let session = Session::begin(id, credential.user, sealed, device_name, lifetimes, now);
    let Some(user) = begin(identity, &credential, renewed.as_ref(), &session).await? else {
        refuse(identity, now).await?;
        return Err(Error::InvalidCredentials.into());
    };

    let key = SessionKey::new(key.as_slice()).ok_or(Error::SessionCorrupt(id))?;
    let tokens = identity.tokens(&user, &session, &key, now)?;
    Ok(delivery.answer(tokens, &session, now, |tokens| pb::SignInResponse { tokens: Some(tokens) }))
}

/// Looks the account up, on a connection that is given back before the hash.
async fn find(identity: &Handlers, identifier: &Identifier) -> Result<Option<Credential>, Error> {
    let mut conn = identity.db.connection().await?;
    store::credentials::find(&mut conn, identifier).await
}

/// Stores the session, unless the user was banned or changed the password while it was being checked.
async fn begin(
    identity: &Handlers,
    credential: &Credential,
    renewed: Option<&PasswordHash>,
    session: &Session,
) -> Result<Option<User>, Error> {
    let now = session.created_at;
    identity
        .db
        .transaction("sign_in", async |conn| {
            let user = match store::users::lock(conn, credential.user).await {
                Ok(user) => user,
                Err(Error::UserNotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
            let may = user.status == domain::Status::Active
                && store::credentials::is_unchanged(conn, credential).await?;
            if !may {
                return Ok(None);
            }
            if let Some(hash) = renewed {
                store::credentials::rehash(conn, credential, hash).await?;
            }
            store::sessions::insert(conn, session).await?;
            store::audit::append(conn, event(user.id.name(), session.id.name(), Outcome::Done, now)).await?;
            if store::sessions::evict(conn, user.id, now).await? > 0 {
                let evicted = Event {
                    action: "session.evict",
                    ..event(user.id.name(), user.id.name(), Outcome::Done, now)
                };
                store::audit::append(conn, evicted).await?;
            }
            Ok(Some(user))
        })
        .await
}

/// Writes a failure down. Not for whom: a typed password sometimes ends up in the field for the name.
async fn refuse(identity: &Handlers, now: Timestamp) -> Result<(), Error> {
    let mut conn = identity.db.connection().await?;
    store::audit::append(&mut conn, event(ANONYMOUS.to_owned(), String::new(), Outcome::Refused, now)).await
}

fn event(actor: String, target: String, outcome: Outcome, at: Timestamp) -> Event {
    Event { action: "session.begin", actor, target, outcome, at }
}

fn random_key() -> zeroize::Zeroizing<[u8; SessionKey::LENGTH]> {
    let mut key = zeroize::Zeroizing::new([0; SessionKey::LENGTH]);
    aws_lc_rs::rand::fill(key.as_mut_slice()).expect("the system has random numbers");
    key
}

impl TryFrom<pb::SignInRequest> for SignIn {
    type Error = Error;

    fn try_from(request: pb::SignInRequest) -> Result<Self, Error> {
        // What is neither is looked up all the same, and found by nobody.
        let identifier = match (EmailAddress::parse(&request.email), Username::parse(&request.email)) {
            (Ok(email), _) => Identifier::Email(email.canonical().to_owned()),
            (Err(_), Some(username)) => Identifier::Username(username.canonical().to_owned()),
            (Err(_), None) => Identifier::Email(String::new()),
        };
        Ok(Self {
            identifier,
            password: Password::presented(request.password),
            device_name: without_controls("device_name", request.device_name)?,
        })
    }
}
