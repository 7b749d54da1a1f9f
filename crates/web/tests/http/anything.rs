//! Requests that nobody thought of.

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN};
use http::{HeaderName, HeaderValue, Uri};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::support::World;

/// A path: of ours, nearly ours, or anything that a client can put on the line.
fn path() -> impl Strategy<Value = String> {
    let ours: Vec<_> = trustrelay_web::routes().iter().map(|route| route.path).collect();
    let segment = prop_oneof![
        Just("self".to_owned()),
        Just("0197f4a2-7e1c-7c4e-9a53-1f0e6a1b2c3d".to_owned()),
        "[a-z]{0,8}",
        "(%[0-9a-f]{2}){1,4}",
        "[!-\"$-;=@-_a-z{-~]{0,12}",
    ];
    let query = prop_oneof![Just(String::new()), "\\?[!-\"$-;=?-_a-z{-~]{0,20}"];
    (prop::sample::select(ours), segment, query).prop_map(|(route, segment, query)| {
        let path = route.replace("{pat_id}", &segment).replace("{name}", &segment);
        format!("{path}{query}")
    })
}

fn header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
    let names =
        ["accept", "host", "sec-fetch-site", "x-request-id", "mcp-session-id", "content-length", "te"];
    let names = names.map(HeaderName::from_static);
    let name =
        prop::sample::select([names.as_slice(), &[AUTHORIZATION, COOKIE, CONTENT_TYPE, ORIGIN]].concat());
    let text = prop_oneof![
        Just(b"application/json".to_vec()),
        Just(b"application/x-www-form-urlencoded".to_vec()),
        Just(b"text/html, text/event-stream, application/json".to_vec()),
        "Bearer (tr_pat_)?[0-9A-Za-z]{0,40}".prop_map(String::into_bytes),
        "session=[!-~]{0,44}".prop_map(String::into_bytes),
        prop::collection::vec(prop_oneof![Just(b'\t'), 32..=126u8, 128..=255u8], 0..40),
    ];
    (name, text).prop_map(|(name, text)| (name, HeaderValue::from_bytes(&text).expect("a value")))
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let names =
        ["pat_name", "pat_scope", "email", "password", "token", "expires_in_days", "expires_at", "scope"];
    let fields = || prop::sample::select(names.to_vec());
    let values = prop::sample::select(vec!["1", "null", "\"mcp\"", "\"a@b\"", "[]", "-1e999", "\"", "{}"]);
    let json = (fields(), values, fields())
        .prop_map(|(one, value, two)| format!("{{\"{one}\":{value},\"{two}\":\"mcp\"}}"));
    let form = (fields(), "[a-z%0-9+]{0,12}", fields())
        .prop_map(|(one, value, two)| format!("{one}={value}&{two}=mcp"));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        json.prop_map(String::into_bytes),
        form.prop_map(String::into_bytes)
    ]
}

/// Each answer is checked for its shape, its headers, and that the document describes it.
#[test]
fn whatever_is_asked_is_answered_as_promised_and_never_with_a_failure_of_ours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let world = runtime.block_on(World::new());
    let session = runtime.block_on(world.browser());
    let token = runtime.block_on(world.token("mcp api tokens"));
    let method = prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"]);
    let request = (method, path(), prop::collection::vec(header(), 0..4), body(), 0..3u8);
    // The same requests each time: what fails here fails for everybody.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(&request, |(method, path, headers, body, who)| {
        if path.parse::<Uri>().is_err() {
            return Ok(());
        }
        let call = match who {
            0 => world.call(method, &path),
            1 => world.call(method, &path).session(&session),
            _ => world.call(method, &path).bearer(&token),
        };
        let answer = runtime.block_on(call.headers(headers).with(body).send());
        prop_assert!(!answer.status.is_server_error(), "{answer}");
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
