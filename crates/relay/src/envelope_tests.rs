use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn parse(text: &str) -> Message {
    Message::parse(text.to_owned()).unwrap()
}

#[test]
fn a_renamed_call_keeps_every_other_byte() {
    let m = parse(
        r#"{"jsonrpc":"2.0", "id" : 1e2,"method":"tools/call","x":[ 1 ],"params":{"a":123456789012345678901234567890, "name":"up__t","z":{"k":1.0}}}"#,
    );
    assert_eq!(
        m.with(Some("7"), &[("name", "\"t\"")]),
        r#"{"jsonrpc":"2.0", "id" : 7,"method":"tools/call","x":[ 1 ],"params":{"a":123456789012345678901234567890, "name":"t","z":{"k":1.0}}}"#
    );
}

#[test]
fn parameters_are_added_where_there_are_none() {
    for (text, expected) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#,
            r#"{"params":{"_meta":{}},"jsonrpc":"2.0","id":1,"method":"x"}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{}}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{ "a":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{}, "a":1}}"#,
        ),
    ] {
        assert_eq!(parse(text).with_param("_meta", "{}"), expected);
    }
}

#[test]
fn what_two_readers_would_read_differently_is_refused() {
    for bad in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","me\u0074hod":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        "[]",
        "1",
    ] {
        assert_eq!(crate::judge::read(bad.to_owned()).err().unwrap().code, INVALID_REQUEST, "{bad}");
    }
    for bad in ["", "{", "{} {}", "nonsense"] {
        assert_eq!(Message::parse(bad.to_owned()).unwrap_err().code, PARSE_ERROR, "{bad}");
    }
}

#[test]
fn an_id_is_the_same_in_any_spelling() {
    assert!(is_same_id("7", "7.0") && is_same_id("1e2", "100") && is_same_id(r#""a\u0062""#, r#""ab""#));
    assert!(!is_same_id("7", "\"7\"") && !is_same_id("7", "8") && !is_same_id("null", "\"null\""));
}

#[test]
fn many_members_are_still_told_apart() {
    let many: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
    let text = |extra: &str| format!(r#"{{"jsonrpc":"2.0","method":"x",{}{extra}}}"#, many.join(","));
    assert!(Message::parse(text("")).is_ok());
    assert!(Message::parse(text(r#","k3":0"#)).is_err());
}

#[test]
fn ids_are_compared_exactly() {
    assert!(!is_same_id("9007199254740993", "9007199254740992"));
    assert!(is_same_id("9007199254740993", "9007199254740993.0"));
    assert!(!is_same_id("18446744073709551615", "18446744073709551614"));
}

#[test]
fn ids_that_not_every_reader_hands_back_are_refused() {
    for (id, good) in [
        ("1e999", false),
        ("1.5", false),
        ("-1e-1", false),
        ("18446744073709551616", false),
        ("123456789012345678901234567890", false),
        (r#""\ud800""#, false),
        ("null", false),
        ("18446744073709551615", true),
        ("-9223372036854775808", true),
        ("7.0", true),
        ("1e2", true),
        (r#""\ud83d\ude00""#, true),
        (r#""""#, true),
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        assert_eq!(Message::parse(text).is_ok(), good, "{id}");
    }
}

#[test]
fn a_result_says_that_it_failed_in_any_spelling() {
    for (result, failed) in [
        (r#"{"isError":true}"#, true),
        (r#"{"is\u0045rror":true}"#, true),
        (r#"{"\u0069s\u0045rror" : true}"#, true),
        (r#"{"isError":false,"isError":true}"#, true),
        (r#"{"isError":true,"isError":false}"#, true),
        (r#"{"isError":false}"#, false),
        (r#"{"content":[{"text":"\"isError\":true \u00e9"}]}"#, false),
        (r#"{"content":{"isError":true}}"#, false),
        (r#""\u0045""#, false),
        ("{}", false),
    ] {
        let response = parse(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#));
        assert_eq!(response.has_failed(), failed, "{result}");
    }
}

/// JSON of any kind, including constructs that parsers treat differently: repeated names, escapes,
/// big numbers, whitespace.
fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|truth| truth.to_string()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        any::<String>().prop_map(|text| Value::String(text).to_string()),
        Just(r#""\u0041\ud83d\ude00\n""#.to_owned()),
    ];
    scalar.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            members(inner),
        ]
    })
}

fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "jsonrpc",
        "id",
        "method",
        "params",
        "result",
        "error",
        "name",
        "uri",
        "_meta",
        "x",
        "m\\u0065thod",
        "\\u0069d",
        "Method",
        "N\\u0061me",
        "_Meta",
        "isError",
    ]);
    prop::collection::vec((name, value), 0..6).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
        format!("{{ {} }}", members.join(",\t"))
    })
}

/// Texts that are often valid messages and otherwise nearly valid ones.
fn text() -> impl Strategy<Value = String> {
    let id = prop_oneof![Just("7".to_owned()), Just("\"a\"".to_owned()), json()];
    let params = prop_oneof![members(json()), json()];
    let method = prop_oneof![Just("\"tools\\/call\"".to_owned()), json()];
    prop_oneof![
        (id, method, params, members(json())).prop_map(|(id, method, params, more)| {
            let more = more.trim_matches(['{', ' ', '}']).to_owned();
            let more = if more.is_empty() { more } else { format!(",{more}") };
            format!(r#" {{"jsonrpc":"2.0", "id":{id},"method" :{method},"params": {params} {more}}} "#)
        }),
        members(json()),
        json(),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn a_message_is_read_as_serde_json_reads_it(text in text()) {
        let Ok(crate::judge::Judged { message, .. }) = crate::judge::read(text.clone()) else { return Ok(()) };
        let Ok(value) = serde_json::from_str::<Value>(&text) else {
            // `serde_json` refuses numbers beyond the range of a float, so there is nothing to
            // compare.
            return Ok(());
        };
        let read = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        prop_assert_eq!(value["jsonrpc"].as_str(), Some("2.0"));
        prop_assert_eq!(value["method"].as_str().unwrap_or_default(), message.method());
        prop_assert_eq!(&value["id"], &read(message.id()));
        prop_assert_eq!(message.result().map(read), value.get("result").cloned());
        prop_assert_eq!(message.error().map(read), value.get("error").cloned());
        for name in ["name", "uri", "_meta", "x"] {
            prop_assert_eq!(message.param(name).map(read), value["params"].get(name).cloned());
        }
        let mut changed = value;
        if message.is_request() {
            changed["id"] = 99.into();
        }
        if !message.is_response() {
            changed["params"]["name"] = "other".into();
            let made = message.with(Some("99"), &[("name", "\"other\"")]);
            prop_assert_eq!(read(&made), changed);
        }
        prop_assert_eq!(message.text(), text);
    }
}
