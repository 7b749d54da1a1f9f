//! Holds each answer against what the OpenAPI document says of it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use http::{Method, StatusCode};
use jsonschema::Validator;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Answer;

/// The document, as the program has it.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(trustrelay_web::openapi);

type Schemas = HashMap<String, Arc<Validator>>;
static SCHEMAS: LazyLock<Mutex<Schemas>> = LazyLock::new(Mutex::default);

/// Fails where the document does not describe the answer, or describes another.
pub(crate) fn check(answer: &Answer, method: &Method, path: &str) {
    let asked = if method == Method::HEAD { &Method::GET } else { method };
    let Some((template, operation)) = operation(asked, path) else {
        // No operation: a path or a method that is not there, a page, or MCP.
        return;
    };
    let status = answer.status.as_str();
    let described = &operation["responses"][status];
    assert!(
        described.is_object(),
        "{method} {path} answers {status}, which its document does not know: {answer}"
    );
    if method == Method::HEAD {
        assert!(answer.text.is_empty(), "HEAD {path} has a body");
        return;
    }
    if described.get("content").is_none() {
        assert!(
            answer.text.is_empty() && answer.kind().is_empty(),
            "{method} {path} {status} has a body: {answer}"
        );
        return;
    }
    let schema = &described["content"][answer.kind()]["schema"];
    assert!(schema.is_object(), "{method} {path} answers {status} as {}", answer.kind());
    let key = format!("{asked} {template} {status}");
    let validator = SCHEMAS.lock().entry(key).or_insert_with(|| Arc::new(compiled(schema))).clone();
    let body = if answer.kind() == "application/json" { answer.json() } else { json!(answer.text) };
    let wrong: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
    assert!(
        wrong.is_empty(),
        "{method} {path} answers {status} otherwise than described: {wrong:?}\n{answer}"
    );
    for name in ["www-authenticate", "retry-after"] {
        let is_named = described["headers"]
            .as_object()
            .is_some_and(|headers| headers.keys().any(|known| known.eq_ignore_ascii_case(name)));
        assert!(
            is_named || answer.header(name).is_empty(),
            "{method} {path} {status}: {name} is not described"
        );
    }
    let has_challenge = !answer.header("www-authenticate").is_empty();
    let is_login = template == "/api/auth/login";
    assert!(
        answer.status != StatusCode::UNAUTHORIZED || has_challenge || is_login,
        "{method} {path}: no challenge"
    );
}

/// A schema of the document, with the document's own components beside it.
pub(crate) fn compiled(schema: &Value) -> Validator {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": DOCUMENT["components"],
        "allOf": [schema],
    });
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema")
}

fn operation(method: &Method, path: &str) -> Option<(&'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object()?;
    let fits = |template: &str| {
        let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len()
            && template.iter().zip(path).all(|(named, given)| named.starts_with('{') || *named == given)
    };
    let (template, item) = paths.iter().find(|(template, _)| fits(template))?;
    Some((template, item.get(method.as_str().to_ascii_lowercase())?))
}
