//! The public keys of access tokens.

use mesh::token::PublicKey;
use proto::identity::v1 as pb;

pub(super) fn reply(keys: &[PublicKey]) -> pb::Jwks {
    let keys = keys.iter().map(|key| pb::Jwk {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        x: key.x.clone(),
        kid: key.kid.clone(),
        alg: "EdDSA".to_owned(),
        r#use: "sig".to_owned(),
    });
    pb::Jwks { keys: keys.collect() }
}
