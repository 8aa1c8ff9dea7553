//! Browser sessions: the tokens that came as cookies, and the cookies that go back.
//!
//! A session cookie counts as `Authorization: Bearer` when there is no such header; with another token in that header the request is refused, for
//! nobody could say whose it is. The refresh token goes to the authentication service only, and only that service sets cookies.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE, SET_COOKIE},
    request::Parts,
};
use mesh::{
    status::Refusal,
    token::{Claims, Verifier},
};
use proto::session::{ACCESS_COOKIE, COOKIES_ALLOWED, REFRESH_COOKIE, REFRESH_TOKEN};
use tonic::Status;

use crate::{csrf::Csrf, gate::DOMAIN};

/// The service that gives tokens out.
const AUTHENTICATION_SERVICE: &str = "jetway.identity.v1.AuthenticationService";

/// The cookie that a page of the gateway's own origin reads its CSRF token from.
const CSRF_COOKIE: &str = "__Host-jetway_csrf";

/// The header that pages send their CSRF token in, and that answers bring it in: pages of other origins cannot read the cookie.
pub(crate) const CSRF_HEADER: &str = "x-jetway-csrf";

/// The credentials that a request came with.
#[derive(Debug)]
pub(crate) struct Credentials {
    /// The access token's cookie, as the header it stands for; `None` when there is a header, or neither.
    cookie: Option<HeaderMap>,
    /// The refresh token's cookie.
    refresh: Option<HeaderValue>,
}

impl Credentials {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT `CREDENTIALS_CONFLICT`: two cookies of a name, or a cookie and an `Authorization` header, that are not the same.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Status> {
        if !headers.contains_key(COOKIE) {
            return Ok(Self { cookie: None, refresh: None });
        }
        let refresh = cookie(headers, REFRESH_COOKIE)?.map(HeaderValue::from_bytes).transpose();
        // Bytes that no header may have are in no token of ours.
        let refresh = refresh.ok().flatten();
        let Some(token) = cookie(headers, ACCESS_COOKIE)? else { return Ok(Self { cookie: None, refresh }) };
        if let Some(header) = headers.get(AUTHORIZATION) {
            return if bearer(header) == Some(token) {
                Ok(Self { cookie: None, refresh })
            } else {
                Err(conflict("`Authorization` and the session cookie are different; send one of them"))
            };
        }
        let value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
            .map_err(|_| conflict("the session cookie has characters that no token has"))?;
        Ok(Self { cookie: Some(HeaderMap::from_iter([(AUTHORIZATION, value)])), refresh })
    }

    /// Whether the access token came as a cookie, which browsers send without being asked.
    pub(crate) fn by_cookie(&self) -> bool {
        self.cookie.is_some()
    }

    /// The headers to find the access token in: `headers`, unless it came as a cookie.
    pub(crate) fn headers<'a>(&'a self, headers: &'a HeaderMap) -> &'a HeaderMap {
        self.cookie.as_ref().unwrap_or(headers)
    }
}

/// One of our cookies, from however many headers; `None` when it is not there, or empty.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, Status> {
    let mut found = None;
    for header in headers.get_all(COOKIE) {
        for pair in header.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii();
            let value = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            match (value, found) {
                (None | Some(b""), _) => {}
                (Some(value), None) => found = Some(value),
                (Some(value), Some(other)) if value == other => {}
                (Some(_), Some(_)) => return Err(conflict("a session cookie came twice, and not the same")),
            }
        }
    }
    Ok(found)
}

