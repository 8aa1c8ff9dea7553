//! The rules of the `ProtoJSON` specification that `zoo.proto` cannot show: proto2, groups, extensions, colliding names, and every
//! kind of map. The codec alone, over `nasty.proto`.

use crate::fuzz::subject::NASTY;

/// What the transcoder prints of what it read.
fn there_and_back(text: &str) -> String {
    let wire = NASTY.wire_of(text).unwrap_or_else(|why| panic!("{why}: {text}"));
    NASTY.json_of(&wire).unwrap_or_else(|why| panic!("{why}: {text}"))
}

fn refused(text: &str) -> String {
    NASTY.wire_of(text).expect_err(text)
}

/// JSON of wire bytes that are in hexadecimal.
fn printed(hex: &str) -> Result<String, &'static str> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    NASTY.json_of(&digits.chunks(2).map(byte).collect::<Vec<u8>>())
}

#[test]
fn groups_are_objects_under_their_field_name() {
    let text = r#"{"one":{"inner":1,"nasty":{"needed":2},"deep":[{"leaf":"x"},{}]},"many":[{"count":-1},{}],"picked":{"yes":true}}"#;
    assert_eq!(there_and_back(text), text);
    assert_eq!(printed("4b 0801 4c"), Ok(r#"{"one":{"inner":1}}"#.to_owned()));
    for (wire, what) in [
        ("4b 0801", "without an end"),
        ("4b 0801 54", "ended by another field"),
        ("4a 02 0801", "with a length instead of tags"),
        ("4c", "ended before it began"),
    ] {
        assert!(printed(wire).is_err(), "a group {what}");
    }
}

#[test]
fn the_pieces_of_a_split_message_merge_and_those_of_a_group_too() {
    assert_eq!(
        printed("4b 0801 4c 0805 4b 1b 0a0161 1c 4c"),
        Ok(r#"{"needed":5,"one":{"inner":1,"deep":[{"leaf":"a"}]}}"#.to_owned())
    );
    // The oneof's last member wins, and what it merges with is its own earlier piece only when nothing came between.
    assert_eq!(
        printed("7202 0801 7202 1002"),
        Ok(r#"{"pickedNasty":{"needed":1,"withDefault":2}}"#.to_owned())
    );
    assert_eq!(
        printed("7202 0801 6202 6162 7202 1002"),
        Ok(r#"{"pickedNasty":{"withDefault":2}}"#.to_owned())
    );
}

#[test]
fn the_last_of_a_singular_scalar_wins_and_those_before_it_must_be_valid() {
    assert_eq!(printed("0801 0802"), Ok(r#"{"needed":2}"#.to_owned()));
    assert!(printed("1a01ff 1a0161").is_err(), "a string that is not UTF-8, overridden");
    // The same inside of messages that have a form of their own: wrapper, Timestamp, Any, map entry.
    assert!(printed("9201 06 0a01ff 0a0161").is_err());
    assert!(printed("8a01 04 0a00 0801").is_err());
    assert!(printed("ba03 04 0801 0a00").is_err());
    assert!(printed("f201 07 0a01ff 0a0161 1000").is_err());
    assert_eq!(printed("9201 06 0a0161 0a0162"), Ok(r#"{"pickedWrapper":"b"}"#.to_owned()));
    assert_eq!(printed("8a01 04 0801 0802"), Ok(r#"{"pickedTime":"1970-01-01T00:00:02Z"}"#.to_owned()));
}

#[test]
fn a_map_entry_without_a_key_or_a_value_has_their_defaults() {
    assert_eq!(printed("f201 00"), Ok(r#"{"byString":{"":"SECOND"}}"#.to_owned()));
    assert_eq!(printed("f201 02 1000"), Ok(r#"{"byString":{"":"ZERO"}}"#.to_owned()));
    assert_eq!(printed("fa01 00"), Ok(r#"{"byBool":{"false":null}}"#.to_owned()));
    assert_eq!(printed("9a02 00"), Ok(r#"{"byFixed32":{"0":{}}}"#.to_owned()));
    assert_eq!(printed("c202 00"), Ok(r#"{"byFixed64":{"0":[]}}"#.to_owned()));
    assert!(printed("c202 02 0801").is_err(), "a key of another wire type");
}

#[test]
fn a_key_is_printed_once_however_the_wire_writes_it() {
    // byUint32: 0 by its absence, 0 in two bytes, 2^32; byBool: true as 1 and as 2.
    assert_eq!(
        printed("8a02 00 8a02 03 088000 8a02 06 088080808010"),
        Ok(r#"{"byUint32":{"0":{}}}"#.to_owned())
    );
    assert_eq!(printed("fa01 02 0801 fa01 02 0802"), Ok(r#"{"byBool":{"true":null}}"#.to_owned()));
}

#[test]
fn maps_have_keys_of_every_kind() {
    let text = concat!(
        r#"{"byString":{"":"ZERO","a":"SECOND"},"byBool":{"true":null,"false":[1.0]},"byInt32":{"-2147483648":null},"#,
        r#""byUint32":{"4294967295":{}},"bySint32":{"-5":"-0.000000001s"},"byFixed32":{"4294967295":{"needed":1}},"#,
        r#""bySfixed32":{"-7":"NaN"},"byInt64":{"9223372036854775807":"AQ=="},"byUint64":{"18446744073709551615":{"a":{}}},"#,
        r#""bySint64":{"-9223372036854775808":"x"},"byFixed64":{"1":[null,true]},"bySfixed64":{"-1":""}}"#
    );
    assert_eq!(there_and_back(text), text);
    for wrong in [
        r#"{"byBool":{"1":null}}"#,
        r#"{"byBool":{"True":null}}"#,
        r#"{"byInt32":{"":null}}"#,
        r#"{"byInt32":{" 1":null}}"#,
        r#"{"byInt32":{"+1":null}}"#,
        r#"{"byInt32":{"01":null}}"#,
        r#"{"byInt32":{"2147483648":null}}"#,
        r#"{"byUint32":{"-1":{}}}"#,
        r#"{"bySint64":{"1.5":""}}"#,
        r#"{"byUint64":{"18446744073709551616":{}}}"#,
        r#"{"bySint64":{"1":"a","1e0":"b"}}"#,
        r#"{"bySint64":{"1":null}}"#,
        r#"{"bySint64":[]}"#,
    ] {
        refused(wrong);
    }
}

#[test]
fn extensions_are_members_named_by_their_full_name_in_brackets() {
    let text = concat!(
        r#"{"[nasty.v1.number]":1,"[nasty.v1.texts]":["a","b"],"[nasty.v1.nested]":{"needed":1},"[nasty.v1.grouped]":{"leaf":3},"#,
        r#""[nasty.v1.Nasty.inside]":"ZERO","[nasty.v1.Nasty.packed_inside]":["1","-2"],"[nasty.v1.time]":"2024-02-29T00:00:00Z"}"#
    );
    assert_eq!(there_and_back(text), text);
    assert_eq!(refused(r#"{"[nasty.v1.none]":1}"#), "[nasty.v1.none]: is not a field of the request");
    assert_eq!(refused(r#"{"nasty.v1.number":1}"#), "nasty.v1.number: is not a field of the request");
    assert!(refused(r#"{"[nasty.v1.number]":1,"[nasty.v1.number]":1}"#).contains("is given twice"));
    // A member of another message's.
    refused(r#"{"modern":{"[nasty.v1.number]":1}}"#);
}

#[test]
fn a_json_name_wins_over_the_proto_name_of_another_field() {
    // crossed_over (20) has the JSON name over_crossed, and the other way round.
    assert_eq!(NASTY.wire_of(r#"{"over_crossed":1,"crossed_over":2}"#), Ok(vec![0xa0, 1, 1, 0xa8, 1, 2]));
    let text = r#"{"over_crossed":1,"crossed_over":2,"oddName":3,"UPPER":4,"say \"hi\" \\ é":"q"}"#;
    assert_eq!(there_and_back(text), text);
    assert_eq!(there_and_back(r#"{"odd__name_":3}"#), r#"{"oddName":3}"#);
    assert!(refused(r#"{"oddName":3,"odd__name_":3}"#).contains("is given twice"));
}

#[test]
fn fields_of_proto2_are_printed_when_they_are_there_and_their_defaults_are_not_made_up() {
    assert_eq!(
        there_and_back(r#"{"withDefault":0,"text":"","kind":"ZERO"}"#),
        r#"{"withDefault":0,"text":"","kind":"ZERO"}"#
    );
    assert_eq!(printed(""), Ok("{}".to_owned()));
}

#[test]
fn the_first_declared_of_several_names_of_an_enum_value_is_printed() {
    assert_eq!(
        there_and_back(r#"{"kinds":["ALSO_TWO",2,"SECOND",-2147483648,2147483647,3]}"#),
        r#"{"kinds":["SECOND","SECOND","SECOND","LEAST","GREATEST",3]}"#
    );
    for wrong in [r#""second""#, r#""""#, r#""2""#, "2147483648", "1.5", "true", "[]", "1e10"] {
        refused(&format!(r#"{{"kind":{wrong}}}"#));
    }
    assert_eq!(there_and_back(r#"{"kind":2.0}"#), r#"{"kind":"SECOND"}"#);
}

#[test]
fn null_value_is_null_by_whatever_form() {
    let text = r#"{"nothing":null,"nothings":[null,null,null],"byInt32":{"0":null},"pickedNull":null}"#;
    assert_eq!(
        there_and_back(
            r#"{"nothing":"NULL_VALUE","nothings":[null,"NULL_VALUE",0],"byInt32":{"0":null},"pickedNull":null}"#
        ),
        text
    );
    for wrong in ["1", "\"null\"", "false", "{}"] {
        refused(&format!(r#"{{"nothing":{wrong}}}"#));
    }
}

#[test]
fn null_is_an_absent_field_of_every_kind_and_no_element_of_any_other() {
    for field in [
        "needed",
        "text",
        "blob",
        "kind",
        "loose",
        "tight",
        "kinds",
        "one",
        "many",
        "picked",
        "pickedText",
        "pickedNasty",
        "pickedTime",
        "pickedWrapper",
        "byString",
        "byBool",
        "byInt32",
        "nothings",
        "structs",
        "lists",
        "anys",
        "bools",
        "[nasty.v1.number]",
        "[nasty.v1.texts]",
    ] {
        assert_eq!(there_and_back(&format!(r#"{{"{field}":null}}"#)), "{}", "{field}");
    }
    assert_eq!(there_and_back(r#"{"pickedValue":null}"#), r#"{"pickedValue":null}"#);
    assert_eq!(there_and_back(r#"{"modern":{"values":[null]}}"#), r#"{"modern":{"values":[null]}}"#);
    assert_eq!(
        there_and_back(r#"{"pickedText":null,"pickedKind":"ZERO","pickedTime":null}"#),
        r#"{"pickedKind":"ZERO"}"#
    );
    refused(r#"{"pickedNull":null,"pickedText":"x"}"#);
    for list in
        ["loose", "tight", "kinds", "many", "structs", "lists", "anys", "bools", "masks", "[nasty.v1.texts]"]
    {
        assert!(refused(&format!(r#"{{"{list}":[null]}}"#)).contains("must not be null"), "{list}");
    }
    for map in ["byString", "bySint32", "byFixed32", "byUint32", "byInt64", "byUint64", "byFixed64"] {
        let key = if map == "byString" { "k" } else { "1" };
        assert!(refused(&format!(r#"{{"{map}":{{"{key}":null}}}}"#)).contains("must not be null"), "{map}");
    }
}

#[test]
fn an_any_nests_and_takes_its_members_in_any_order() {
    let text = r#"{"anys":[{"@type":"a/nasty.v1.Nasty","needed":1,"[nasty.v1.number]":2},{"@type":"t/google.protobuf.Any","value":{"@type":"t/google.protobuf.Value","value":null}},{}]}"#;
    assert_eq!(there_and_back(text), text);
    assert_eq!(
        there_and_back(
            r#"{"anys":[{"value":{"value":{"a":1},"@type":"t/google.protobuf.Struct"},"@type":"t/google.protobuf.Any"}]}"#
        ),
        r#"{"anys":[{"@type":"t/google.protobuf.Any","value":{"@type":"t/google.protobuf.Struct","value":{"a":1.0}}}]}"#
    );
    for wrong in [
        r#"{"@type":""}"#,
        r#"{"@type":"nasty.v1.Nasty"}"#,
        r#"{"@type":"t/nasty.v1.Nasty","@type":"t/nasty.v1.Nasty"}"#,
        r#"{"@type":1}"#,
        r#"{"@type":null}"#,
        r#"{"@type":"t/nasty.v1.Nasty","value":{}}"#,
        r#"{"@type":"t/google.protobuf.Duration","value":"1s","value":"1s"}"#,
        r#"{"@type":"t/google.protobuf.Duration","value":null}"#,
        r#"{"@type":"t/google.protobuf.Duration","value":"1s","other":1}"#,
    ] {
        refused(&format!(r#"{{"anys":[{wrong}]}}"#));
    }
}

#[test]
fn an_any_around_empty_is_read_with_and_without_a_value() {
    let canonical = r#"{"anys":[{"@type":"t/google.protobuf.Empty"}]}"#;
    assert_eq!(there_and_back(canonical), canonical);
    assert_eq!(there_and_back(r#"{"anys":[{"@type":"t/google.protobuf.Empty","value":{}}]}"#), canonical);
    refused(r#"{"anys":[{"@type":"t/google.protobuf.Empty","value":1}]}"#);
    refused(r#"{"anys":[{"@type":"t/google.protobuf.Empty","other":{}}]}"#);
}

#[test]
fn a_message_that_has_no_json_is_refused_from_the_wire() {
    for (wire, what) in [
        ("8a01 06 0880fa8ed8af07", "a Timestamp past 9999"),
        ("8a01 0b 10ffffffffffffffffff01", "a Timestamp of -1 ns"),
        ("8a01 06 108094ebdc03", "a Timestamp of 1,000,000,000 ns"),
        ("d203 0d 0801 10ffffffffffffffffff01", "a Duration of two signs"),
        ("d203 07 0881bcaece9709", "a Duration too long"),
        ("ca03 03 0a0141", "a FieldMask path with a capital"),
        ("ca03 05 0a03615f31", "a FieldMask path with a digit behind `_`"),
        ("ca03 06 0a04615f5f62", "a FieldMask path with two `_`"),
        ("ca03 04 0a02615f", "a FieldMask path that ends with `_`"),
        ("ca03 02 0a00", "an empty FieldMask path"),
        ("7a 09 11000000000000f07f", "a Value of infinity"),
        ("7a 09 11000000000000f87f", "a Value of NaN"),
        ("1a 02 c328", "a string that is not UTF-8"),
        ("1a 03 eda080", "a string with a surrogate"),
    ] {
        let got = printed(wire);
        assert!(got.is_err(), "{what}: {got:?}");
    }
    assert_eq!(printed("ca03 07 0a05615f622e63"), Ok(r#"{"masks":["aB.c"]}"#.to_owned()));
    assert_eq!(printed("7a 00"), Ok(r#"{"pickedValue":null}"#.to_owned()));
}

#[test]
fn a_value_without_json_that_a_later_piece_overrides_is_not_part_of_the_message() {
    for (wire, json, what) in [
        ("8a01 06 108094ebdc03 6801", r#"{"pickedKind":1}"#, "a Timestamp, by another of the oneof"),
        ("8a01 06 108094ebdc03 8a01 02 1000", r#"{"pickedTime":"1970-01-01T00:00:00Z"}"#, "the nanos of one"),
        ("7a 09 11000000000000f87f 7a 02 2001", r#"{"pickedValue":true}"#, "a Value of NaN, by another kind"),
        (
            "fa01 0d 0801 12 09 11000000000000f07f fa01 06 0801 12 02 2001",
            r#"{"byBool":{"true":true}}"#,
            "a Value of infinity, by another of the same key",
        ),
        ("72 09 8a01 06 108094ebdc03 6801", r#"{"pickedKind":1}"#, "what has one inside"),
        ("72 0b 8a01 06 108094ebdc03 6801", r#"{"pickedNasty":{"pickedKind":1}}"#, "one inside"),
    ] {
        assert_eq!(printed(wire).as_deref(), Ok(json), "{what}");
    }
    // The same packed into an Any, and into an Any in an Any.
    let any = |packed: &[u8]| {
        let name = "/nasty.v1.Nasty";
        let mut wire = Vec::new();
        put(&mut wire, 1, name.as_bytes());
        put(&mut wire, 2, packed);
        wire
    };
    let field = |any: &[u8]| {
        let mut wire = Vec::new();
        put(&mut wire, 55, any);
        wire
    };
    let overridden = [0x8a, 1, 6, 0x10, 0x80, 0x94, 0xeb, 0xdc, 0x03, 0x68, 0x01];
    assert_eq!(
        NASTY.json_of(&field(&any(&field(&any(&overridden))))).as_deref(),
        Ok(r#"{"anys":[{"@type":"/nasty.v1.Nasty","anys":[{"@type":"/nasty.v1.Nasty","pickedKind":1}]}]}"#)
    );
}

#[test]
fn messages_in_pieces_packed_one_into_the_other_take_no_longer_with_every_level() {
    // At each level a field in two pieces behind the Any with the next one: twice the work a level would be 2^40 times.
    let mut wire = vec![0x08, 1];
    for _ in 0..40 {
        let mut any = Vec::new();
        put(&mut any, 1, b"/nasty.v1.Nasty");
        put(&mut any, 2, &wire);
        wire.clear();
        put(&mut wire, 55, &any);
        wire.extend([0x08, 1, 0x08, 2]);
    }
    let text = NASTY.json_of(&wire).unwrap();
    assert_eq!(text.matches(r#""needed":2"#).count(), 40, "{text}");
}

/// Appends a field of bytes.
fn put(wire: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    prost::encoding::bytes::encode(number, &bytes.to_vec(), wire);
}

#[test]
fn numbers_are_exact_in_every_form() {
    assert_eq!(
        there_and_back(
            r#"{"loose":[1e2,"1.0",-0,"-0",0e999999999999999999999,2147483647.0,"-2147483648e0",21474836470e-1,0.0]}"#
        ),
        r#"{"loose":[100,1,0,0,0,2147483647,-2147483648,2147483647,0]}"#
    );
    assert_eq!(
        there_and_back(
            r#"{"sfixed64s":["9223372036854775807",-9223372036854775808,9.223372036854775807e18,9007199254740993]}"#
        ),
        r#"{"sfixed64s":["9223372036854775807","-9223372036854775808","9223372036854775807","9007199254740993"]}"#
    );
    assert_eq!(
        there_and_back(r#"{"doubles":[-0.0,1e-7,1.7976931348623157e308,5e-324]}"#),
        r#"{"doubles":[-0.0,1e-7,1.7976931348623157e+308,5e-324]}"#
    );
    for wrong in [
        "1e-1",
        "0.1",
        "\"\"",
        "\" 1\"",
        "\"1 \"",
        "\"01\"",
        "\"+1\"",
        "\"1e\"",
        "\"0x1\"",
        "\"NaN\"",
        "\"Infinity\"",
        "2147483648",
        "1e999999999999999999999",
        "null",
        "[1]",
        "\"1\\u0000\"",
    ] {
        refused(&format!(r#"{{"loose":[{wrong}]}}"#));
    }
    for wrong in [
        "1e309",
        "-1e309",
        "\"1e309\"",
        "\"inf\"",
        "\"nan\"",
        "\"+Infinity\"",
        "\"infinity\"",
        "\".5\"",
        "\"1.\"",
        "\"\"",
    ] {
        refused(&format!(r#"{{"doubles":[{wrong}]}}"#));
    }
    for wrong in ["3.4028236e38", "-3.5e38", "1e39", "\"1e39\""] {
        refused(&format!(r#"{{"floats":[{wrong}]}}"#));
    }
}

#[test]
fn strings_take_any_scalar_value_and_no_lone_surrogate() {
    assert_eq!(
        there_and_back(r#"{"text":"\u0000\ud83d\ude00\uffff\/\u007F"}"#),
        "{\"text\":\"\\u0000😀\u{ffff}/\u{7f}\"}"
    );
    for wrong in [
        r"\ud800",
        r"\udc00",
        r"\ud800\ud800",
        r"\ud800x",
        r"\ud83d\u0041",
        r"\ude00\ud83d",
        r"\U0041",
        r"\u004",
        r"\u00g1",
        r"\'",
        r"\x41",
        r"\",
        "\t",
        "\u{0}",
    ] {
        refused(&format!(r#"{{"text":"{wrong}"}}"#));
    }
}

#[test]
fn a_request_as_deep_as_the_limit_is_read_and_one_level_more_is_not() {
    let nested =
        |levels: usize| format!("{}{}{}", r#"{"child":"#.repeat(levels - 1), "{}", "}".repeat(levels - 1));
    assert!(NASTY.wire_of(&nested(100)).is_ok());
    assert_eq!(refused(&nested(101)).rsplit(": ").next(), Some("nested too deep"));
    let anys = |levels: usize| {
        let open = r#"{"@type":"t/google.protobuf.Any","value":"#.repeat(levels);
        format!(r#"{{"anys":[{open}{{}}{}]}}"#, "}".repeat(levels))
    };
    assert!(NASTY.wire_of(&anys(50)).is_ok());
    assert!(refused(&anys(200)).ends_with("nested too deep"));
}

#[test]
fn a_reply_nested_deeper_than_a_request_may_be_is_refused() {
    let nested = |levels: usize| {
        let mut wire = Vec::new();
        for _ in 0..levels {
            let mut outer = vec![0x82, 4];
            prost::encoding::encode_varint(u64::try_from(wire.len()).unwrap(), &mut outer);
            outer.extend_from_slice(&wire);
            wire = outer;
        }
        NASTY.json_of(&wire)
    };
    // Inside the outermost.
    assert!(nested(99).is_ok());
    assert_eq!(nested(100), Err("nested too deep"));
    assert!(nested(1000).is_err());
    // Unless it is overridden, and so no part of the message.
    let inside = |tag: &[u8], content: &[u8]| {
        let mut wire = tag.to_vec();
        prost::encoding::encode_varint(u64::try_from(content.len()).unwrap(), &mut wire);
        wire.extend_from_slice(content);
        wire
    };
    // `modern.children`, each in a list, as `pickedNasty`.
    let children = (0..60).fold(Vec::new(), |wire, _| inside(&[0x82, 2], &wire));
    let picked = inside(&[0x72], &inside(&[0x92, 3], &children));
    assert_eq!(NASTY.json_of(&picked), Err("nested too deep"));
    let other = inside(&[0x62], b"x");
    assert_eq!(NASTY.json_of(&[picked, other].concat()), Ok(r#"{"pickedText":"x"}"#.to_owned()));
    // Groups that nobody knows, which are skipped by recursion.
    let groups = |levels: usize| {
        let mut wire = [0xc3, 0x3e].repeat(levels);
        wire.extend_from_slice(&[0xc4, 0x3e].repeat(levels));
        NASTY.json_of(&wire)
    };
    assert_eq!(groups(100), Ok("{}".to_owned()));
    assert!(groups(1_000_000).is_err());
}

#[test]
fn names_of_enum_values_that_are_not_known_are_discarded_with_unknown_fields() {
    let codec =
        transcoder::codec::Codec::new(NASTY.descriptor.parent_pool()).unwrap().ignore_unknown_fields(true);
    let read = |text: &str| {
        let mut wire = Vec::new();
        codec.json_to_wire(NASTY.message, text, &mut wire).map(|()| NASTY.json_of(&wire).unwrap())
    };
    assert_eq!(
        read(
            r#"{"kind":"NEW","kinds":["NEW","ZERO","NEWER"],"byString":{"a":"NEW","b":"ZERO"},"needed":1,"unknown":{}}"#
        ),
        Ok(r#"{"kinds":["ZERO"],"byString":{"b":"ZERO"},"needed":1}"#.to_owned())
    );
    assert_eq!(
        read(r#"{"kinds":["NEW"],"pickedKind":"NEW","pickedText":"x"}"#),
        Ok(r#"{"pickedText":"x"}"#.to_owned())
    );
    assert!(read(r#"{"kind":1.5}"#).is_err(), "only names are discarded");
    assert!(read(r#"{"byFixed32":{"x":{}}}"#).is_err());
    assert!(read(r#"{"kind":"NEW","kind":"ZERO"}"#).is_err());
}
