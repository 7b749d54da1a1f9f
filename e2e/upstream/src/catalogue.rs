//! The tools as `tools/list` shows them.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

/// The tool that comes and goes.
pub(crate) const EXTRA: &str = "test_extra_tool";

/// Name, description, and whether it only reads.
///
/// The first one can be called without arguments: the suite tries headers out on it.
const PLAIN: [(&str, &str, bool); 27] = [
    ("test_simple_text", "Answers with a text", true),
    ("test_image_content", "Answers with a picture", true),
    ("test_audio_content", "Answers with a sound", true),
    ("test_embedded_resource", "Answers with an embedded resource", true),
    ("test_multiple_content_types", "Answers with a text, a picture and a resource", true),
    ("test_error_handling", "Fails", true),
    ("test_tool_with_logging", "Logs while it works", true),
    ("test_logging_tool", "Logs while it works", true),
    ("test_tool_with_progress", "Reports progress while it works", true),
    ("test_reconnection", "Its stream closes before its answer, which is to be had on the next one", true),
    ("test_wait", "Waits until it is cancelled", true),
    ("test_cancellations", "How many waiting calls have been cancelled", true),
    ("test_elicitation_sep1034_defaults", "Asks with defaults for every kind of field", false),
    ("test_elicitation_sep1330_enums", "Asks with every kind of choice", false),
    ("test_missing_capability", "Needs sampling", false),
    ("test_streaming_elicitation", "Asks the user", false),
    ("test_input_required_result_elicitation", "Asks the user for a name", false),
    ("test_input_required_result_sampling", "Asks the client's model", false),
    ("test_input_required_result_list_roots", "Asks for the client's roots", false),
    ("test_input_required_result_request_state", "Asks, and checks the state that comes back", false),
    ("test_input_required_result_tampered_state", "Asks, and checks the state that comes back", false),
    ("test_input_required_result_multiple_inputs", "Asks for three things at once", false),
    ("test_input_required_result_multi_round", "Asks twice", false),
    ("test_input_required_result_capabilities", "Asks for what the client can answer", false),
    ("test_trigger_tool_change", "Adds a tool or takes it away", false),
    ("test_trigger_prompt_change", "Adds a prompt or takes it away", false),
    ("test_trigger_resource_update", "Changes the watched resource", false),
];

/// All tools; `with_extra` adds the one that comes and goes.
pub(crate) fn tools(with_extra: bool) -> Vec<Tool> {
    let nothing = json!({ "type": "object", "properties": {} });
    let mut tools: Vec<Tool> = PLAIN
        .iter()
        .map(|(name, description, reads)| tool(name, description, nothing.clone(), *reads))
        .collect();
    tools.push(tool(
        "test_sampling",
        "Asks the client's model",
        one_string("prompt", "What to ask the model"),
        false,
    ));
    tools.push(tool(
        "test_elicitation",
        "Asks the user",
        one_string("message", "What to ask the user"),
        false,
    ));
    tools.push(tool("json_schema_2020_12_tool", "Has a schema of many keywords", schema_2020_12(), true));
    tools.push(tool(
        "test_header_parameter",
        "Has an argument that is also sent as a header",
        with_header(),
        true,
    ));
    if with_extra {
        tools.push(tool(EXTRA, "Comes and goes", nothing, true));
    }
    tools
}

fn tool(name: &'static str, description: &'static str, schema: Value, reads: bool) -> Tool {
    let schema: JsonObject = schema.as_object().cloned().unwrap_or_default();
    Tool::new(name, description, Arc::new(schema)).with_annotations(ToolAnnotations::new().read_only(reads))
}

fn one_string(name: &str, description: &str) -> Value {
    json!({
        "type": "object",
        "properties": { name: { "type": "string", "description": description } },
        "required": [name],
    })
}

fn with_header() -> Value {
    json!({
        "type": "object",
        "properties": { "region": { "type": "string", "x-mcp-header": "Region" } },
        "required": ["region"],
    })
}

fn schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}
