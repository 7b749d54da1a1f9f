//! Asking the client for something in the middle of a call, in the way of its era.
//!
//! In the session era the server sends requests and waits. In the stateless era it answers
//! `input_required`, and the client calls again with the answers. A tool that asks through [`ask`]
//! is written once for both.

use std::collections::BTreeMap;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        ClientCapabilities, CreateMessageResult, ElicitResult, ElicitationCapability, InputRequest,
        InputRequests, InputRequiredResult, InputResponses, ListRootsResult, RootsCapabilities,
        SamplingCapability,
    },
    service::{RequestContext, ServiceError},
};
use serde_json::{Value, json};

use crate::era::is_stateless;

/// What came of asking.
pub(crate) enum Asked {
    /// Everything that was asked for, by its key.
    Answered(BTreeMap<String, Value>),
    /// The client has to call again with the answers.
    CallAgain(InputRequiredResult),
}

/// Asks for `requests`. `given` are the answers that came with the call, `state` is what the client
/// has to send back with the next one.
pub(crate) async fn ask(
    context: &RequestContext<RoleServer>,
    requests: InputRequests,
    given: Option<&InputResponses>,
    state: Option<String>,
) -> Result<Asked, ErrorData> {
    let stateless = is_stateless(context.protocol_version().as_ref());
    let declared = context.client_capabilities().unwrap_or_default();
    for request in requests.values() {
        if !allows(&declared, request) {
            return Err(undeclared(request, stateless));
        }
    }
    if stateless {
        return Ok(match given.and_then(|given| pick(&requests, given)) {
            Some(answers) => Asked::Answered(answers),
            None => Asked::CallAgain(InputRequiredResult::new(Some(requests), state)),
        });
    }
    let mut answers = BTreeMap::new();
    for (key, request) in requests {
        answers.insert(key, send(context, request).await?);
    }
    Ok(Asked::Answered(answers))
}

/// Whether the client has declared that it can answer this.
pub(crate) fn allows(declared: &ClientCapabilities, request: &InputRequest) -> bool {
    match request {
        InputRequest::CreateMessage(_) => declared.sampling.is_some(),
        InputRequest::Elicitation(_) => declared.elicitation.is_some(),
        InputRequest::ListRoots(_) => declared.roots.is_some(),
        _ => false,
    }
}

fn undeclared(request: &InputRequest, stateless: bool) -> ErrorData {
    let mut required = ClientCapabilities::default();
    let name = match request {
        InputRequest::CreateMessage(_) => {
            required.sampling = Some(SamplingCapability::default());
            "sampling"
        }
        InputRequest::Elicitation(_) => {
            required.elicitation = Some(ElicitationCapability::default());
            "elicitation"
        }
        _ => {
            required.roots = Some(RootsCapabilities::default());
            "roots"
        }
    };
    if stateless {
        ErrorData::missing_required_client_capability(required)
    } else {
        ErrorData::invalid_request(format!("the client has not declared the capability `{name}`"), None)
    }
}

/// The answers to all of `requests`, or nothing if one is missing or is no answer to its question.
/// Others are ignored.
fn pick(requests: &InputRequests, given: &InputResponses) -> Option<BTreeMap<String, Value>> {
    requests
        .iter()
        .map(|(key, request)| {
            let answer = given.get(key).filter(|answer| answers(request, answer))?;
            Some((key.clone(), answer.clone()))
        })
        .collect()
}

fn answers(request: &InputRequest, answer: &Value) -> bool {
    let parsed = |fits: Result<(), serde_json::Error>| fits.is_ok();
    match request {
        InputRequest::CreateMessage(_) => {
            parsed(serde_json::from_value::<CreateMessageResult>(answer.clone()).map(drop))
        }
        InputRequest::Elicitation(_) => {
            parsed(serde_json::from_value::<ElicitResult>(answer.clone()).map(drop))
        }
        InputRequest::ListRoots(_) => {
            parsed(serde_json::from_value::<ListRootsResult>(answer.clone()).map(drop))
        }
        _ => false,
    }
}

async fn send(context: &RequestContext<RoleServer>, request: InputRequest) -> Result<Value, ErrorData> {
    let peer = &context.peer;
    match request {
        InputRequest::CreateMessage(request) => peer.create_message(request.params).await.map(|it| json!(it)),
        InputRequest::Elicitation(request) => {
            peer.create_elicitation(request.params).await.map(|it| json!(it))
        }
        InputRequest::ListRoots(_) => peer.list_roots().await.map(|it| json!(it)),
        _ => Err(ServiceError::UnexpectedResponse),
    }
    .map_err(|error| ErrorData::internal_error(format!("the client did not answer: {error}"), None))
}
