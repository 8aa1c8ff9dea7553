//! Page sizes and page tokens.

use mesh::pagination::{InvalidPageToken, PageToken, page_size};

type Key = (String, i64);

#[test]
fn a_page_without_a_size_has_fifty_items_and_none_has_more_than_a_thousand() {
    assert_eq!([0, 1, 1000, 1001, i32::MAX, -1].map(page_size), [50, 1, 1000, 1000, 1000, 1]);
}

#[test]
fn the_empty_token_is_the_first_page() {
    assert_eq!(PageToken::decode::<Key>("", b"flights"), Ok(None));
}

#[test]
fn a_token_gives_back_the_key_of_its_query() {
    let key: Key = ("2026-11-21T08:00:00Z".to_owned(), 7);
    let token = PageToken::encode(&key, b"flights");
    assert_eq!(PageToken::decode(&token, b"flights"), Ok(Some(key)));
    assert!(
        token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'),
        "{token}"
    );
}

#[test]
fn a_token_of_another_query_is_refused() {
    let token = PageToken::encode(&("a", 1), b"state = CONFIRMED");
    assert_eq!(PageToken::decode::<Key>(&token, b"state = CANCELLED"), Err(InvalidPageToken));
}

#[test]
fn a_forged_key_that_no_database_keeps_is_refused() {
    let token = PageToken::encode(&("a\0", 1), b"flights");
    assert_eq!(PageToken::decode::<Key>(&token, b"flights"), Err(InvalidPageToken));
}

#[test]
fn what_is_no_token_of_ours_is_refused() {
    let token = PageToken::encode(&("a", 1), b"flights");
    let cut = &token[..token.len() - 2];
    for wrong in ["!", "AAAA", "a b", cut, "é"] {
        assert_eq!(PageToken::decode::<Key>(wrong, b"flights"), Err(InvalidPageToken), "{wrong}");
    }
    assert_eq!(PageToken::decode::<u8>(&token, b"flights"), Err(InvalidPageToken), "another type of key");
}
