//! The resources.

use rmcp::{
    ErrorData,
    model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate},
};
use serde_json::json;

use crate::{samples::PIXEL, world::WATCHED};

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";
const TEMPLATE: &str = "test://template/{id}/data";

pub(crate) fn list() -> Vec<Resource> {
    let resource = |uri: &str, name: &str, description: &str, kind: &str| {
        Resource::new(uri, name).with_description(description).with_mime_type(kind)
    };
    vec![
        resource(TEXT, "static-text", "A text that never changes", "text/plain"),
        resource(BINARY, "static-binary", "A picture of one pixel", "image/png"),
        resource(WATCHED, "watched-resource", "A text that changes", "text/plain"),
    ]
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new(TEMPLATE, "template")
            .with_description("Data of one id")
            .with_mime_type("application/json"),
    ]
}

/// The resource at `uri`. `revision` is how often the watched one has changed.
pub(crate) fn read(uri: &str, revision: u64) -> Result<ReadResourceResult, ErrorData> {
    let text = |text: String, kind: &str| ResourceContents::text(text, uri).with_mime_type(kind);
    let contents = match uri {
        TEXT => text("This is the content of the static text resource.".to_owned(), "text/plain"),
        BINARY => ResourceContents::blob(PIXEL, uri).with_mime_type("image/png"),
        WATCHED => text(format!("Revision {revision} of the watched resource."), "text/plain"),
        _ => {
            let id = uri
                .strip_prefix("test://template/")
                .and_then(|rest| rest.strip_suffix("/data"))
                .filter(|id| !id.is_empty() && !id.contains('/'))
                .ok_or_else(|| {
                    ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri })))
                })?;
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            text(data.to_string(), "application/json")
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}
