//! Paths and queries: a naive matcher finds the same method and the same variables, and a query means what the same fields mean
//! in a JSON body.

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use serde_json::{Value, json};

use super::subject::difference;
use super::tree::{Tree, is_number, parse};
use super::upstream::{Answer, GATEWAY, Gateway};

/// Data: the path and the query of a request.
pub fn check(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    if uri.scheme().is_some() || uri.authority().is_some() || data.len() > 4000 {
        return;
    }
    let gateway = GATEWAY.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let query = uri.query().unwrap_or("").to_owned();
    if decoded(uri.path(), "", false).as_deref() == Some("/q") {
        check_query(&gateway, &query);
    } else if query.is_empty() {
        check_path(&gateway, uri.path());
    } else {
        get(&gateway, &uri.to_string());
    }
}

fn get(gateway: &Gateway, target: &str) -> Answer {
    gateway.answer_with(Vec::new(), Vec::new());
    gateway.send(Request::get(target).body(Bytes::new()).expect("a URI"))
}

/// Method, template, and for each variable its field and how many segments there are in front of it and in it (0: all the rest).
type Rule = (&'static str, &'static str, &'static [(&'static str, usize, usize)]);

/// The templates of `paths.proto`, without their variables.
const RULES: [Rule; 11] = [
    ("One", "v1/one/*", &[("name", 2, 1)]),
    ("Literal", "v1/one/literal", &[]),
    ("Verb", "v1/one/*:verb", &[("name", 2, 1)]),
    ("Many", "v1/many/**", &[("name", 2, 0)]),
    ("ManyVerb", "v1/many/**:verb", &[("name", 2, 0)]),
    ("Mixed", "v1/mixed/a/*/b/**", &[("name", 2, 0)]),
    ("Two", "v1/*/x/*", &[("name", 1, 1), ("other", 3, 1)]),
    ("Pair", "v1/pair/x/*/*", &[("name", 2, 2), ("other", 4, 1)]),
    ("Number", "v1/number/*", &[("number", 2, 1)]),
    ("Nested", "v1/nested/*", &[("child.name", 2, 1)]),
    ("Rest", "v1/**", &[]),
];

fn check_path(gateway: &Gateway, path: &str) {
    let answer = get(gateway, path);
    let Some(raw) = path.strip_prefix('/') else { return };
    if decoded(path, "", false).is_none() {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        return;
    }
    let segments: Vec<&str> = raw.split('/').collect();
    let verb = raw
        .rsplit_once(':')
        .filter(|(_, verb)| decoded(verb, "", false).as_deref() == Some("verb"))
        .map(|(rest, _)| rest)
        .filter(|rest| !rest.is_empty() && !rest.ends_with('/'));
    let cut: Option<Vec<&str>> = verb.map(|rest| rest.split('/').collect());
    let with_verb = cut.as_ref().and_then(|segments| best(segments, true).map(|rule| (rule, segments)));
    let found = with_verb.or_else(|| best(&segments, false).map(|rule| (rule, &segments)));
    let Some(((method, _, variables), segments)) = found.filter(|_| !segments.contains(&"")) else {
        assert!(answer.method.is_none(), "{path} is {:?}", answer.method);
        return;
    };
    let mut expected = json!({});
    for (field, from, count) in *variables {
        let to = if *count == 0 { segments.len() } else { from + count };
        let keep = if *count == 1 { "/" } else { ":/?#[]@!$&'()*+,;=" };
        let value = decoded(&segments[(*from).min(to)..to].join("/"), keep, false).expect("decoded before");
        match *field {
            "number" => {
                match super::reference::integer(&value).ok().and_then(|number| i32::try_from(number).ok()) {
                    Some(0) => {}
                    Some(number) => expected["number"] = json!(number),
                    None => {
                        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
                        return;
                    }
                }
            }
            "child.name" => {
                expected["child"] = if value.is_empty() { json!({}) } else { json!({"name": value}) }
            }
            _ if value.is_empty() => {}
            field => expected[field] = json!(value),
        }
    }
    assert_eq!(answer.method.as_deref(), Some(*method), "{path}");
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(difference("", &body, &expected), None, "{path}");
}

