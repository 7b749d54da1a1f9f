//! The calls of tools that ask nothing back. The others are in [`crate::dialogue`].

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, LoggingLevel,
        ProgressNotificationParam, ResourceContents,
    },
    service::RequestContext,
};

use crate::{
    catalogue::EXTRA,
    dialogue,
    fixture::Fixture,
    samples::{PIXEL, SILENCE},
    world::Change,
};

/// Between two messages of a tool that sends several, so that they arrive one by one.
const PACE: Duration = Duration::from_millis(50);

impl Fixture {
    pub(crate) async fn call(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let content = match request.name.as_ref() {
            "test_simple_text" => vec![ContentBlock::text("This is a simple text response for testing.")],
            "test_image_content" => vec![ContentBlock::image(PIXEL, "image/png")],
            "test_audio_content" => vec![ContentBlock::audio(SILENCE, "audio/wav")],
            "test_embedded_resource" => vec![ContentBlock::resource(
                ResourceContents::text("This is an embedded resource content.", "test://embedded-resource")
                    .with_mime_type("text/plain"),
            )],
            "test_multiple_content_types" => vec![
                ContentBlock::text("Multiple content types test:"),
                ContentBlock::image(PIXEL, "image/png"),
                ContentBlock::resource(
                    ResourceContents::text(r#"{"test":"data","value":123}"#, "test://mixed-content-resource")
                        .with_mime_type("application/json"),
                ),
            ],
            "test_error_handling" => {
                let message = "This tool intentionally returns an error for testing";
                return Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into());
            }
            "test_tool_with_logging" | "test_logging_tool" => self.call_logging(&context).await,
            "test_tool_with_progress" => call_progress(&context).await,
            // The stream is cut in `crate::http`, which sees streams.
            "test_reconnection" => {
                tokio::time::sleep(2 * PACE).await;
                vec![ContentBlock::text("This answer came on another stream.")]
            }
            "test_wait" => self.call_wait(&context).await,
            "test_cancellations" => vec![ContentBlock::text(self.world.cancelled().to_string())],
            "test_trigger_tool_change" => self.call_change(Change::Tools),
            "test_trigger_prompt_change" => self.call_change(Change::Prompts),
            "test_trigger_resource_update" => self.call_change(Change::Watched),
            "json_schema_2020_12_tool" | "test_header_parameter" => {
                vec![ContentBlock::text(
                    serde_json::Value::from(request.arguments.unwrap_or_default()).to_string(),
                )]
            }
            EXTRA if self.world.has_extra_tool() => vec![ContentBlock::text("This tool comes and goes.")],
            _ => return dialogue::call(&request, &context).await,
        };
        Ok(CallToolResult::success(content).into())
    }

    async fn call_logging(&self, context: &RequestContext<RoleServer>) -> Vec<ContentBlock> {
        self.log(context, LoggingLevel::Info, "Tool execution started").await;
        tokio::time::sleep(PACE).await;
        self.log(context, LoggingLevel::Info, "Tool processing data").await;
        tokio::time::sleep(PACE).await;
        self.log(context, LoggingLevel::Info, "Tool execution completed").await;
        vec![ContentBlock::text("Tool with logging executed.")]
    }

    /// Reports that it has begun, if asked to, and then waits for its end.
    async fn call_wait(&self, context: &RequestContext<RoleServer>) -> Vec<ContentBlock> {
        report(context, 0.0).await;
        context.ct.cancelled().await;
        self.world.note_cancelled();
        vec![ContentBlock::text("Cancelled.")]
    }

    fn call_change(&self, change: Change) -> Vec<ContentBlock> {
        self.world.change(change);
        vec![ContentBlock::text("Changed.")]
    }
}

async fn call_progress(context: &RequestContext<RoleServer>) -> Vec<ContentBlock> {
    report(context, 0.0).await;
    tokio::time::sleep(PACE).await;
    report(context, 50.0).await;
    tokio::time::sleep(PACE).await;
    report(context, 100.0).await;
    vec![ContentBlock::text("Tool with progress executed.")]
}

/// Reports progress to a client that has asked for it.
async fn report(context: &RequestContext<RoleServer>, progress: f64) {
    if let Some(token) = context.meta.get_progress_token() {
        let progress = ProgressNotificationParam::new(token, progress).with_total(100.0);
        // A client that is gone does not need the report.
        drop(context.peer.notify_progress(progress).await);
    }
}