/// The token of a header `Bearer …`.
fn bearer(header: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = header.as_bytes().split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn conflict(why: &str) -> Status {
    Refusal::InvalidArgument { field: "authorization".to_owned() }.status(DOMAIN, "CREDENTIALS_CONFLICT", why)
}

/// What the gate asks and is told about sessions of browsers.
#[derive(Debug)]
pub struct Sessions {
    csrf: Csrf,
}

impl Sessions {
    /// Sessions that are defended by `csrf`.
    pub fn new(csrf: Csrf) -> Self {
        Self { csrf }
    }

    /// Whether a request may do what it asks for with the credentials that its browser added.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED when it may change something and no page of ours is known to have sent it; see [`Csrf`].
    pub(crate) fn check(
        &self,
        credentials: &Credentials,
        request: &Parts,
        claims: Option<&Claims>,
    ) -> Result<(), Status> {
        match claims {
            Some(claims) if credentials.by_cookie() && !request.method.is_safe() => {
                self.csrf.check_page(&request.method, &request.headers)?;
                self.csrf.check_token(claims.sid, request.headers.get(CSRF_HEADER))
            }
            _ => Ok(()),
        }
    }

    /// What a call of this service is told of the browser: the refresh token, and whether cookies may be set.
    ///
    /// A refresh needs no CSRF token: it is where a page gets its token from when it has lost it, and no other page can read the answer.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED when there is a refresh cookie, and the request is from no page of ours.
    pub(crate) fn tell(
        &self,
        service: &str,
        credentials: &Credentials,
        request: &Parts,
        metadata: &mut HeaderMap,
    ) -> Result<(), Status> {
        if service != AUTHENTICATION_SERVICE || request.method.is_safe() {
            return Ok(());
        }
        let from_page = self.csrf.check_page(&request.method, &request.headers);
        if let Some(token) = &credentials.refresh {
            from_page.clone()?;
            metadata.insert(HeaderName::from_static(REFRESH_TOKEN), token.clone());
        }
        if from_page.is_ok() {
            metadata.insert(HeaderName::from_static(COOKIES_ALLOWED), HeaderValue::from_static("1"));
        }
        Ok(())
    }

    /// Copies the cookies that the authentication service sets. With a new session's cookies goes its CSRF token; with the old ones it goes away.
    pub(crate) fn cookies(
        &self,
        service: &str,
        upstream: &HeaderMap,
        verifier: &Verifier,
        out: &mut HeaderMap,
    ) {
        if service != AUTHENTICATION_SERVICE {
            return;
        }
        let (mut access, mut life) = (None, "0");
        for cookie in upstream.get_all(SET_COOKIE) {
            let Some((name, value, max_age)) = cookie.to_str().ok().and_then(parse) else { continue };
            if name == ACCESS_COOKIE {
                access = Some(value);
            } else if name == REFRESH_COOKIE {
                life = max_age;
            } else {
                continue;
            }
            out.append(SET_COOKIE, cookie.clone());
        }
        let Some(access) = access else { return };
        let token = match access {
            "" => String::new(),
            access => match verifier.verify(access) {
                Ok(claims) => self.csrf.token(claims.sid),
                // A key that is not known here yet: nor is the session, until a refresh.
                Err(error) => {
                    tracing::warn!(%error, "no CSRF token for a session whose token does not verify");
                    return;
                }
            },
        };
        let cookie = format!("{CSRF_COOKIE}={token}; Max-Age={life}; Path=/; Secure; SameSite=Strict");
        if let (Ok(cookie), Ok(token)) = (HeaderValue::try_from(cookie), HeaderValue::try_from(token)) {
            out.append(SET_COOKIE, cookie);
            if !token.is_empty() {
                out.insert(HeaderName::from_static(CSRF_HEADER), token);
            }
        }
    }
}

/// Name, value and `Max-Age` of a `Set-Cookie`.
fn parse(cookie: &str) -> Option<(&str, &str, &str)> {
    let mut parts = cookie.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    Some((name, value, parts.find_map(|attribute| attribute.strip_prefix("Max-Age="))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(entries: &[(&'static str, &str)]) -> HeaderMap {
        entries.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn authorization(credentials: &Credentials, headers: &HeaderMap) -> Option<String> {
        let value = credentials.headers(headers).get(AUTHORIZATION)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_session_cookie_counts_where_there_is_no_authorization_header() {
        let headers = headers(&[("cookie", "a=b; __Host-jetway_at=t0k.en; c=d")]);
        let credentials = Credentials::of(&headers).unwrap();
        assert!(credentials.by_cookie());
        assert_eq!(authorization(&credentials, &headers).unwrap(), "Bearer t0k.en");
    }

    #[test]
    fn cookies_may_be_spread_over_headers_as_http_2_does() {
        let headers = headers(&[("cookie", "__Host-jetway_rt=r"), ("cookie", "__Host-jetway_at=t")]);
        let credentials = Credentials::of(&headers).unwrap();
        assert_eq!(authorization(&credentials, &headers).unwrap(), "Bearer t");
        assert_eq!(credentials.refresh.unwrap(), "r");
    }

    #[test]
    fn a_header_with_the_same_token_is_a_header() {
        let headers = headers(&[("authorization", "bearer  t"), ("cookie", "__Host-jetway_at=t")]);
        assert!(!Credentials::of(&headers).unwrap().by_cookie());
    }

    #[test]
    fn two_different_credentials_are_refused() {
        for entries in [
            [("authorization", "Bearer u"), ("cookie", "__Host-jetway_at=t")],
            [("authorization", "Basic dDp0"), ("cookie", "__Host-jetway_at=t")],
            [("cookie", "__Host-jetway_at=t"), ("cookie", "__Host-jetway_at=u")],
            [("cookie", "__Host-jetway_at=t; __Host-jetway_at=u"), ("accept", "*/*")],
            [("cookie", "__Host-jetway_rt=t; __Host-jetway_rt=u"), ("accept", "*/*")],
        ] {
            let refused = Credentials::of(&headers(&entries)).expect_err("two credentials");
            assert_eq!(mesh::status::reason(&refused), "CREDENTIALS_CONFLICT", "{entries:?}");
        }
    }

    #[test]
    fn cookies_of_almost_the_name_are_not_ours() {
        let headers =
            headers(&[("cookie", "jetway_at=t; __Host-jetway_atx=t; __host-jetway_at=t; __Host-jetway_at=")]);
        let credentials = Credentials::of(&headers).unwrap();
        assert!(!credentials.by_cookie() && credentials.refresh.is_none());
    }
}
