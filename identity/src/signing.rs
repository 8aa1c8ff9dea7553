//! Access tokens are signed here, with keys that all replicas share.
//!
//! A key lives in the database, encrypted; one of them is active. Every replica reads the keys again each minute. Public keys are published from
//! the moment they are known until a day after their last use, so no verifier meets a token whose key it has not had time to fetch.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mesh::{
    auth::PrincipalId,
    clock::Clock,
    db::Db,
    token::{AUDIENCE, PublicKey, Verifier},
};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    domain::{Session, User},
    error::Error,
    kek::KeyRing,
    store,
};

/// Most roles in a token, so that it stays small.
const ROLES_MAX: usize = 32;

/// The `client_id` claim: one first-party client.
const CLIENT_ID: &str = "jetway";

/// A key pair as the database keeps it.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// What tokens call it.
    pub kid: String,
    /// The public key, base64url without padding.
    pub public_x: String,
    /// The private key (PKCS #8), encrypted.
    pub sealed: Vec<u8>,
    /// Whether it signs.
    pub is_active: bool,
}

/// The keys as last read, shared by all handlers.
pub struct SigningKeys {
    db: Db,
    kek: Arc<KeyRing>,
    verifier: Verifier,
    current: ArcSwap<KeySet>,
}

struct KeySet {
    kid: String,
    active: EncodingKey,
    published: Vec<PublicKey>,
}

impl SigningKeys {
    /// Reads the keys, and makes the first one when there is none. Replicas that start together agree on one.
    ///
    /// # Errors
    ///
    /// When the database fails, or the key file does not open the active key.
    pub async fn open(db: Db, kek: Arc<KeyRing>, verifier: Verifier) -> Result<Self, Error> {
        let now = Clock::system_now();
        db.transaction("ensure_signing_key", async |conn| {
            store::signing_keys::lock(conn).await?;
            if !store::signing_keys::has_active(conn).await? {
                store::signing_keys::insert_active(conn, &generate(&kek), now).await?;
            }
            Ok::<_, Error>(())
        })
        .await?;
        let current = ArcSwap::from_pointee(read(&db, &kek, now).await?);
        let keys = Self { db, kek, verifier, current };
        keys.publish();
        Ok(keys)
    }

    /// Reads the keys again.
    ///
    /// # Errors
    ///
    /// As [`SigningKeys::open`]; the keys stay as they were.
    pub async fn reload(&self) -> Result<(), Error> {
        self.current.store(Arc::new(read(&self.db, &self.kek, Clock::system_now()).await?));
        self.publish();
        Ok(())
    }

    /// The public keys: the active one first.
    pub fn published(&self) -> Vec<PublicKey> {
        self.current.load().published.clone()
    }

    /// Signs an access token for a session, good for `life_seconds` from `now`.
    ///
    /// # Errors
    ///
    /// When signing fails, which it does not with a key that was read.
    pub fn sign(
        &self,
        user: &User,
        session: &Session,
        life_seconds: i64,
        now: Timestamp,
    ) -> Result<String, Error> {
        let keys = self.current.load();
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(keys.kid.clone()),
            ..Header::new(Algorithm::EdDSA)
        };
        let issued_at = now.as_second();
        let claims = Claims {
            iss: mesh::run::ISSUER,
            aud: AUDIENCE,
            sub: user.id,
            sid: session.id.uuid(),
            jti: mesh::id::generate(),
            iat: issued_at,
            nbf: issued_at,
            exp: issued_at + life_seconds,
            auth_time: session.auth_time.as_second(),
            amr: ["pwd"],
            acr: "aal1",
            roles: user.roles.get(..ROLES_MAX).unwrap_or(&user.roles),
            sv: user.sv,
            client_id: CLIENT_ID,
            scope: "",
        };
        jsonwebtoken::encode(&header, &claims, &keys.active).map_err(Error::Sign)
    }

    /// Gives the keys to this process's own verifier.
    fn publish(&self) {
        self.verifier.set_keys(&self.current.load().published);
    }
}

/// The claims of an access token (RFC 9068). No e-mail address and no name: tokens end up in logs of others.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    aud: &'static str,
    sub: PrincipalId,
    sid: Uuid,
    jti: Uuid,
    iat: i64,
    nbf: i64,
    exp: i64,
    auth_time: i64,
    amr: [&'static str; 1],
    acr: &'static str,
    roles: &'a [String],
    sv: i64,
    client_id: &'static str,
    scope: &'static str,
}

async fn read(db: &Db, kek: &KeyRing, now: Timestamp) -> Result<KeySet, Error> {
    let mut conn = db.connection().await?;
    let keys = store::signing_keys::published(&mut conn, now).await?;
    let active = keys.iter().find(|key| key.is_active).ok_or(Error::NoSigningKey)?;
    let private = kek.open(&place(&active.kid), &active.sealed)?;
    let public = |key: &StoredKey| PublicKey { kid: key.kid.clone(), x: key.public_x.clone() };
    Ok(KeySet {
        kid: active.kid.clone(),
        active: EncodingKey::from_ed_der(&private),
        published: keys.iter().map(public).collect(),
    })
}

/// A new key pair, its private half encrypted.
fn generate(kek: &KeyRing) -> StoredKey {
    let pair = Ed25519KeyPair::generate().expect("the system has random numbers");
    let private = pair.to_pkcs8().expect("a key pair has a PKCS #8 form");
    let public_x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let kid = thumbprint(&public_x);
    let sealed = kek.seal(&place(&kid), private.as_ref());
    StoredKey { kid, public_x, sealed, is_active: true }
}

/// The name of a key: the SHA-256 of its JWK with the members in order (RFC 7638, RFC 8037 appendix A.3).
fn thumbprint(public_x: &str) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public_x}"}}"#);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes()))
}

fn place(kid: &str) -> String {
    format!("signing_keys/{kid}")
}

#[cfg(test)]
mod tests {
    use super::thumbprint;

    #[test]
    fn the_name_of_a_key_is_its_thumbprint() {
        // RFC 8037, appendix A.2 and A.3.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(thumbprint(x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
