//! What the gateway and `identity` have agreed on about browser sessions besides the messages: names of cookies and of metadata.
//!
//! A browser keeps its tokens in cookies that no script can read. `identity` writes them as `set-cookie` metadata, which the gateway passes on; the
//! gateway reads them again, and tells `identity` of the refresh token in metadata of its own.

/// The cookie with the access token.
pub const ACCESS_COOKIE: &str = "__Host-jetway_at";

/// The cookie with the refresh token.
pub const REFRESH_COOKIE: &str = "__Host-jetway_rt";

/// Metadata of a call whose sender may be given cookies: a browser on an origin of ours. The gateway writes it, and lets no client write it.
pub const COOKIES_ALLOWED: &str = "x-jetway-cookies-allowed";

/// Metadata with the refresh token that came as a cookie. The gateway writes it, on calls of `AuthenticationService` only.
pub const REFRESH_TOKEN: &str = "x-jetway-refresh-token";
