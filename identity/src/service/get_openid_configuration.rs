//! The metadata of the issuer (OpenID Connect Discovery 1.0, section 3).

use mesh::run::ISSUER;
use proto::identity::v1 as pb;

pub(super) fn reply() -> pb::OpenIdConfiguration {
    pb::OpenIdConfiguration {
        issuer: ISSUER.to_owned(),
        jwks_uri: format!("{ISSUER}/.well-known/jwks.json"),
        id_token_signing_alg_values_supported: vec!["EdDSA".to_owned()],
        response_types_supported: Vec::new(),
        subject_types_supported: vec!["public".to_owned()],
    }
}
