use proptest::prelude::*;

use super::{RefreshToken, SessionKey};
use crate::domain::SessionId;

fn key(byte: u8) -> SessionKey {
    SessionKey::new(&[byte; SessionKey::LENGTH]).expect("the right length")
}

#[test]
fn the_same_session_and_counter_give_the_same_token() {
    let session = SessionId::generate();
    let text = RefreshToken::new(session, 3, &key(1)).to_text();

    assert_eq!(RefreshToken::new(session, 3, &key(1)).to_text(), text);
    assert_ne!(RefreshToken::new(session, 4, &key(1)).to_text(), text);
    assert_ne!(RefreshToken::new(session, 3, &key(2)).to_text(), text);
    assert_ne!(RefreshToken::new(SessionId::generate(), 3, &key(1)).to_text(), text);
}

#[test]
fn a_token_is_genuine_only_under_its_key() {
    let session = SessionId::generate();
    let read =
        RefreshToken::parse(&RefreshToken::new(session, 7, &key(1)).to_text()).expect("the form is right");

    assert_eq!((read.session(), read.counter()), (session, 7));
    assert!(read.is_genuine(&key(1)));
    assert!(!read.is_genuine(&key(2)));
}

#[test]
fn the_form_is_pinned() {
    let session = SessionId::from(uuid::Uuid::from_bytes([7; 16]));
    let text = RefreshToken::new(session, 1, &key(9)).to_text();

    // base64url of 16 bytes of 7, then 1 as eight bytes, then the MAC.
    assert!(text.starts_with("art1.BwcHBwcHBwcHBwcHBwcHBwAAAAAAAAAB"), "{text}");
    assert_eq!(text.len(), "art1.".len() + 75);
}

#[test]
fn what_is_not_of_the_form_is_refused() {
    let good = RefreshToken::new(SessionId::generate(), 1, &key(1)).to_text();
    let cases = [
        String::new(),
        "art1.".to_owned(),
        good.replace("art1.", "art2."),
        good.replace("art1.", ""),
        format!("{good}="),
        format!("{good}AAAA"),
        good[..good.len() - 4].to_owned(),
        format!(" {good}"),
    ];
    for text in cases {
        assert_eq!(RefreshToken::parse(&text), None, "{text}");
    }
}

#[test]
fn debug_shows_no_mac() {
    let token = RefreshToken::new(SessionId::generate(), 1, &key(1));
    assert!(!format!("{token:?}").contains("mac"));
}

proptest! {
    #[test]
    fn any_changed_byte_makes_it_false(at in 0_usize..75, replacement in "[A-Za-z0-9_-]") {
        let text = RefreshToken::new(SessionId::generate(), 5, &key(1)).to_text();
        let at = at + "art1.".len();
        let mut changed = text.clone();
        changed.replace_range(at..=at, &replacement);
        prop_assume!(changed != text);

        prop_assert!(RefreshToken::parse(&changed).is_none_or(|token| !token.is_genuine(&key(1))));
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        prop_assert!(RefreshToken::parse(&text).is_none());
    }
}
