use proptest::prelude::*;

use super::*;
use crate::era::headers_for;

fn message(text: &str) -> Message {
    Message::parse(text.to_owned()).unwrap()
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

#[test]
fn parameters_become_headers_where_the_schema_says_so() {
    let call = message(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"r":"eu\r\nX: 1","n":{"deep":7},"b":true,"z":1.5}}}"#,
    );
    let schema = serde_json::json!({"properties": {
        "r": {"x-mcp-header": "Region"}, "n": {"properties": {"deep": {"x-mcp-header": "Deep"}}},
        "b": {"x-mcp-header": "bad name"}, "absent": {"x-mcp-header": "Absent"}, "z": {"type": "number"},
    }});
    let made = headers_for(&call, Some(&schema)).unwrap();
    assert_eq!(decoded(&made["mcp-param-region"]).unwrap(), "eu\r\nX: 1");
    assert_eq!(made["mcp-param-deep"], "7");
    assert_eq!(made.len(), 5, "{made:?}");
}

#[test]
fn headers_of_arguments_are_held_against_them() {
    let schema = serde_json::json!({"properties": {"n": {"x-mcp-header": "N"}, "t": {"x-mcp-header": "T"}}});
    let call = message(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"n":42}}}"#,
    );
    for (given, good) in [
        (headers(&[("mcp-param-n", "42")]), true),
        (headers(&[("mcp-param-n", "42.0")]), true),
        (headers(&[("mcp-param-n", "=?base64?NDI=?=")]), true),
        (headers(&[("mcp-param-n", "42"), ("mcp-param-other", "x")]), true),
        (headers(&[]), false),
        (headers(&[("mcp-param-n", "43")]), false),
        (headers(&[("mcp-param-n", "=?base64?N?=")]), false),
        (headers(&[("mcp-param-n", "42"), ("mcp-param-t", "x")]), false),
    ] {
        assert_eq!(check(&given, &call, &schema).is_ok(), good, "{given:?}");
    }
}

fn call_with(arguments: &str) -> Message {
    message(&format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{arguments}}}}}"#
    ))
}

fn schema() -> Value {
    serde_json::json!({"properties": {
        "n": {"x-mcp-header": "N"}, "in": {"properties": {"t": {"x-mcp-header": "T"}}},
    }})
}

#[test]
fn arguments_that_cannot_be_read_without_doubt_are_refused() {
    let deep = format!(r#"{{"n":1,"x":{}{}}}"#, "[".repeat(130), "]".repeat(130));
    for arguments in [
        r#"{"n":1,"x":1e999}"#,
        r#"{"n":1e999}"#,
        r#"{"n":1,"x":"\ud800"}"#,
        r#"{"n":"\udc00"}"#,
        deep.as_str(),
        r#"{"n":1,"n":2}"#,
        r#"{"n":1,"\u006e":2}"#,
        r#"{"n":1,"x":1,"x":2}"#,
        r#"{"n":1,"in":{"t":"a","t":"b"}}"#,
        r#"{"n":1,"in":{},"in":{"t":"b"}}"#,
        r#"{"n":1,"N":2}"#,
        r#"{"n":1,"In":{"t":"b"}}"#,
        r#"{"n":1,"in":{"T":"b"}}"#,
    ] {
        let call = call_with(arguments);
        for given in [headers(&[]), headers(&[("mcp-param-n", "1")])] {
            assert!(check(&given, &call, &schema()).is_err(), "{arguments}");
        }
        assert_eq!(headers_for(&call, Some(&schema())), Err(Unreadable), "{arguments}");
        // A tool that asks for no headers accepts any arguments.
        assert!(headers_for(&call, Some(&serde_json::json!({"properties": {"n": {}}}))).is_ok());
    }
}

#[test]
fn arguments_are_compared_exactly() {
    for (argument, header, same) in [
        ("7", "7", true),
        ("7", "7.0", true),
        ("1e2", "100", true),
        ("7", "007", false),
        ("7", "+7", false),
        ("7", " 7", false),
        (r#""007""#, "7", false),
        (r#""007""#, "007", true),
        (r#""7""#, "7.0", false),
        (r#""1e2""#, "100", false),
        ("9007199254740993", "9007199254740992", false),
        ("9007199254740993", "9007199254740993", true),
        ("18446744073709551616", "18446744073709551617", false),
        ("0.1", "0.10000000000000000001", false),
        ("true", "true", true),
        ("true", "True", false),
        ("true", "1", false),
        ("1", "true", false),
        (r#""true""#, "true", true),
        (r#""\u0041""#, "A", true),
        (r#""NaN""#, "nan", false),
    ] {
        let call = call_with(&format!(r#"{{"n":{argument}}}"#));
        let given = HeaderValue::from_str(header).unwrap();
        let given = HeaderMap::from_iter([(HeaderName::from_static("mcp-param-n"), given)]);
        assert_eq!(check(&given, &call, &schema()).is_ok(), same, "{argument} {header}");
    }
    // For an absent, null or non-scalar argument the header must be absent too.
    for arguments in ["{}", r#"{"n":null}"#, r#"{"n":[1]}"#, r#"{"n":{}}"#, "[]", "null"] {
        assert!(check(&headers(&[]), &call_with(arguments), &schema()).is_ok(), "{arguments}");
        assert!(check(&headers(&[("mcp-param-n", "1")]), &call_with(arguments), &schema()).is_err());
    }
}

/// Values, some of which are easily confused with each other.
fn argument() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        (9_007_199_254_740_990_u64..9_007_199_254_741_000).prop_map(|number| number.to_string()),
        "[1-9][0-9]{0,25}(\\.0{1,3})?",
        "-?[0-9]\\.[0-9]{1,20}",
        any::<bool>().prop_map(|truth| truth.to_string()),
        any::<String>().prop_map(|text| Value::String(text).to_string()),
        "[0-9]{1,4}".prop_map(|text| Value::String(text).to_string()),
    ]
}

proptest! {
    #[test]
    fn a_header_that_is_made_of_an_argument_fits_it_and_no_other(one in argument(), other in argument()) {
        let (call, another) = (call_with(&format!(r#"{{"n":{one}}}"#)), call_with(&format!(r#"{{"n":{other}}}"#)));
        let made = headers_for(&call, Some(&schema())).unwrap();
        prop_assert!(check(&made, &call, &schema()).is_ok(), "{:?}", made);
        // A header does not carry the type: 7 and "7" have the same header.
        let text = |json: &str| match serde_json::from_str::<String>(json) {
            Ok(text) => text,
            Err(_) => Decimal::read(json).and_then(|number| number.plain()).unwrap_or(json.to_owned()),
        };
        let fits = check(&made, &another, &schema()).is_ok();
        if text(&one) == text(&other) {
            prop_assert!(fits, "{one} {other}");
        } else if !one.starts_with('"') || other.starts_with('"') {
            prop_assert!(!fits, "{one} {other}");
        }
    }

    #[test]
    fn any_text_survives_a_header(text in any::<String>()) {
        let header = encoded(&text);
        prop_assert_eq!(decoded(&header), Some(Cow::from(text)));
    }

    #[test]
    fn no_header_makes_the_check_panic(value in prop::collection::vec(32_u8..=255, 0..40), argument in argument()) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let given = HeaderMap::from_iter([(HeaderName::from_static("mcp-param-n"), value)]);
            let _ = check(&given, &call_with(&format!(r#"{{"n":{argument}}}"#)), &schema());
        }
    }
}
