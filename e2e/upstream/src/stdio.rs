//! Standard input and output.

use std::{borrow::Cow, io, sync::Arc};

use rmcp::{
    RoleServer, ServiceExt,
    model::{ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, GetMeta, ServerJsonRpcMessage},
    service::{RxJsonRpcMessage, ServerInitializeError},
    transport::{Transport, async_rw::AsyncRwTransport, stdio_pipes},
};
use tokio_util::sync::CancellationToken;

use crate::{era::Era, fixture::Fixture, world::World};

/// Where the stateless era keeps its own things in a request.
const STATELESS_META: &str = "io.modelcontextprotocol/";

/// Serves until standard input ends and the calls under way have had five seconds (the SDK's time)
/// to end, or `ended`.
pub(crate) async fn serve(era: Era, ended: CancellationToken) -> anyhow::Result<()> {
    let (read, write) = stdio_pipes();
    let inner = AsyncRwTransport::new(read, write);
    let transport = Gate { inner, era, opened: false };
    let fixture = Fixture::new(Arc::new(World::new()), era);
    let served = async {
        match fixture.serve_with_ct(transport, ended.clone()).await {
            Ok(running) => running.waiting().await.map(drop).map_err(Into::into),
            // Nobody has asked for anything.
            Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    };
    tokio::select! {
        () = ended.cancelled() => Ok(()),
        served = served => served,
    }
}

/// Answers messages of an era that this server does not speak as a server that has never heard of
/// it would. The SDK knows both eras, and would answer from the other one's knowledge.
struct Gate<T> {
    inner: T,
    era: Era,
    /// Whether a request has opened the conversation. `server/discover` does not: it only asks.
    opened: bool,
}

impl<T: Transport<RoleServer, Error = io::Error>> Transport<RoleServer> for Gate<T> {
    type Error = io::Error;

    fn name() -> Cow<'static, str> {
        "stdio".into()
    }

    fn send(
        &mut self,
        item: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let mut message = self.inner.receive().await?;
            if let Some(refusal) = refusal(self.era, &mut message) {
                self.inner.send(refusal).await.ok()?;
                continue;
            }
            match &message {
                ClientJsonRpcMessage::Request(request) => {
                    self.opened |= !matches!(request.request, ClientRequest::DiscoverRequest(_));
                }
                // The SDK would end here: a client that cancels its `server/discover`, say, would
                // lose the server.
                _ if !self.opened => continue,
                _ => {}
            }
            return Some(message);
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.inner.close().await
    }
}

/// The answer to a message that gets no further, if it does not.
fn refusal(era: Era, message: &mut ClientJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
    let ClientJsonRpcMessage::Request(request) = message else {
        return None;
    };
    let id = request.id.clone();
    let error = match (era, &mut request.request) {
        (Era::Session, ClientRequest::DiscoverRequest(_)) => {
            ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "Method not found", None)
        }
        (Era::Session, other) => {
            other.get_meta_mut().retain(|key, _| !key.starts_with(STATELESS_META));
            return None;
        }
        (Era::Stateless, ClientRequest::InitializeRequest(initialize)) => {
            ErrorData::unsupported_protocol_version(
                initialize.params.protocol_version.clone(),
                &era.versions(),
            )
        }
        _ => return None,
    };
    Some(ServerJsonRpcMessage::error(error, Some(id)))
}
