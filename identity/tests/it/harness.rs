//! The service in this process, with a database of its own.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use diesel::QueryableByName;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use identity::{
    Config, Identity,
    admin::{Account, ensure_account},
    config::PasswordConfig,
    domain::Password,
    password::Passwords,
};
use mesh::{
    auth::PrincipalId,
    client::Channel,
    clock::Clock,
    db::Db,
    run::Running,
    testing::{self, UserChannel},
};
use proto::identity::v1::{
    self as pb, AssignRoleRequest, GetMeRequest, RefreshSessionRequest, RevokeRoleRequest, SignInRequest,
    SignOutRequest, SignUpRequest, User, account_service_client::AccountServiceClient,
    admin_service_client::AdminServiceClient, authentication_service_client::AuthenticationServiceClient,
    discovery_service_client::DiscoveryServiceClient,
};
use tonic::{Response, Status};

/// The password of every user in the tests.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The tokens in an answer's body.
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    pub(crate) session_id: String,
    pub(crate) message: pb::Tokens,
}

impl From<pb::Tokens> for Tokens {
    fn from(message: pb::Tokens) -> Self {
        Self {
            access_token: message.access_token.clone().expect("an access token"),
            refresh_token: message.refresh_token.clone().expect("a refresh token"),
            session_id: message.session_id.clone(),
            message,
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.message.fmt(f)
    }
}

/// The service, and verbs to use it with.
pub(crate) struct TestIdentity {
    pub(crate) config: Config,
    pub(crate) running: Running,
    pub(crate) db: Db,
}

impl TestIdentity {
    /// Starts it.
    pub(crate) async fn start() -> Self {
        Self::start_with(Self::config().await).await
    }

    /// A configuration with a new database and the cheapest hashes.
    pub(crate) async fn config() -> Config {
        let keys = testing::directory().join("identity-keys.json");
        mesh::key_file::create(&keys).expect("a key file");
        Config {
            server: testing::free_ports(),
            tls: testing::certificate("identity"),
            database: testing::database("identity", || identity::MIGRATIONS).await,
            keys: identity::config::KeysConfig { file: keys },
            password: cheap(),
            ..Config::default()
        }
    }

    /// Starts it with this configuration.
    pub(crate) async fn start_with(config: Config) -> Self {
        let running = mesh::run::start::<Identity>(config.clone(), Clock::system(None))
            .await
            .expect("the service starts");
        let db = Db::new(&config.database).expect("a pool");
        Self { config, running, db }
    }

    /// A channel without a user, as the edge has it.
    pub(crate) fn channel(&self) -> Channel {
        testing::channel("edge", "identity", self.running.address())
    }

    /// A channel with a user's access token.
    pub(crate) fn channel_of(&self, token: &str) -> UserChannel {
        testing::as_user(self.channel(), token)
    }

    /// Signing up, in and out.
    pub(crate) fn authentication(&self) -> AuthenticationServiceClient<Channel> {
        AuthenticationServiceClient::new(self.channel())
    }

    /// Keys and metadata.
    pub(crate) fn discovery(&self) -> DiscoveryServiceClient<Channel> {
        DiscoveryServiceClient::new(self.channel())
    }

    /// Administration, as the user of this access token.
    pub(crate) fn administration(&self, token: &str) -> AdminServiceClient<UserChannel> {
        AdminServiceClient::new(self.channel_of(token))
    }

    /// Signs up.
    pub(crate) async fn sign_up(&self, email: &str) -> Result<User, Status> {
        let request = SignUpRequest {
            email: email.to_owned(),
            password: PASSWORD.to_owned(),
            ..SignUpRequest::default()
        };
        self.authentication().sign_up(request).await.map(Response::into_inner)
    }

    /// Signs in.
    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> Result<Tokens, Status> {
        let request = SignInRequest {
            email: email.to_owned(),
            password: password.to_owned(),
            device_name: "a test".to_owned(),
            ..SignInRequest::default()
        };
        let response = self.authentication().sign_in(request).await?.into_inner();
        Ok(response.tokens.expect("tokens").into())
    }

