//! Under which licences the crates we build on may stand.

use super::built_packages;

/// Licences that ask for no more than a notice, by their SPDX identifiers.
const ALLOWED: [&str; 9] =
    ["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "ISC", "MIT", "Unicode-3.0", "Zlib"];

/// Whether an SPDX expression can be met by [`ALLOWED`] licences. An exception (`WITH …`) only adds permissions.
///
/// Source: SPDX specification, annex D; `/` is cargo's older way to write OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = any(&mut words);
    allowed && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(words: &mut Words<'_>) -> bool {
    let mut allowed = all(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all(words);
    }
    allowed
}

fn all(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let allowed = any(words);
        return words.next() == Some(")") && allowed;
    }
    let allowed = words.next().is_some_and(|licence| ALLOWED.contains(&licence));
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    allowed
}

#[test]
fn licence_expressions_are_read_as_written() {
    for allowed in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "(MIT OR GPL-3.0) AND Zlib",
        "Apache-2.0 WITH LLVM-exception",
        "ISC AND (Apache-2.0 OR ISC OR MIT-0)",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 AND (MIT OR Zlib)", "MIT GPL-3.0", "(MIT"] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

#[test]
fn every_dependency_stands_under_a_licence_that_asks_only_for_a_notice() {
    let packages = built_packages("normal,build,dev", "{l}");
    let refused: Vec<_> = packages.iter().filter(|(.., licence)| !is_allowed(licence)).collect();

    assert!(refused.is_empty(), "{refused:#?}");
}
