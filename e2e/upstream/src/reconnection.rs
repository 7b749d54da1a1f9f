//! Sessions as the SDK keeps them, except that one tool's stream closes before its answer
//! (SEP-1699).
//!
//! The client then has to open the next stream with `Last-Event-ID`, and finds the answer there.

use futures_util::{Stream, StreamExt};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ServerJsonRpcMessage},
    transport::{
        common::server_side_http::{ServerSseMessage, SessionId},
        streamable_http_server::session::{SessionManager, local::LocalSessionManager},
    },
};

/// The tool whose stream closes.
pub(crate) const TOOL: &str = "test_reconnection";

/// The sessions of one server.
#[derive(Debug)]
pub(crate) struct Sessions(LocalSessionManager);

type Failure = <LocalSessionManager as SessionManager>::Error;

impl Sessions {
    pub(crate) fn new(sessions: LocalSessionManager) -> Self {
        Self(sessions)
    }
}

impl SessionManager for Sessions {
    type Error = Failure;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Failure> {
        self.0.create_session().await
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Failure> {
        self.0.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Failure> {
        self.0.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Failure> {
        self.0.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Failure> {
        // The first event only gives the stream an id to come back with.
        let events = if calls(&message, TOOL) { 1 } else { usize::MAX };
        Ok(self.0.create_stream(id, message).await?.take(events))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Failure> {
        self.0.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Failure> {
        self.0.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Failure> {
        self.0.resume(id, last_event_id).await
    }
}

fn calls(message: &ClientJsonRpcMessage, tool: &str) -> bool {
    match message {
        ClientJsonRpcMessage::Request(request) => {
            matches!(&request.request, ClientRequest::CallToolRequest(call) if call.params.name == tool)
        }
        _ => false,
    }
}
