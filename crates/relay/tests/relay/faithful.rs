//! `/mcp/NAME` preserves every byte, whatever the bytes are.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::kit::fake::{as_json, stream};
use crate::kit::{Client, Era, Eras, Fake, http, principal, relay};

/// The text of a JSON value, in any spelling: numbers beyond every range, all kinds of escapes,
/// unpaired surrogates, odd whitespace.
fn value() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,5})?",
        Just("123456789012345678901234567890".to_owned()),
        Just("1e400".to_owned()),
        Just("-0.0".to_owned()),
    ];
    let piece = prop_oneof![
        "[a-zA-Z0-9 é漢😀\u{2028}\u{2029}\u{feff}\u{7f}]{0,12}",
        Just(r"\ud800".to_owned()),
        Just(r"\udfff\ud83d".to_owned()),
        Just(r"\u2028\u0000\/\\".to_owned()),
        Just(r#"\"\n\r\t\b\f"#.to_owned()),
        Just("data: x".to_owned()),
    ];
    let string = prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()));
    let leaf = prop_oneof![number, string.clone(), Just("null".to_owned()), Just("true".to_owned())];
    let space = prop_oneof![Just(""), Just(" "), Just("\t ")];
    leaf.prop_recursive(12, 64, 4, move |inner| {
        let members = prop::collection::vec((string.clone(), inner.clone(), space.clone()), 0..4);
        prop_oneof![
            prop::collection::vec((inner, space.clone()), 0..4).prop_map(|items| {
                let items: Vec<_> = items.iter().map(|(item, space)| format!("{space}{item}")).collect();
                format!("[{}]", items.join(","))
            }),
            members.prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(key, value, space)| format!("{space}{key}{space}:{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A response with unknown members besides its result.
fn response() -> impl Strategy<Value = String> {
    (value(), value(), any::<bool>()).prop_map(|(result, extra, first)| {
        let id = if first { r#""id":7, "jsonrpc" : "2.0""# } else { r#""jsonrpc":"2.0","id":7"# };
        format!(r#"{{{id},"extra":{extra}, "result":{result}}}"#)
    })
}

#[test]
fn whatever_an_upstream_answers_comes_out_byte_for_byte() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _here = runtime.enter();
    let (say, said) = tokio::sync::watch::channel((String::new(), false));
    let fake =
        runtime.block_on(Fake::gated(Eras::Both, move |seen| {
            let (text, streams) = said.borrow().clone();
            async move {
                seen.body.contains("verbatim").then(|| if streams { stream(text) } else { as_json(text) })
            }
        }));
    let relay = relay(vec![http("up", &fake)]);
    let clients = runtime.block_on(async {
        let principal = principal("mcp");
        [
            Client::of(&relay, &principal, Some("up"), Era::Session).await,
            Client::stateless(&relay, &principal, Some("up")),
        ]
    });
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    runner
        .run(&response(), |text| {
            for streams in [false, true] {
                let sent = match streams {
                    true => format!(": odd\r\nid: 1\nevent: message\ndata: {text}\n\n"),
                    false => text.clone(),
                };
                say.send((sent.clone(), streams)).unwrap();
                for client in &clients {
                    let body = client.message(&json!(7), "tools/call", &json!({"name": "verbatim"}));
                    let came = runtime.block_on(async {
                        let answer = client.post(&body).await;
                        let whole = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
                        String::from_utf8(whole.to_bytes().to_vec()).unwrap()
                    });
                    prop_assert_eq!(&came, &sent, "{:?}", client.era);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn over_a_pipe_every_byte_but_the_id_comes_out() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _here = runtime.enter();
    for (eras, era) in [(Eras::Session, Era::Session), (Eras::Stateless, Era::Stateless)] {
        let children = runtime.block_on(crate::kit::Children::new(eras));
        let relay = relay(vec![children.config("up")]);
        let client = runtime.block_on(Client::of(&relay, &principal("mcp"), Some("up"), era));
        let mut runner =
            TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
        runner
            .run(&(value(), value()), |(result, extra)| {
                let raw = format!(r#""extra":{extra}, "result":{result}"#);
                let params = json!({"name": "verbatim", "arguments": {"raw": raw}});
                let body = client.message(&json!("mine"), "tools/call", &params);
                let came = runtime.block_on(async {
                    let answer = client.post(&body).await;
                    let whole = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
                    String::from_utf8(whole.to_bytes().to_vec()).unwrap()
                });
                prop_assert_eq!(came, format!(r#"{{"jsonrpc":"2.0","id":"mine",{raw}}}"#));
                Ok(())
            })
            .unwrap();
    }
}

#[tokio::test]
async fn depth_and_length_pass_as_they_are() {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let long = format!("\"{}\"", "é".repeat(1 << 20));
    for value in [deep, long] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{value}}}"#);
        let sent = text.clone();
        let fake = Fake::gated(Eras::Both, move |seen| {
            let text = text.clone();
            async move { seen.body.contains("verbatim").then(|| as_json(text)) }
        })
        .await;
        let relay = relay(vec![http("up", &fake)]);
        let client = Client::stateless(&relay, &principal("mcp"), Some("up"));
        let body = client.message(&json!(7), "tools/call", &json!({"name": "verbatim"}));
        let whole = http_body_util::BodyExt::collect(client.post(&body).await.into_body()).await.unwrap();
        assert!(whole.to_bytes() == sent.as_bytes());
    }
}
