//! Pages of a list (AIP-158): sizes and tokens for keyset paging.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

/// Items on a page of a request that names no size.
pub const PAGE_SIZE_DEFAULT: i64 = 50;
/// The most items on a page.
pub const PAGE_SIZE_MAX: i64 = 1000;

/// Bytes of a token that say which query it continues.
const BINDING_BYTES: usize = 8;

/// The number of items to put on a page, 1 to [`PAGE_SIZE_MAX`], for the `page_size` of a request. Validation has refused negative ones
/// where the contract says so; here they count as 1.
pub fn page_size(requested: i32) -> i64 {
    match i64::from(requested) {
        0 => PAGE_SIZE_DEFAULT,
        size => size.clamp(1, PAGE_SIZE_MAX),
    }
}

/// Page tokens: where a list goes on, bound to the query that it is a list of.
///
/// A token is opaque to clients but not secret, and a client can make one up: what it says is the key to go on after, and never what the
/// caller may see.
#[derive(Clone, Copy, Debug)]
pub struct PageToken;

/// The token was not made by us, or for a query with another parent, filter or order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a page token of this query")]
pub struct InvalidPageToken;

impl PageToken {
    /// The token of the page that starts after `key`. `query_fingerprint` is everything of the request that chooses and orders the items;
    /// the page's size is not part of it.
    ///
    /// # Panics
    ///
    /// When the key has no JSON form, as a map with keys that are not strings: broken code.
    pub fn encode<K: Serialize>(key: &K, query_fingerprint: &[u8]) -> String {
        let mut bytes = binding(query_fingerprint).to_vec();
        serde_json::to_writer(&mut bytes, key).expect("a key has a JSON form");
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The key to go on after; `None` for the empty token, which is the first page.
    ///
    /// # Errors
    ///
    /// [`InvalidPageToken`] when it is not a token of this query or does not hold a `K`.
    pub fn decode<K: DeserializeOwned>(
        token: &str,
        query_fingerprint: &[u8],
    ) -> Result<Option<K>, InvalidPageToken> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidPageToken)?;
        let (bound, key) = bytes.split_first_chunk().ok_or(InvalidPageToken)?;
        if *bound != binding(query_fingerprint) {
            return Err(InvalidPageToken);
        }
        // Keys come from the database, which keeps no NUL; one here was forged and would be refused there.
        if key.windows(6).any(|text| text == b"\\u0000") {
            return Err(InvalidPageToken);
        }
        serde_json::from_slice(key).map(Some).map_err(|_| InvalidPageToken)
    }
}

fn binding(query_fingerprint: &[u8]) -> [u8; BINDING_BYTES] {
    let digest: [u8; 32] = Sha256::digest(query_fingerprint).into();
    let (binding, _) = digest.split_first_chunk().expect("a digest is longer than a binding");
    *binding
}
