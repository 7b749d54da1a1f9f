//! The prompts.

use rmcp::{
    ErrorData, RoleServer,
    model::{
        ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequests, Prompt,
        PromptArgument, PromptMessage, ResourceContents, Role,
    },
    service::RequestContext,
};
use serde_json::json;

use crate::{
    dialogue::form,
    input::{Asked, ask},
    samples::PIXEL,
};

const EXTRA: &str = "test_extra_prompt";

pub(crate) fn list(with_extra: bool) -> Vec<Prompt> {
    let argument = |name: &str, description: &str| {
        PromptArgument::new(name).with_description(description).with_required(true)
    };
    let mut prompts = vec![
        Prompt::new("test_simple_prompt", Some("A prompt without arguments"), None),
        Prompt::new(
            "test_prompt_with_arguments",
            Some("A prompt with two arguments"),
            Some(vec![argument("arg1", "First test argument"), argument("arg2", "Second test argument")]),
        ),
        Prompt::new(
            "test_prompt_with_embedded_resource",
            Some("A prompt that embeds a resource"),
            Some(vec![argument("resourceUri", "URI of the resource to embed")]),
        ),
        Prompt::new("test_prompt_with_image", Some("A prompt with a picture"), None),
        Prompt::new("test_input_required_result_prompt", Some("A prompt that asks first"), None),
    ];
    if with_extra {
        prompts.push(Prompt::new(EXTRA, Some("A prompt that comes and goes"), None));
    }
    prompts
}

pub(crate) async fn get(
    request: GetPromptRequestParams,
    context: &RequestContext<RoleServer>,
    with_extra: bool,
) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name: &str| {
        let value = request.arguments.as_ref().and_then(|all| all.get(name)).and_then(|value| value.as_str());
        value.ok_or_else(|| ErrorData::invalid_params(format!("the argument `{name}` is missing"), None))
    };
    let user = |content| PromptMessage::new(Role::User, content);
    let text = |text: String| user(ContentBlock::text(text));
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.".to_owned())],
        "test_prompt_with_arguments" => {
            let (first, second) = (argument("arg1")?, argument("arg2")?);
            vec![text(format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let embedded =
                ResourceContents::text("Embedded resource content for testing.", argument("resourceUri")?)
                    .with_mime_type("text/plain");
            vec![
                user(ContentBlock::resource(embedded)),
                text("Please process the embedded resource above.".to_owned()),
            ]
        }
        "test_prompt_with_image" => vec![
            user(ContentBlock::image(PIXEL, "image/png")),
            text("Please analyze the image above.".to_owned()),
        ],
        "test_input_required_result_prompt" => {
            let fields = json!({ "context": { "type": "string" } });
            let question = form("What context should the prompt use?", &fields, &["context"])?;
            let requests = InputRequests::from([("user_context".to_owned(), question)]);
            match ask(context, requests, request.input_responses.as_ref(), None).await? {
                Asked::CallAgain(result) => return Ok(result.into()),
                Asked::Answered(answers) => {
                    vec![text(format!("Use this context: {}", answers["user_context"]["content"]["context"]))]
                }
            }
        }
        EXTRA if with_extra => vec![text("This prompt comes and goes.".to_owned())],
        other => {
            return Err(ErrorData::invalid_params(format!("there is no prompt `{other}`"), None));
        }
    };
    Ok(GetPromptResult::new(messages).into())
}
