//! `GET /api/openapi.json`

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::Value;
use trustrelay_web::Door;

use crate::support::World;
use crate::support::described::{DOCUMENT, compiled};

#[test]
fn the_document_is_what_was_looked_at() {
    insta::with_settings!({ snapshot_path => "../../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_json_snapshot!("openapi", &*DOCUMENT, { ".info.version" => "[version]" });
    });
}

#[tokio::test]
async fn the_document_is_served_to_everybody_and_may_be_kept() {
    let world = World::new().await;
    let answer = world.get("/api/openapi.json").send().await;
    assert_eq!(answer.json(), *DOCUMENT);
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
}

#[test]
fn the_document_describes_every_route_of_the_rest_api_and_no_other() {
    let mut described = BTreeSet::new();
    for (path, item) in DOCUMENT["paths"].as_object().expect("paths") {
        let methods = item.as_object().expect("methods").keys().filter(|key| *key != "parameters");
        described.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    let mut served = BTreeSet::new();
    for route in
        trustrelay_web::routes().iter().filter(|route| matches!(route.door, Door::Rest | Door::OAuth))
    {
        // HEAD comes with GET, as the document says once.
        let methods = route.methods.iter().filter(|method| *method != Method::HEAD);
        served.extend(methods.map(|method| format!("{method} {}", route.path)));
    }
    assert_eq!(described, served);
}

#[test]
fn the_document_holds_together() {
    let mut references = BTreeSet::new();
    walk(&DOCUMENT, &mut |value| {
        if let Some(reference) = value["$ref"].as_str() {
            references.insert(reference.to_owned());
        }
    });
    let mut components = BTreeSet::new();
    for kind in ["schemas", "headers"] {
        let named = DOCUMENT["components"][kind].as_object().expect("components");
        components.extend(named.keys().map(|name| format!("#/components/{kind}/{name}")));
    }
    assert_eq!(references, components, "every reference has its component, and every component is used");

    let schemes = DOCUMENT["components"]["securitySchemes"].as_object().expect("schemes");
    let mut ids = BTreeMap::new();
    for (path, item) in DOCUMENT["paths"].as_object().expect("paths") {
        let parameters = item["parameters"].as_array().map_or(0, Vec::len);
        assert_eq!(path.matches('{').count(), parameters, "{path}: each parameter of a path is declared");
        for (method, operation) in
            item.as_object().expect("methods").iter().filter(|(key, _)| *key != "parameters")
        {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned(), path).is_none(), "{method} {path}: {id} is taken");
            for requirement in operation["security"].as_array().expect("security") {
                assert!(
                    requirement
                        .as_object()
                        .is_some_and(|named| named.keys().all(|name| schemes.contains_key(name)))
                );
            }
            for response in operation["responses"].as_object().expect("responses").values() {
                assert!(response["description"].is_string());
                for content in response["content"].as_object().into_iter().flat_map(serde_json::Map::values) {
                    compiled(&content["schema"]);
                }
            }
            if let Some(content) = operation["requestBody"]["content"].as_object() {
                content.values().for_each(|content| drop(compiled(&content["schema"])));
            }
        }
    }
}

fn walk(value: &Value, look: &mut impl FnMut(&Value)) {
    look(value);
    match value {
        Value::Array(values) => values.iter().for_each(|value| walk(value, look)),
        Value::Object(values) => values.values().for_each(|value| walk(value, look)),
        _ => {}
    }
}

#[test]
fn the_body_of_a_creation_is_described_as_it_is_taken() {
    let body = compiled(&DOCUMENT["components"]["schemas"]["CreateToken"]);
    for good in [
        r#"{"pat_name":"n","pat_scope":"mcp"}"#,
        r#"{"pat_name":"n","pat_scope":"mcp","expires_in_days":365}"#,
        r#"{"pat_name":"n","pat_scope":"mcp","expires_at":"2126-05-07T00:00:00Z"}"#,
    ] {
        assert!(body.is_valid(&serde_json::from_str(good).expect("JSON")), "{good}");
    }
    for bad in [
        r#"{"pat_name":"n"}"#,
        r#"{"pat_name":"","pat_scope":"mcp"}"#,
        r#"{"pat_name":"n","pat_scope":"mcp","expires_in_days":366}"#,
        r#"{"pat_name":"n","pat_scope":"mcp","expires_at":"tomorrow"}"#,
        r#"{"pat_name":"n","pat_scope":"mcp","colour":"red"}"#,
    ] {
        assert!(!body.is_valid(&serde_json::from_str(bad).expect("JSON")), "{bad}");
    }
}
