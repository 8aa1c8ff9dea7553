use super::*;

#[test]
fn a_sample_matches_its_pattern() {
    for (pattern, length_min, expected) in [
        ("^[A-Z]{3}$", 0, "ABC"),
        ("^cities/[a-z0-9-]{2,63}$", 0, "cities/ab"),
        ("^(airports/[A-Z]{3})?$", 0, "airports/ABC"),
        ("^[1-9][0-9]{0,2}[A-Z]$", 0, "10A"),
        ("^[a-z]+$", 5, "abcde"),
        ("^flights/[0-9a-f-]{36}$", 0, "flights/0198c0de-5e7a-7c3b-9d21-6f4e8a1b2c3d"),
        ("^(red|green)$", 0, "red"),
    ] {
        assert_eq!(sample(pattern, length_min, usize::MAX).as_deref(), Some(expected), "{pattern}");
    }
    assert_eq!(sample("^[a-z]{3}$", 4, 9), None, "no such text");
    assert_eq!(sample("(", 0, 9), None, "no regular expression");
}

#[test]
fn what_only_re2_understands_is_not_shown() {
    for pattern in ["^[a-z]+(-[a-z]+)*$", r"^\d{3}\.\w$", "(?:a|b)", "^[A-Za-z0-9._-]+$"] {
        assert!(portable(pattern), "{pattern}");
    }
    for pattern in ["(?i)abc", r"\Aabc\z", r"^\pL$", "(?P<name>a)", "[[:alpha:]]", "("] {
        assert!(!portable(pattern), "{pattern}");
    }
}
