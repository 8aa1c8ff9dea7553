//! An authentication service that says what reached it, and gives out the tokens that a test gives it.

use std::sync::{Arc, Mutex};

use proto::{
    identity::v1::{
        RefreshSessionRequest, SignInRequest, SignInResponse, SignOutRequest, SignOutResponse, SignUpRequest,
        TokenDelivery, Tokens, User, authentication_service_server::AuthenticationService,
    },
    session::{ACCESS_COOKIE, REFRESH_COOKIE},
};
use tonic::{Request as Call, Response as Reply, Status, metadata::MetadataMap};

/// What the test and the service share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authentication {
    /// The metadata of each call.
    pub(crate) seen: Arc<Mutex<Vec<MetadataMap>>>,
    /// The access token that the next cookies have.
    pub(crate) token: Arc<Mutex<String>>,
}

impl Authentication {
    /// The value of a metadatum of the last call.
    pub(crate) fn told(&self, name: &str) -> Option<String> {
        let seen = self.seen.lock().expect("no panic");
        let value = seen.last().expect("a call arrived").get(name)?;
        Some(value.to_str().expect("ASCII").to_owned())
    }

    /// How many calls arrived.
    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    fn answer<T>(&self, metadata: &MetadataMap, message: T, cookies: bool) -> Reply<T> {
        self.seen.lock().expect("no panic").push(metadata.clone());
        let mut reply = Reply::new(message);
        if cookies {
            let token = self.token.lock().expect("no panic").clone();
            let life = if token.is_empty() { "0" } else { "900" };
            for cookie in [
                format!("{ACCESS_COOKIE}={token}; Max-Age={life}; Path=/; Secure; HttpOnly; SameSite=Lax"),
                format!("{REFRESH_COOKIE}=r; Max-Age=604800; Path=/; Secure; HttpOnly; SameSite=Strict"),
                "tracking=1; Max-Age=9; Path=/".to_owned(),
            ] {
                reply.metadata_mut().append("set-cookie", cookie.parse().expect("ASCII"));
            }
        }
        reply
    }
}

#[tonic::async_trait]
impl AuthenticationService for Authentication {
    async fn sign_up(&self, call: Call<SignUpRequest>) -> Result<Reply<User>, Status> {
        Ok(self.answer(call.metadata(), User::default(), false))
    }

    async fn sign_in(&self, call: Call<SignInRequest>) -> Result<Reply<SignInResponse>, Status> {
        let cookies = call.get_ref().token_delivery() == TokenDelivery::Cookie;
        Ok(self.answer(call.metadata(), SignInResponse::default(), cookies))
    }

    async fn refresh_session(&self, call: Call<RefreshSessionRequest>) -> Result<Reply<Tokens>, Status> {
        let cookies = call.metadata().contains_key(proto::session::REFRESH_TOKEN);
        Ok(self.answer(call.metadata(), Tokens::default(), cookies))
    }

    async fn sign_out(&self, call: Call<SignOutRequest>) -> Result<Reply<SignOutResponse>, Status> {
        Ok(self.answer(call.metadata(), SignOutResponse {}, true))
    }
}
