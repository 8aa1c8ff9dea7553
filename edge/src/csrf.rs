//! Whether a request that a browser added its cookies to was sent by a page of ours.
//!
//! Browsers send cookies along with whatever any page asks for. A request that may change something and is authenticated by one must therefore
//! show three things that another site's page cannot bring about (OWASP Cross-Site Request Forgery Prevention Cheat Sheet):
//!
//! 1. its page: `Sec-Fetch-Site: same-origin`; or an `Origin` that is listed, where the browser sends no `Sec-Fetch-Site`, or says `same-site`;
//! 2. a media type that no form has: JSON, or one of the RPC protocols;
//! 3. the session's CSRF token in the header `X-Jetway-CSRF`: `HMAC-SHA256(key, sid ‖ random).random`, so that each gateway can check every
//!    token without remembering any. A page gets it at sign-in and at each refresh.

use std::{fmt, path::Path};

use aws_lc_rs::{hmac, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{CONTENT_TYPE, ORIGIN},
};
use mesh::{
    key_file::{self, KEY_LENGTH, KeyFileError},
    status::Refusal,
};
use tonic::Status;
use uuid::Uuid;

use crate::{cors::Origins, gate::DOMAIN};

/// Length of a MAC, in bytes.
const MAC_LENGTH: usize = 32;

/// Length of the random part of a token, in bytes.
const RANDOM_LENGTH: usize = 16;

/// Media types of requests that no form can send (Fetch, "CORS-safelisted request-header").
const MEDIA_TYPES: [&str; 4] =
    ["application/json", "application/x-ndjson", "application/proto", "application/grpc"];

/// What the types of gRPC, gRPC-Web and Connect begin with.
const MEDIA_TYPE_PREFIXES: [&str; 3] = ["application/grpc+", "application/grpc-web", "application/connect+"];

/// The keys that tokens are made with: the newest makes them, all of them check them.
#[derive(Clone)]
pub struct Keys {
    /// Newest first; never empty.
    keys: Vec<hmac::Key>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Keys {
    /// A key of this process's own: its tokens end with it, and no other gateway takes them.
    ///
    /// # Panics
    ///
    /// When the system has no random numbers.
    pub fn random() -> Self {
        let mut bytes = [0; KEY_LENGTH];
        rand::fill(&mut bytes).expect("the system has random numbers");
        Self { keys: vec![hmac::Key::new(hmac::HMAC_SHA256, &bytes)] }
    }

    /// Reads a key file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or does not hold keys. Says nothing of the keys.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Ok(Self { keys: key_file::load(path)?.values().rev().map(|bytes| key(bytes.as_slice())).collect() })
    }
}

/// The defence.
#[derive(Clone, Debug)]
pub struct Csrf {
    origins: Origins,
    keys: Keys,
}

impl Csrf {
    /// A defence that trusts pages of these origins, and tokens of these keys.
    pub fn new(origins: Origins, keys: Keys) -> Self {
        Self { origins, keys }
    }

    /// A new token for a session.
    pub fn token(&self, session: Uuid) -> String {
        let mut random = [0; RANDOM_LENGTH];
        rand::fill(&mut random).expect("the system has random numbers");
        let newest = self.keys.keys.first().expect("there is a key");
        let mac = hmac::sign(newest, &signed(session, random));
        format!("{}.{}", URL_SAFE_NO_PAD.encode(mac), URL_SAFE_NO_PAD.encode(random))
    }

    /// Whether this is a token of the session.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED `CSRF_TOKEN_INVALID`.
    pub fn check_token(&self, session: Uuid, token: Option<&HeaderValue>) -> Result<(), Status> {
        let is_valid = token.and_then(|token| parse(token.to_str().ok()?)).is_some_and(|(mac, random)| {
            let signed = signed(session, random);
            self.keys.keys.iter().any(|key| hmac::verify(key, &signed, &mac).is_ok())
        });
        if is_valid {
            Ok(())
        } else {
            Err(refused("CSRF_TOKEN_INVALID", "the header `X-Jetway-CSRF` must have the session's token"))
        }
    }

