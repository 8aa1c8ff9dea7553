use proptest::prelude::*;

use super::{EmailAddress, EmailError};

fn canonical(text: &str) -> Result<String, EmailError> {
    EmailAddress::parse(text).map(|email| email.canonical().to_owned())
}

#[test]
fn only_the_case_of_ascii_letters_is_folded() {
    assert_eq!(
        canonical("Ada.Lovelace+Flights@Example.ORG").as_deref(),
        Ok("ada.lovelace+flights@example.org")
    );
    assert_eq!(EmailAddress::parse("Ada@Example.org").expect("an address").display(), "Ada@Example.org");
}

#[test]
fn letters_that_only_look_like_ascii_are_refused() {
    for local in ["\u{212a}elvin", "\u{131}da", "a\u{200b}da", "a\u{202e}da", "ａda", "ädа"] {
        assert_eq!(canonical(&format!("{local}@example.org")), Err(EmailError::Local), "{local:?}");
    }
    assert_eq!(canonical("ada@\u{212a}elvin.org"), Err(EmailError::Domain));
}

#[test]
fn an_international_domain_is_accepted_in_its_ascii_form() {
    assert_eq!(canonical("ada@XN--BCHER-KVA.example").as_deref(), Ok("ada@xn--bcher-kva.example"));
}

#[test]
fn each_rule_is_named() {
    let long = format!("{}@{}.org", "a".repeat(64), "b.".repeat(100));
    let cases = [
        (long.as_str(), EmailError::TooLong),
        ("ada.example.org", EmailError::NoAt),
        ("@example.org", EmailError::Local),
        (".ada@example.org", EmailError::Local),
        ("ada.@example.org", EmailError::Local),
        ("a..da@example.org", EmailError::Local),
        ("a da@example.org", EmailError::Local),
        ("a\0da@example.org", EmailError::Local),
        ("\"ada\"@example.org", EmailError::Local),
        ("a@b@example.org", EmailError::Local),
        ("ada@", EmailError::Domain),
        ("ada@localhost", EmailError::Domain),
        ("ada@example..org", EmailError::Domain),
        ("ada@-example.org", EmailError::Domain),
        ("ada@example-.org", EmailError::Domain),
        ("ada@example.org.", EmailError::Domain),
        ("ada@exa_mple.org", EmailError::Domain),
        ("ada@127.0.0.1", EmailError::Domain),
        ("ada@[127.0.0.1]", EmailError::Domain),
    ];
    for (text, error) in cases {
        assert_eq!(canonical(text), Err(error), "{text:?}");
    }
    assert_eq!(canonical(&format!("{}@example.org", "a".repeat(65))), Err(EmailError::Local));
    assert_eq!(canonical(&format!("ada@{}.org", "a".repeat(64))), Err(EmailError::Domain));
}

proptest! {
    #[test]
    fn the_canonical_form_is_its_own_canonical_form(text in "[A-Za-z.+]{1,20}@[A-Za-z-]{1,10}\\.[A-Za-z]{2,5}") {
        if let Ok(email) = EmailAddress::parse(&text) {
            prop_assert_eq!(canonical(email.canonical()), Ok(email.canonical().to_owned()));
        }
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused(text in "\\PC*") {
        if let Ok(email) = EmailAddress::parse(&text) {
            prop_assert!(email.canonical().is_ascii());
        }
    }
}
