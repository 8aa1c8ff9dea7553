//! Regular expressions: which of them OpenAPI may show, and texts that they match.

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

/// How often the sampler repeats what may be repeated without end.
const REPEAT_MAX: u32 = 256;

/// What the members of a UUID are often written as; a sample of it should look like one.
const UUID_CLASS: &str = "[0-9a-f-]{36}";
pub(super) const UUID: &str = "0198c0de-5e7a-7c3b-9d21-6f4e8a1b2c3d";

/// Whether a pattern of RE2, which `buf.validate` uses, means the same in ECMA-262, which JSON Schema uses.
///
/// Left out are groups with flags or names, classes by name, and escapes that only one of the two has.
pub(super) fn portable(pattern: &str) -> bool {
    if Regex::new(pattern).is_err() || pattern.contains("[[:") {
        return false;
    }
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next().unwrap_or('\0');
                if !"dDwWsSbBnrtfv^$\\.*+?()[]{}|/-".contains(escaped) {
                    return false;
                }
            }
            '(' if characters.peek() == Some(&'?') => {
                characters.next();
                if characters.next() != Some(':') {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

/// Whether the pattern matches somewhere in the text; false when it is no regular expression.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}

/// A text that the pattern matches, of at least `length_min` and at most `length_max` characters where that can be had.
pub(super) fn sample(pattern: &str, length_min: usize, length_max: usize) -> Option<String> {
    let fits =
        |text: &String| (length_min..=length_max).contains(&text.chars().count()) && matches(pattern, text);
    let with_uuid = pattern.replace(UUID_CLASS, UUID);
    for candidate in [with_uuid.as_str(), pattern] {
        let hir = regex_syntax::parse(candidate).ok()?;
        let repeats = [1, 0, u32::try_from(length_min).unwrap_or(0)];
        for repeat in repeats {
            let mut text = String::new();
            put(&hir, repeat, &mut text);
            if fits(&text) {
                return Some(text);
            }
        }
    }
    None
}

fn put(hir: &Hir, repeat: u32, out: &mut String) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => out.extend(member(class, 0)),
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(REPEAT_MAX).min(REPEAT_MAX);
            let times = repeat.clamp(repetition.min.min(most), most);
            for index in 0..times {
                match repetition.sub.kind() {
                    HirKind::Class(class) => out.extend(member(class, index)),
                    HirKind::Empty
                    | HirKind::Look(_)
                    | HirKind::Literal(_)
                    | HirKind::Repetition(_)
                    | HirKind::Capture(_)
                    | HirKind::Concat(_)
                    | HirKind::Alternation(_) => put(&repetition.sub, repeat, out),
                }
            }
        }
        HirKind::Capture(capture) => put(&capture.sub, repeat, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| put(part, repeat, out)),
        HirKind::Alternation(parts) => {
            if let Some(first) = parts.first() {
                put(first, repeat, out);
            }
        }
    }
}

/// A member of a class: a letter or a digit when it has one, another for each `index`.
fn member(class: &Class, index: u32) -> Option<char> {
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => {
            class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
        }
        Class::Bytes(class) => {
            class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
        }
    };
    let within = |first: char, last: char| {
        let (first, last) = (u32::from(first), u32::from(last));
        ranges
            .iter()
            .map(move |(start, end)| ((*start).max(first), (*end).min(last)))
            .find(|(start, end)| start <= end)
    };
    let plain = within('a', 'z').or_else(|| within('A', 'Z')).or_else(|| within('0', '9'));
    let (start, end) = plain.or_else(|| within(' ', '~')).or_else(|| ranges.first().copied())?;
    char::from_u32(start + index % (end - start + 1))
}

#[cfg(test)]
mod tests;
