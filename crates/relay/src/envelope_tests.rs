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
