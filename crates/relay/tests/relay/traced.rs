//! A client's trace continues upstream: in the headers of HTTP requests, and in the `_meta` of
//! messages that the relay writes.

use http::HeaderValue;
use serde_json::{Value, json};

use crate::kit::{Client, Era, Log, Place, Transport, Whole};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";

/// Calls a tool within the trace that these headers and this `_meta` name.
async fn call(client: &Client, headers: &[(&'static str, &str)], meta: &Value) -> Whole {
    let mut params = json!({"name": client.tool("echo"), "arguments": {"n": 1}});
    if !meta.is_null() {
        params["_meta"] = meta.clone();
    }
    let body = client.message(&json!(3), "tools/call", &params);
    let mut request = client.request(http::Method::POST, &body);
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_str(value).unwrap());
    }
    crate::kit::Live::of(client.send(request).await).whole().await
}

/// Returns the trace of the last call that reached an upstream, from its headers and from its
/// `_meta`.
fn heard(log: &Log) -> (Value, Value) {
    let all = log.all();
    let seen = all.iter().rev().find(|seen| seen.body.contains("tools/call")).expect("a call");
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    let mut found = (json!({}), json!({}));
    for name in ["traceparent", "tracestate", "baggage"] {
        let values: Vec<_> = seen.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        if !values.is_empty() {
            found.0[name] = json!(values.join(","));
        }
        if let Some(value) = body["params"]["_meta"].get(name) {
            found.1[name] = value.clone();
        }
    }
    found
}

/// Returns whether a request is passed on byte for byte.
fn is_raw(place: &Place) -> bool {
    place.at.is_some()
        && place.transport == Transport::Http
        && place.asks_statelessly() == (place.client == Era::Stateless)
}

#[tokio::test]
async fn a_trace_of_the_headers_goes_on_in_the_headers_and_in_what_the_relay_writes() {
    for place in Place::all() {
        let world = place.begin().await;
        let headers =
            [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2"), ("baggage", "k=v")];
        // The body names another trace, which must not become part of this one.
        let meta = json!({"traceparent": OTHER, "tracestate": "o=1", "mine": [1]});
        assert_eq!(call(&world.client, &headers, &meta).await.done(), r#"done {"n":1}"#);
        let trace = json!({"traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "k=v"});
        let given = json!({"traceparent": OTHER, "tracestate": "o=1"});
        let (in_headers, in_meta) = heard(&world.log);
        if place.transport == Transport::Http {
            assert_eq!(in_headers, trace, "{place:?}");
        }
        assert_eq!(in_meta, if is_raw(&place) { given } else { trace }, "{place:?}");
        assert!(world.log.has(r#""mine":[1]"#), "{place:?}: {:?}", world.log.bodies());
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn a_trace_of_the_body_goes_on_where_the_headers_name_none() {
    for place in Place::all() {
        let world = place.begin().await;
        let meta = json!({"traceparent": PARENT, "tracestate": "a=1", "baggage": "k=v"});
        call(&world.client, &[("tracestate", "of=none")], &meta).await;
        let (in_headers, in_meta) = heard(&world.log);
        if place.transport == Transport::Http && !is_raw(&place) {
            assert_eq!(in_headers, meta, "{place:?}");
        }
        assert_eq!(in_meta, meta, "{place:?}");
        world.relay.shutdown().await;
    }
}

#[tokio::test]
async fn without_a_trace_none_is_made_and_what_is_none_is_left_out() {
    for place in Place::all() {
        let world = place.begin().await;
        for meta in [
            Value::Null,
            json!({"progressToken": 1}),
            // These values do not fit into a header.
            json!({"traceparent": 7}),
            json!({"baggage": "k=\r\nx-other: 1"}),
            json!({"baggage": "k".repeat(8193)}),
        ] {
            assert_eq!(call(&world.client, &[], &meta).await.done(), r#"done {"n":1}"#);
            let (in_headers, in_meta) = heard(&world.log);
            assert_eq!(in_headers, json!({}), "{place:?}: {meta}");
            // The client's own members of `_meta` are preserved.
            let mut own = meta.clone();
            own.as_object_mut().map(|own| own.remove("progressToken"));
            assert_eq!(in_meta, if own.is_null() { json!({}) } else { own }, "{place:?}");
        }
        world.relay.shutdown().await;
    }
}
