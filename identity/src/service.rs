//! The gRPC services: one file for each call, one line for each here.

pub(crate) mod assign_role;
mod cookies;
mod get_jwks;
mod get_me;
mod get_openid_configuration;
mod get_user;
mod list_revocations;
mod list_roles;
mod refresh_session;
mod revoke_role;
mod sign_in;
mod sign_out;
pub(crate) mod sign_up;
mod watch_revocations;

use std::sync::Arc;

use jiff::Timestamp;
use mesh::{clock::Clock, db::Db};
use proto::identity::v1::{
    self as pb, account_service_server::AccountService, admin_service_server::AdminService,
    authentication_service_server::AuthenticationService, discovery_service_server::DiscoveryService,
    token_status_service_server::TokenStatusService,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    config::TokenConfig,
    domain::{RefreshToken, Session, SessionId, SessionKey, User},
    error::Error,
    kek::KeyRing,
    password::Passwords,
    revocations::Feed,
    signing::SigningKeys,
};

/// What the calls work with.
pub(crate) struct Handlers {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
    pub(crate) passwords: Passwords,
    pub(crate) kek: Arc<KeyRing>,
    pub(crate) keys: Arc<SigningKeys>,
    pub(crate) tokens: TokenConfig,
    pub(crate) feed: Arc<Feed>,
    pub(crate) draining: CancellationToken,
}

impl Handlers {
    /// The tokens that a session gives out at its present counter.
    fn tokens(
        &self,
        user: &User,
        session: &Session,
        key: &SessionKey,
        now: Timestamp,
    ) -> Result<pb::Tokens, Error> {
        let life = self.tokens.access_token_seconds;
        Ok(pb::Tokens {
            access_token: Some(self.keys.sign(user, session, life, now)?),
            token_type: "Bearer".to_owned(),
            expires_in: i32::try_from(life).unwrap_or(i32::MAX),
            refresh_token: Some(RefreshToken::new(session.id, session.counter, key).to_text()),
            session_id: session.id.to_string(),
        })
    }

    /// Decrypts a session's key.
    fn session_key(&self, session: &Session) -> Result<SessionKey, Error> {
        let key = self.kek.open(&place(session.id), &session.sealed_key)?;
        SessionKey::new(&key).ok_or(Error::SessionCorrupt(session.id))
    }
}

/// Where a session's key is kept, which its encryption is bound to.
fn place(session: SessionId) -> String {
    session.name()
}

/// Text that a person typed for people to read: PostgreSQL cannot keep a NUL, and nothing should print the others.
fn without_controls(field: &'static str, text: String) -> Result<String, Error> {
    if text.chars().any(char::is_control) { Err(Error::ControlCharacter { field }) } else { Ok(text) }
}

#[tonic::async_trait]
impl AuthenticationService for Handlers {
    async fn sign_up(&self, request: Request<pb::SignUpRequest>) -> Result<Response<pb::User>, Status> {
        sign_up::handle(self, request).await
    }

    async fn sign_in(
        &self,
        request: Request<pb::SignInRequest>,
    ) -> Result<Response<pb::SignInResponse>, Status> {
        sign_in::handle(self, request).await
    }

    async fn refresh_session(
        &self,
        request: Request<pb::RefreshSessionRequest>,
    ) -> Result<Response<pb::Tokens>, Status> {
        refresh_session::handle(self, request).await
    }

    async fn sign_out(
        &self,
        request: Request<pb::SignOutRequest>,
    ) -> Result<Response<pb::SignOutResponse>, Status> {
        sign_out::handle(self, request).await
    }
}

#[tonic::async_trait]
impl AccountService for Handlers {
    async fn get_me(&self, request: Request<pb::GetMeRequest>) -> Result<Response<pb::User>, Status> {
        get_me::handle(self, request).await
    }
}

#[tonic::async_trait]
impl AdminService for Handlers {
    async fn get_user(&self, request: Request<pb::GetUserRequest>) -> Result<Response<pb::User>, Status> {
        get_user::handle(self, request).await
    }

    async fn list_roles(
        &self,
        _: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        list_roles::handle(self).await
    }

    async fn assign_role(
        &self,
        request: Request<pb::AssignRoleRequest>,
    ) -> Result<Response<pb::User>, Status> {
        assign_role::handle(self, request).await
    }

    async fn revoke_role(
        &self,
        request: Request<pb::RevokeRoleRequest>,
    ) -> Result<Response<pb::User>, Status> {
        revoke_role::handle(self, request).await
    }
}

#[tonic::async_trait]
impl DiscoveryService for Handlers {
    async fn get_jwks(&self, _: Request<pb::GetJwksRequest>) -> Result<Response<pb::Jwks>, Status> {
        Ok(Response::new(get_jwks::reply(&self.keys.published())))
    }

    async fn get_open_id_configuration(
        &self,
        _: Request<pb::GetOpenIdConfigurationRequest>,
    ) -> Result<Response<pb::OpenIdConfiguration>, Status> {
        Ok(Response::new(get_openid_configuration::reply()))
    }
}

#[tonic::async_trait]
impl TokenStatusService for Handlers {
    type WatchRevocationsStream = watch_revocations::Messages;

    async fn list_revocations(
        &self,
        request: Request<pb::ListRevocationsRequest>,
    ) -> Result<Response<pb::ListRevocationsResponse>, Status> {
        Ok(Response::new(list_revocations::reply(&self.feed, request.get_ref().since_seq)))
    }

    async fn watch_revocations(
        &self,
        request: Request<pb::WatchRevocationsRequest>,
    ) -> Result<Response<watch_revocations::Messages>, Status> {
        let (feed, draining) = (Arc::clone(&self.feed), self.draining.clone());
        Ok(Response::new(watch_revocations::messages(feed, request.get_ref().since_seq, draining)))
    }
}

/// A user as the user and admins see it.
fn to_proto(user: User) -> pb::User {
    pb::User {
        name: user.id.name(),
        uid: user.id.to_string(),
        email: user.email,
        username: user.username.unwrap_or_default(),
        display_name: user.display_name,
        locale: user.locale,
        roles: user.roles,
        create_time: Some(mesh::clock::to_proto(user.created_at)),
    }
}