    /// A new user who is signed in.
    pub(crate) async fn customer(&self, email: &str) -> (User, Tokens) {
        let user = self.sign_up(email).await.expect("signed up");
        (user, self.sign_in(email, PASSWORD).await.expect("signed in"))
    }

    /// A new admin who is signed in.
    pub(crate) async fn admin(&self, email: &str) -> (PrincipalId, Tokens) {
        let passwords = Passwords::start(&self.config.password).expect("the threads start");
        let account = Account {
            email,
            username: None,
            display_name: "",
            password: Password::presented(PASSWORD.to_owned()),
            roles: &["admin"],
        };
        let now = Clock::system_now();
        let id = ensure_account(&self.db, &passwords, &account, now).await.expect("an admin");
        (id, self.sign_in(email, PASSWORD).await.expect("signed in"))
    }

    /// Spends a refresh token.
    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, Status> {
        let request = RefreshSessionRequest { refresh_token: refresh_token.to_owned() };
        self.authentication().refresh_session(request).await.map(|response| response.into_inner().into())
    }

    /// Ends the session of a refresh token.
    pub(crate) async fn sign_out(&self, refresh_token: &str) -> Result<(), Status> {
        let request = SignOutRequest { refresh_token: refresh_token.to_owned() };
        self.authentication().sign_out(request).await.map(drop)
    }

    /// The user of an access token.
    pub(crate) async fn me(&self, token: &str) -> Result<User, Status> {
        let mut client = AccountServiceClient::new(self.channel_of(token));
        client.get_me(GetMeRequest {}).await.map(Response::into_inner)
    }

    /// Gives a role.
    pub(crate) async fn assign(&self, token: &str, user: &str, role: &str) -> Result<User, Status> {
        let request = AssignRoleRequest { user_id: user.to_owned(), role: role.to_owned() };
        self.administration(token).assign_role(request).await.map(Response::into_inner)
    }

    /// Takes a role.
    pub(crate) async fn revoke(&self, token: &str, user: &str, role: &str) -> Result<User, Status> {
        let request = RevokeRoleRequest { user_id: user.to_owned(), role: role.to_owned() };
        self.administration(token).revoke_role(request).await.map(Response::into_inner)
    }

    /// A connection to look at what is stored.
    pub(crate) async fn connection(&self) -> AsyncPgConnection {
        testing::connection(&self.config.database.url).await
    }

    /// Runs a statement on the database.
    pub(crate) async fn execute(&self, sql: &str) -> Result<usize, diesel::result::Error> {
        diesel::sql_query(sql).execute(&mut self.connection().await).await
    }

    /// One column of text, from a query that names it `text`.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let rows: Vec<Text> =
            diesel::sql_query(sql).load(&mut self.connection().await).await.expect("the query runs");
        rows.into_iter().map(|row| row.text).collect()
    }

    /// How the actions of this name ended, in order.
    pub(crate) async fn audit(&self, action: &str) -> Vec<String> {
        self.texts(&format!(
            "SELECT outcome AS text FROM audit_events WHERE action = '{action}' ORDER BY seq"
        ))
        .await
    }
}

#[derive(QueryableByName)]
struct Text {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}

/// Hashes that cost next to nothing.
pub(crate) fn cheap() -> PasswordConfig {
    PasswordConfig { memory_kib: 8, iterations: 1, parallelism: 1, threads: 1 }
}

/// The `ErrorInfo.reason` of a refusal.
pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    mesh::status::reason(&outcome.expect_err("refused"))
}

/// One part of a JWT as JSON: 0 is the header, 1 the claims.
pub(crate) fn part(token: &str, number: usize) -> serde_json::Value {
    let part = token.split('.').nth(number).expect("three parts");
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64url");
    serde_json::from_slice(&bytes).expect("JSON")
}
