//! The calls of tools that ask the client for something before they answer.

use std::{collections::BTreeMap, sync::LazyLock};

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, InputRequest, InputRequests,
        RequestStateCodec, SealOptions,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::input::{Asked, allows, ask};

/// Seals what the client has to send back. The key is no secret: it keeps a test's state from a
/// test's tampering, and a restarted server still knows it.
static STATE: LazyLock<RequestStateCodec> =
    LazyLock::new(|| RequestStateCodec::new("a key of the fixture, known to all who read this"));

/// What was answered so far, by its key.
type Answers = BTreeMap<String, Value>;

/// One tool's questions, and what it makes of the answers.
struct Dialogue {
    /// What is asked in each round.
    rounds: Vec<InputRequests>,
    /// Whether the client carries a sealed state from round to round.
    sealed: bool,
    /// The text that the tool answers with in the end.
    close: fn(&Answers) -> String,
}

/// Calls a tool of this module. A name that is none of them is no tool at all.
pub(crate) async fn call(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let Dialogue { rounds, sealed, close } = dialogue(request, context)?;
    let (mut round, mut answers, mut given) = match &request.request_state {
        Some(state) if sealed => {
            let (round, answers) = open(state, &request.name)?;
            (round, answers, request.input_responses.as_ref())
        }
        _ if sealed => (0, Answers::new(), None),
        _ => (0, Answers::new(), request.input_responses.as_ref()),
    };
    while let Some(requests) = rounds.get(round) {
        let state = if sealed { Some(seal(round, &answers, &request.name)?) } else { None };
        match ask(context, requests.clone(), given.take(), state).await? {
            Asked::CallAgain(result) => return Ok(result.into()),
            Asked::Answered(more) => answers.extend(more),
        }
        round += 1;
    }
    Ok(CallToolResult::success(vec![ContentBlock::text(close(&answers))]).into())
}

fn dialogue(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Dialogue, ErrorData> {
    let argument = |name: &str| {
        let value = request.arguments.as_ref().and_then(|all| all.get(name)).and_then(Value::as_str);
        value.ok_or_else(|| ErrorData::invalid_params(format!("the argument `{name}` is missing"), None))
    };
    let once = |key: &str, question: InputRequest, close: fn(&Answers) -> String| Dialogue {
        rounds: vec![InputRequests::from([(key.to_owned(), question)])],
        sealed: false,
        close,
    };
    Ok(match request.name.as_ref() {
        "test_sampling" => once("answer", model(argument("prompt")?, 100)?, |answers| {
            format!("LLM response: {}", text(&answers["answer"]["content"]["text"]))
        }),
        "test_elicitation" => {
            let fields = json!({
                "username": { "type": "string", "description": "User's response" },
                "email": { "type": "string", "description": "User's email address" },
            });
            once("answer", form(argument("message")?, &fields, &["username", "email"])?, |answers| {
                format!("User response: {}", decision(&answers["answer"]))
            })
        }
        "test_elicitation_sep1034_defaults" => {
            once("answer", form("Please review these fields", &fields_with_defaults(), &[])?, |answers| {
                format!("Elicitation completed: {}", decision(&answers["answer"]))
            })
        }
        "test_elicitation_sep1330_enums" => {
            once("answer", form("Please choose", &fields_with_choices(), &[])?, |answers| {
                format!("Elicitation completed: {}", decision(&answers["answer"]))
            })
        }
        "test_missing_capability" => {
            once("answer", model("Anything", 10)?, |answers| text(&answers["answer"]["content"]["text"]))
        }
        "test_input_required_result_sampling" => {
            once("capital_question", model("What is the capital of France?", 100)?, |answers| {
                text(&answers["capital_question"]["content"]["text"])
            })
        }
        "test_input_required_result_elicitation" | "test_streaming_elicitation" => {
            once("user_name", name_form("What is your name?")?, |answers| {
                format!("Hello, {}!", text(&answers["user_name"]["content"]["name"]))
            })
        }
        "test_input_required_result_list_roots" => once("client_roots", roots()?, |answers| {
            format!("Your roots: {}", answers["client_roots"]["roots"])
        }),
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            let confirm = form("Please confirm", &json!({ "ok": { "type": "boolean" } }), &["ok"])?;
            Dialogue { sealed: true, ..once("confirm", confirm, |_| "state-ok".to_owned()) }
        }
        "test_input_required_result_multiple_inputs" => {
            let all = InputRequests::from([
                ("user_name".to_owned(), name_form("What is your name?")?),
                ("greeting".to_owned(), model("Generate a greeting", 50)?),
                ("client_roots".to_owned(), roots()?),
            ]);
            Dialogue { rounds: vec![all], sealed: true, close: |answers| json!(answers).to_string() }
        }
        "test_input_required_result_multi_round" => {
            let color = form(
                "Step 2: What is your favorite color?",
                &json!({ "color": { "type": "string" } }),
                &["color"],
            )?;
            let rounds = vec![
                InputRequests::from([("step1".to_owned(), name_form("Step 1: What is your name?")?)]),
                InputRequests::from([("step2".to_owned(), color)]),
            ];
            Dialogue { rounds, sealed: true, close: |answers| json!(answers).to_string() }
        }
        "test_input_required_result_capabilities" => {
            let declared = context.client_capabilities().unwrap_or_default();
            let mut all = InputRequests::from([
                ("user_name".to_owned(), name_form("What is your name?")?),
                ("greeting".to_owned(), model("Generate a greeting", 50)?),
                ("client_roots".to_owned(), roots()?),
            ]);
            all.retain(|_, question| allows(&declared, question));
            let rounds = if all.is_empty() { vec![] } else { vec![all] };
            Dialogue { rounds, sealed: false, close: |answers| json!(answers).to_string() }
        }
        other => return Err(ErrorData::invalid_params(format!("there is no tool `{other}`"), None)),
    })
}