    /// Whether a page of ours sent the request, in a form that pages of others cannot send.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED `ORIGIN_NOT_ALLOWED` or `CONTENT_TYPE_NOT_ALLOWED`.
    pub fn check_page(&self, method: &Method, headers: &HeaderMap) -> Result<(), Status> {
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let is_ours = match site {
            Some(b"same-origin") => true,
            None | Some(b"same-site") => self.origins.contains(headers.get(ORIGIN)),
            Some(_) => false,
        };
        if !is_ours {
            let why = "with cookies, only pages of the gateway's own origin or a listed one may do this";
            return Err(refused("ORIGIN_NOT_ALLOWED", why));
        }
        let is_known = match headers.get(CONTENT_TYPE).map(essence) {
            Some(media_type) => media_type.is_some_and(|media_type| is_known(&media_type)),
            // Of the methods that change something, forms know this one.
            None => method != Method::POST,
        };
        if is_known {
            Ok(())
        } else {
            let why = "with cookies, `Content-Type` must be `application/json` or that of an RPC protocol";
            Err(refused("CONTENT_TYPE_NOT_ALLOWED", why))
        }
    }
}

fn refused(reason: &str, why: &str) -> Status {
    Refusal::PermissionDenied.status(DOMAIN, reason, why)
}

/// A media type without its parameters, in lower case.
fn essence(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn is_known(media_type: &str) -> bool {
    MEDIA_TYPES.contains(&media_type)
        || MEDIA_TYPE_PREFIXES.iter().any(|prefix| media_type.starts_with(prefix))
}

/// What the MAC covers. Both parts have a fixed length.
fn signed(session: Uuid, random: [u8; RANDOM_LENGTH]) -> [u8; 16 + RANDOM_LENGTH] {
    let mut bytes = [0; 16 + RANDOM_LENGTH];
    bytes[..16].copy_from_slice(session.as_bytes());
    bytes[16..].copy_from_slice(&random);
    bytes
}

fn parse(token: &str) -> Option<([u8; MAC_LENGTH], [u8; RANDOM_LENGTH])> {
    let (mac, random) = token.split_once('.')?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    Some((decode(mac)?.try_into().ok()?, decode(random)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const LISTED: &str = "https://app.jetway.example";

    fn csrf(keys: &Keys) -> Csrf {
        Csrf::new(Origins::new(&[LISTED.to_owned()]), keys.clone())
    }

    fn page(method: &Method, entries: &[(&'static str, &str)]) -> String {
        let headers = entries
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        match csrf(&Keys::random()).check_page(method, &headers) {
            Ok(()) => "ours".to_owned(),
            Err(status) => mesh::status::reason(&status),
        }
    }

    #[test]
    fn a_token_is_good_for_its_session_and_its_keys_only() {
        let (keys, session) = (Keys::random(), Uuid::from_u128(7));
        let token = csrf(&keys).token(session);
        let valid = |keys: &Keys, session, token: Option<&str>| {
            let token = token.map(|token| token.parse().unwrap());
            csrf(keys).check_token(session, token.as_ref()).is_ok()
        };
        assert!(valid(&keys, session, Some(&token)));
        assert!(!valid(&keys, Uuid::from_u128(8), Some(&token)), "another session");
        assert!(!valid(&Keys::random(), session, Some(&token)), "another key");
        assert!(!valid(&keys, session, None));
        for forged in ["", ".", "a.b", &format!("{token}x")] {
            assert!(!valid(&keys, session, Some(forged)), "{forged:?}");
        }
        assert_ne!(csrf(&keys).token(session), csrf(&keys).token(session));
    }

    #[test]
    fn gateways_with_the_same_key_file_take_each_others_tokens_and_those_of_older_keys() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(dir.path().join(name), text).unwrap();
            Keys::load(&dir.path().join(name))
        };
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let before = write("before", format!("{{\"1\": \"{one}\"}}")).unwrap();
        let after =
            write("after", format!("{{\"1\": \"{one}\", \"10\": \"{two}\", \"9\": \"{one}\"}}")).unwrap();
        let only_new = write("new", format!("{{\"10\": \"{two}\"}}")).unwrap();
        let session = Uuid::from_u128(7);
        let token = |keys: &Keys| HeaderValue::try_from(csrf(keys).token(session)).unwrap();
        assert!(csrf(&after).check_token(session, Some(&token(&before))).is_ok());
        assert!(csrf(&only_new).check_token(session, Some(&token(&after))).is_ok(), "the newest makes them");
        for wrong in ["", "{}", "[]", "{\"1\": \"12\"}", "{\"a\": \"\"}"] {
            let text = format!("{:#}", write("wrong", wrong.to_owned()).unwrap_err());
            assert!(text.contains("wrong"), "the file is named: {text}");
        }
    }

    #[test]
    fn a_page_of_the_same_origin_or_a_listed_one_may_write() {
        let json = ("content-type", "application/json; charset=utf-8");
        for (entries, outcome) in [
            (&[json, ("sec-fetch-site", "same-origin")][..], "ours"),
            (&[json, ("sec-fetch-site", "same-origin"), ("origin", "https://gateway.example")], "ours"),
            (&[json, ("origin", LISTED)], "ours"),
            (&[json, ("sec-fetch-site", "same-site"), ("origin", LISTED)], "ours"),
            (
                &[json, ("sec-fetch-site", "same-site"), ("origin", "https://evil.jetway.example")],
                "ORIGIN_NOT_ALLOWED",
            ),
            (&[json, ("sec-fetch-site", "same-site")], "ORIGIN_NOT_ALLOWED"),
            (&[json, ("sec-fetch-site", "cross-site"), ("origin", LISTED)], "ORIGIN_NOT_ALLOWED"),
            (&[json, ("sec-fetch-site", "none")], "ORIGIN_NOT_ALLOWED"),
            (&[json, ("origin", "null")], "ORIGIN_NOT_ALLOWED"),
            (&[json, ("origin", "https://app.jetway.example.evil.example")], "ORIGIN_NOT_ALLOWED"),
            (&[json, ("origin", "http://app.jetway.example")], "ORIGIN_NOT_ALLOWED"),
            (&[json], "ORIGIN_NOT_ALLOWED"),
        ] {
            assert_eq!(page(&Method::POST, entries), outcome, "{entries:?}");
        }
    }

    #[test]
    fn a_form_can_send_none_of_the_media_types() {
        let ours = ("sec-fetch-site", "same-origin");
        for (media_type, outcome) in [
            ("application/json", "ours"),
            ("Application/JSON", "ours"),
            ("application/grpc-web+proto", "ours"),
            ("application/grpc-web-text", "ours"),
            ("application/connect+json", "ours"),
            ("application/x-www-form-urlencoded", "CONTENT_TYPE_NOT_ALLOWED"),
            ("multipart/form-data; boundary=application/json", "CONTENT_TYPE_NOT_ALLOWED"),
            ("text/plain", "CONTENT_TYPE_NOT_ALLOWED"),
            ("text/plain; application/json", "CONTENT_TYPE_NOT_ALLOWED"),
            ("", "CONTENT_TYPE_NOT_ALLOWED"),
        ] {
            assert_eq!(page(&Method::POST, &[ours, ("content-type", media_type)]), outcome, "{media_type}");
        }
        assert_eq!(page(&Method::POST, &[ours]), "CONTENT_TYPE_NOT_ALLOWED");
        assert_eq!(page(&Method::DELETE, &[ours]), "ours");
    }
}
