use super::{Password, PasswordError};

fn chosen(text: &str) -> Result<(), PasswordError> {
    Password::chosen(text.to_owned()).map(drop)
}

#[test]
fn length_is_counted_in_code_points_of_the_normal_form() {
    assert_eq!(chosen("1234567"), Err(PasswordError::TooShort));
    assert_eq!(chosen("12345678"), Ok(()));
    // Eight key strokes of two code points each, four after normalisation together with the accent.
    assert_eq!(chosen("e\u{301}e\u{301}e\u{301}e\u{301}"), Err(PasswordError::TooShort));
    assert_eq!(chosen(&"x".repeat(128)), Ok(()));
    assert_eq!(chosen(&"x".repeat(129)), Err(PasswordError::TooLong));
    assert_eq!(chosen(&"🛫".repeat(128)), Ok(()));
}

#[test]
fn composed_and_decomposed_letters_are_one_password() {
    let composed = Password::presented("caf\u{e9} at night".to_owned());
    let decomposed = Password::presented("cafe\u{301} at night".to_owned());
    assert_eq!(composed.as_bytes(), decomposed.as_bytes());
}

#[test]
fn nothing_is_trimmed_or_folded() {
    assert_eq!(Password::presented(" Secret\0 ".to_owned()).as_bytes(), b" Secret\0 ");
}

#[test]
fn debug_shows_nothing() {
    let shown = format!("{:?}", Password::presented("correct horse".to_owned()));
    assert!(!shown.contains("horse"), "{shown}");
}