/// The most specific rule: literal before `*` before `**`, from left to right.
fn best(segments: &[&str], verb: bool) -> Option<&'static Rule> {
    let matching = RULES.iter().filter_map(|rule| {
        let (template, has_verb) = rule.1.strip_suffix(":verb").map_or((rule.1, false), |rest| (rest, true));
        (has_verb == verb).then_some(())?;
        let parts: Vec<&str> = template.split('/').collect();
        let mut rank = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            match *part {
                "**" => {
                    rank.push(2);
                    return Some((rank, rule));
                }
                "*" => {
                    segments.get(at)?;
                    rank.push(1);
                }
                literal => {
                    (decoded(segments.get(at)?, "", false)? == literal).then_some(())?;
                    rank.push(0);
                }
            }
        }
        (parts.len() == segments.len()).then_some((rank, rule))
    });
    matching.min_by(|(left, _), (right, _)| left.cmp(right)).map(|(_, rule)| rule)
}

/// Percent-decoding, except of the bytes in `keep`; `None` for a malformed escape and for what is not UTF-8.
fn decoded(text: &str, keep: &str, query: bool) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        if first == b'%' {
            let digits =
                rest.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            let byte = u8::from_str_radix(digits, 16).ok()?;
            if keep.as_bytes().contains(&byte) {
                bytes.extend_from_slice(&rest.as_bytes()[..3]);
            } else {
                bytes.push(byte);
            }
            rest = &rest[3..];
        } else {
            let letter = rest.chars().next()?;
            let plain = if query && letter == '+' { ' ' } else { letter };
            bytes.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[letter.len_utf8()..];
        }
    }
    String::from_utf8(bytes).ok()
}

/// How many names a parameter's name may join.
const NAME_DEPTH_MAX: usize = 32;

/// The query as the JSON body that says the same; `None` when it says nothing that a body could.
fn as_body(query: &str) -> Option<Tree> {
    let mut body = Tree::Object(Vec::new());
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (name, value) = (decoded(name, "", true)?, decoded(value, "", true)?);
        let (path, key) = match name.strip_suffix(']').and_then(|open| open.split_once('[')) {
            Some((path, key)) => (path, Some(key)),
            None => (&*name, None),
        };
        let (parents, field) =
            path.rsplit_once('.').map_or((None, path), |(parents, field)| (Some(parents), field));
        (path.split('.').count() <= NAME_DEPTH_MAX).then_some(())?;
        let mut object = &mut body;
        for parent in parents.into_iter().flat_map(|parents| parents.split('.')) {
            (parent == "child").then_some(())?;
            object = member(object, "child", Tree::Object(Vec::new()))?;
        }
        let leaf = match (field, key) {
            ("counts" | "byNumber" | "by_number", Some(_)) => Tree::Text(value),
            ("child" | "counts" | "byNumber" | "by_number", None) | (_, Some(_)) => return None,
            ("flag", None) => Tree::Bool(value.parse().ok()?),
            ("kind", None) if is_number(&value) => Tree::Number(value),
            ("value", None) => parse(&value)?,
            // In a body null is no struct at all; a parameter must be one.
            ("struct", None) => parse(&value).filter(|tree| *tree != Tree::Null)?,
            _ => Tree::Text(value),
        };
        // Two names for one field: the body must be refused for a key twice, as the query is.
        match (field, key) {
            ("numbers" | "texts", _) => {
                let Tree::List(list) = member(object, field, Tree::List(Vec::new()))? else { return None };
                list.push(leaf);
            }
            (_, Some(key)) => {
                let map = if field == "counts" { "counts" } else { "byNumber" };
                let Tree::Object(entries) = member(object, map, Tree::Object(Vec::new()))? else {
                    return None;
                };
                entries.push((key.to_owned(), leaf));
            }
            (field, None) => {
                let Tree::Object(members) = object else { return None };
                members.push((field.to_owned(), leaf));
            }
        }
    }
    Some(body)
}

/// The member of this name, added when there is none.
fn member<'t>(object: &'t mut Tree, name: &str, absent: Tree) -> Option<&'t mut Tree> {
    let Tree::Object(members) = object else { return None };
    let at = members.iter().position(|(key, _)| key == name).unwrap_or_else(|| {
        members.push((name.to_owned(), absent));
        members.len() - 1
    });
    Some(&mut members[at].1)
}

fn check_query(gateway: &Gateway, query: &str) {
    let answer = get(gateway, &format!("/q?{query}"));
    let Some(body) = as_body(query) else {
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        return;
    };
    let text = body.to_string();
    let request =
        Request::post("/echo").header("content-type", "application/json").body(Bytes::from(text.clone()));
    let expected = gateway.send(request.expect("valid"));
    assert_eq!(answer.status, expected.status, "{query} and {text}: {answer:?} and {expected:?}");
    if answer.status == StatusCode::OK {
        let json = |answer: &Answer| -> Value { serde_json::from_slice(&answer.body).expect("JSON") };
        assert_eq!(difference("", &json(&answer), &json(&expected)), None, "{query} and {text}");
    }
}
