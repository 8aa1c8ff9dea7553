use bytes::Bytes;
use proptest::prelude::*;

use super::{Fault, Form, Splitter};

/// The messages of a body that comes in pieces of these sizes, over and over, and how it ended.
fn split(form: Form, limit: usize, body: &[u8], sizes: &[usize]) -> (Vec<Vec<u8>>, Option<Fault>) {
    let mut splitter = Splitter::new(form, limit);
    let mut found = Vec::new();
    let mut rest = Bytes::copy_from_slice(body);
    let mut sizes = sizes.iter().cycle();
    loop {
        match splitter.next() {
            Ok(Some(item)) => found.push(item.to_vec()),
            Ok(None) if rest.is_empty() => break,
            Ok(None) => {
                let size = sizes.next().copied().unwrap_or(usize::MAX).min(rest.len());
                splitter.push(rest.split_to(size));
            }
            Err(fault) => return (found, Some(fault)),
        }
    }
    match splitter.finish() {
        Ok(last) => {
            found.extend(last.map(|item| item.to_vec()));
            (found, None)
        }
        Err(fault) => (found, Some(fault)),
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        r#"[a-z\[\]{},:"\\\n\u{e9}\u{1f600}]{0,12}"#.prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map("[a-z\",]{0,4}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..20_usize, 1..8)
}

/// Bytes that come near an array or lines.
fn near_json() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&b"[[]]{},,\"\\\n \r1a\xff"[..]), 0..40)
}

proptest! {
    #[test]
    fn every_message_is_found_however_the_body_is_cut(
        values in prop::collection::vec(json(), 0..6),
        cuts in sizes(),
        space in "[ \n\r\t]{0,3}",
    ) {
        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        let lines = texts.join("\r\n");
        let separator = format!("{space},{space}");
        let array = format!("{space}[{space}{}{space}]{space}", texts.join(&separator));
        for (form, body) in [(Form::Lines, lines), (Form::Array, array)] {
            let (found, fault) = split(form, 1 << 20, body.as_bytes(), &cuts);
            prop_assert_eq!(fault, None);
            let found: Vec<serde_json::Value> =
                found.iter().map(|item| serde_json::from_slice(item)).collect::<Result<_, _>>()?;
            prop_assert_eq!(&found, &values);
        }
    }

    #[test]
    fn where_a_body_is_cut_makes_no_difference(body in near_json(), cuts in sizes(), limit in 0..20_usize) {
        for form in [Form::Lines, Form::Array] {
            let whole = split(form, limit, &body, &[usize::MAX]);
            prop_assert!(whole.0.iter().all(|item| item.len() <= limit));
            prop_assert_eq!(split(form, limit, &body, &cuts), whole);
        }
    }

    #[test]
    fn raw_bytes_stay_as_they_are(body in prop::collection::vec(any::<u8>(), 0..100), cuts in sizes(), limit in 1..20_usize) {
        let (found, fault) = split(Form::Raw, limit, &body, &cuts);
        prop_assert_eq!(fault, None);
        prop_assert!(!found.is_empty() && found.iter().all(|item| item.len() <= limit));
        prop_assert_eq!(found.concat(), body);
    }
}