/// A question to the user, with these fields.
pub(crate) fn form(message: &str, fields: &Value, required: &[&str]) -> Result<InputRequest, ErrorData> {
    let mut schema = json!({ "type": "object", "properties": fields });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    question(json!({
        "method": "elicitation/create",
        "params": { "message": message, "requestedSchema": schema },
    }))
}

fn name_form(message: &str) -> Result<InputRequest, ErrorData> {
    form(message, &json!({ "name": { "type": "string" } }), &["name"])
}

/// A question to the client's model.
fn model(prompt: &str, max_tokens: u32) -> Result<InputRequest, ErrorData> {
    question(json!({
        "method": "sampling/createMessage",
        "params": {
            "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
            "maxTokens": max_tokens,
        },
    }))
}

fn roots() -> Result<InputRequest, ErrorData> {
    question(json!({ "method": "roots/list", "params": {} }))
}

fn question(request: Value) -> Result<InputRequest, ErrorData> {
    serde_json::from_value(request).map_err(|error| {
        ErrorData::internal_error(format!("a question of the fixture is malformed: {error}"), None)
    })
}

/// Every kind of field with a default (SEP-1034).
fn fields_with_defaults() -> Value {
    json!({
        "name": { "type": "string", "description": "User name", "default": "John Doe" },
        "age": { "type": "integer", "description": "User age", "default": 30 },
        "score": { "type": "number", "description": "User score", "default": 95.5 },
        "status": {
            "type": "string", "description": "User status",
            "enum": ["active", "inactive", "pending"], "default": "active",
        },
        "verified": { "type": "boolean", "description": "Verification status", "default": true },
    })
}

/// Every kind of choice (SEP-1330).
fn fields_with_choices() -> Value {
    let titled = |what: &str| {
        json!([
            { "const": "value1", "title": format!("First {what}") },
            { "const": "value2", "title": format!("Second {what}") },
            { "const": "value3", "title": format!("Third {what}") },
        ])
    };
    let untitled = json!(["option1", "option2", "option3"]);
    json!({
        "untitledSingle": { "type": "string", "enum": untitled },
        "titledSingle": { "type": "string", "oneOf": titled("Option") },
        "legacyEnum": {
            "type": "string", "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": untitled } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the user did with a form.
fn decision(answer: &Value) -> String {
    format!("action={}, content={}", text(&answer["action"]), answer["content"])
}

fn seal(round: usize, answers: &Answers, tool: &str) -> Result<String, ErrorData> {
    STATE
        .seal_json_with(&(round, answers), &SealOptions::new().associated_data(tool.as_bytes()))
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn open(state: &str, tool: &str) -> Result<(usize, Answers), ErrorData> {
    STATE.open_json_with(state, tool.as_bytes()).map_err(|_| {
        ErrorData::invalid_params(
            "the request state is not one that this server gave out for this tool",
            None,
        )
    })
}
