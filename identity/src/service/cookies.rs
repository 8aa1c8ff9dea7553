//! Tokens as cookies: for browsers, whose scripts should not be able to read them.
//!
//! `__Host-` cookies (RFC 6265bis, 4.1.3.2) come from this host alone, over TLS alone: no sibling domain can plant one.

use jiff::Timestamp;
use proto::{
    identity::v1 as pb,
    session::{ACCESS_COOKIE, COOKIES_ALLOWED, REFRESH_COOKIE, REFRESH_TOKEN},
};
use tonic::{
    Response,
    metadata::{MetadataMap, MetadataValue},
};

use crate::{domain::Session, error::Error};

/// The attributes of both cookies. There is no `Domain`: the prefix forbids it.
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly";

/// Where the tokens of an answer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Into the message.
    Body,
    /// Into cookies.
    Cookies,
}

impl Delivery {
    /// What a sign-in asks for.
    ///
    /// # Errors
    ///
    /// [`Error::OriginNotAllowed`] when it asks for cookies and the gateway did not allow them: another site must not be able to sign its visitors in
    /// here as somebody else (login CSRF).
    pub(super) fn asked(asked: pb::TokenDelivery, metadata: &MetadataMap) -> Result<Self, Error> {
        match asked {
            pb::TokenDelivery::Unspecified | pb::TokenDelivery::Body => Ok(Self::Body),
            pb::TokenDelivery::Cookie if allowed(metadata) => Ok(Self::Cookies),
            pb::TokenDelivery::Cookie => Err(Error::OriginNotAllowed),
        }
    }

    /// The answer with these tokens, which `message` puts where they go in a body.
    pub(super) fn answer<T>(
        self,
        mut tokens: pb::Tokens,
        session: &Session,
        now: Timestamp,
        message: impl FnOnce(pb::Tokens) -> T,
    ) -> Response<T> {
        match self {
            Self::Body => Response::new(message(tokens)),
            Self::Cookies => {
                let ends = session.idle_expires_at.min(session.absolute_expires_at);
                let refresh_life = ends.duration_since(now).as_secs().max(0);
                let access_life = i64::from(tokens.expires_in);
                let access = tokens.access_token.take().unwrap_or_default();
                let refresh = tokens.refresh_token.take().unwrap_or_default();
                let mut response = Response::new(message(tokens));
                append(response.metadata_mut(), ACCESS_COOKIE, &access, access_life, "Lax");
                append(response.metadata_mut(), REFRESH_COOKIE, &refresh, refresh_life, "Strict");
                response
            }
        }
    }
}

/// Whether the sender may be given cookies, by the word of the gateway.
pub(super) fn allowed(metadata: &MetadataMap) -> bool {
    metadata.contains_key(COOKIES_ALLOWED)
}

/// Takes both cookies away.
pub(super) fn expire(metadata: &mut MetadataMap) {
    append(metadata, ACCESS_COOKIE, "", 0, "Lax");
    append(metadata, REFRESH_COOKIE, "", 0, "Strict");
}

/// The refresh token of a request, and where its successor goes: back the way it came. Empty when there is none.
///
/// # Errors
///
/// [`Error::CredentialsConflict`] when there is one in the message and another one in the cookie.
pub(super) fn refresh_token(in_message: &str, metadata: &MetadataMap) -> Result<(String, Delivery), Error> {
    let cookie = metadata.get(REFRESH_TOKEN).and_then(|value| value.to_str().ok());
    match (in_message, cookie) {
        ("", Some(cookie)) => Ok((cookie.to_owned(), Delivery::Cookies)),
        (token, Some(cookie)) if token != cookie => Err(Error::CredentialsConflict),
        (token, _) => Ok((token.to_owned(), Delivery::Body)),
    }
}

fn append(metadata: &mut MetadataMap, name: &str, value: &str, max_age_seconds: i64, same_site: &str) {
    let cookie = format!("{name}={value}; Max-Age={max_age_seconds}; {ATTRIBUTES}; SameSite={same_site}");
    let cookie = MetadataValue::try_from(cookie).expect("tokens are base64url and dots");
    metadata.append("set-cookie", cookie);
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use mesh::auth::PrincipalId;

    use super::*;
    use crate::domain::{Lifetimes, SessionId};

    fn metadata(entries: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in entries {
            metadata.insert(*name, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn cookies_are_given_only_where_the_gateway_allows_them() {
        let allowed = metadata(&[(COOKIES_ALLOWED, "1")]);
        let nothing = MetadataMap::new();
        let asked = |asked, metadata| Delivery::asked(asked, metadata).ok();
        assert_eq!(asked(pb::TokenDelivery::Cookie, &allowed), Some(Delivery::Cookies));
        assert_eq!(asked(pb::TokenDelivery::Cookie, &nothing), None);
        assert_eq!(asked(pb::TokenDelivery::Body, &allowed), Some(Delivery::Body));
        assert_eq!(asked(pb::TokenDelivery::Unspecified, &nothing), Some(Delivery::Body));
    }

    #[test]
    fn the_refresh_cookie_lasts_as_long_as_the_session_may() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let lifetimes =
            Lifetimes { idle: SignedDuration::from_hours(7), absolute: SignedDuration::from_hours(30) };
        let session = Session::begin(
            SessionId::generate(),
            PrincipalId::generate(),
            Vec::new(),
            String::new(),
            lifetimes,
            now,
        );
        let life = |session: &Session, now: Timestamp| {
            let response =
                Delivery::Cookies.answer(pb::Tokens::default(), session, now, std::convert::identity);
            let cookies: Vec<_> = response.metadata().get_all("set-cookie").iter().collect();
            cookies[1]
                .to_str()
                .unwrap()
                .split("Max-Age=")
                .nth(1)
                .unwrap()
                .split(';')
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(life(&session, now), "25200");
        let late = Session { idle_expires_at: now + SignedDuration::from_hours(35), ..session };
        assert_eq!(life(&late, now + SignedDuration::from_hours(28)), "7200", "the absolute end");
    }

    #[test]
    fn two_different_refresh_tokens_are_refused() {
        let cookie = metadata(&[(REFRESH_TOKEN, "a")]);
        assert_eq!(refresh_token("", &cookie).unwrap(), ("a".to_owned(), Delivery::Cookies));
        assert_eq!(refresh_token("a", &cookie).unwrap(), ("a".to_owned(), Delivery::Body));
        assert!(matches!(refresh_token("b", &cookie), Err(Error::CredentialsConflict)));
        assert_eq!(refresh_token("b", &MetadataMap::new()).unwrap(), ("b".to_owned(), Delivery::Body));
    }
}
