//! A page that shows an OpenAPI document to people: three files of our own that ask nobody but the origin that they came from.
//!
//! The page reads `openapi.json` beside itself. With the page at `/docs`, its style is at `/docs/docs.css` and its script at
//! `/docs/docs.js`; nothing in it is inline, so that [`CONTENT_SECURITY_POLICY`] can be strict.

/// The path, relative to where the document is, the media type and the bytes of each file.
pub const FILES: [(&str, &str, &[u8]); 3] = [
    ("/docs", "text/html; charset=utf-8", include_bytes!("docs/docs.html")),
    ("/docs/docs.css", "text/css; charset=utf-8", include_bytes!("docs/docs.css")),
    ("/docs/docs.js", "text/javascript; charset=utf-8", include_bytes!("docs/docs.js")),
];

/// The strictest policy under which the page works.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
