//! What may be written only once, or not at all.
//!
//! A plain search over the code without its `//` comments: crude, and enough for names that have no other meaning here.

use std::path::Path;

use super::files;

/// Directories that deal in money.
const MONEY: [&str; 3] = ["bookings", "payments", "proto"];

/// Whether a file is compiled for tests and benchmarks only.
fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches")
}

/// The line up to its comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// The words of a line: letters, digits and underscores.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// `path:line: text` of every line of code that `wanted` picks, in files that `chosen` picks.
fn lines(
    extension: &str,
    chosen: impl Fn(&Path, &str) -> bool,
    wanted: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files("", extension) {
        if !chosen(&path, &text) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if wanted(code(line)) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    found
}

/// Whether the line calls `jsonwebtoken::decode`, by its full name or as an imported function; not some other `decode`.
fn calls_decode(line: &str) -> bool {
    line.match_indices("decode").any(|(at, name)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let is_call = after.starts_with('(') || after.starts_with("::<");
        let is_function = before.ends_with("jsonwebtoken::")
            || !before.ends_with(|c: char| c.is_alphanumeric() || "_.:".contains(c));
        is_call && is_function && !before.trim_end().ends_with("fn")
    })
}

#[test]
fn the_search_tells_a_token_decoder_from_others() {
    for yes in
        ["let x = decode::<Claims>(token, key, rules)?;", "jsonwebtoken::decode(a, b, c)", "(decode(a))"]
    {
        assert!(calls_decode(yes), "{yes}");
    }
    for no in [
        "hex::decode(text)",
        "message.decode(buffer)",
        "fn decode(text: &str)",
        "insecure_decode(x)",
        "decode_header(x)",
    ] {
        assert!(!calls_decode(no), "{no}");
    }
}

#[test]
fn tokens_are_decoded_in_one_place() {
    let uses_tokens = |path: &Path, text: &str| !is_test(path) && text.contains("jsonwebtoken");

    let sites = lines("rs", uses_tokens, calls_decode);
    assert!(matches!(&sites[..], [only] if only.starts_with("mesh/src/token")), "{sites:#?}");
    let unverified = lines("rs", uses_tokens, |line| words(line).any(|word| word == "insecure_decode"));
    assert!(unverified.is_empty(), "{unverified:#?}");
}

#[test]
fn passwords_are_hashed_in_one_place() {
    let uses_argon2 = |path: &Path, text: &str| !is_test(path) && words(text).any(|word| word == "argon2");
    let hashes = |line: &str| {
        let called = words(line).any(|word| word.starts_with("hash_password") || word == "fill_memory");
        called && line.contains('(') && !words(line).any(|word| word == "fn")
    };

    let sites = lines("rs", uses_argon2, hashes);
    assert!(matches!(&sites[..], [only] if only.starts_with("identity/src/password")), "{sites:#?}");
}

#[test]
fn no_float_comes_near_money() {
    let deals_in_money = |path: &Path, _: &str| MONEY.iter().any(|directory| path.starts_with(directory));
    let forbidden =
        |floats: &'static [&str]| move |line: &str| words(line).any(|word| floats.contains(&word));

    let mut found = lines("rs", deals_in_money, forbidden(&["f32", "f64", "as_f64", "as_f32"]));
    found.extend(lines("proto", deals_in_money, forbidden(&["float", "double"])));
    found.extend(lines("sql", deals_in_money, |line| {
        words(&line.to_lowercase())
            .any(|word| ["real", "float", "float4", "float8", "double"].contains(&word))
    }));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_test_is_switched_off() {
    let attribute = concat!("#[", "ignore");
    let found = lines("rs", |_, _| true, |line| line.contains(attribute));

    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_test_sleeps() {
    let sleeping = [concat!("thread::", "sleep"), concat!("time::", "sleep("), concat!("time::", "sleep;")];
    let found =
        lines("rs", |path, _| is_test(path), |line| sleeping.iter().any(|sleep| line.contains(sleep)));

    assert!(found.is_empty(), "{found:#?}");
}
