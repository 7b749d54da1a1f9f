//! Standard input and output.

use std::{borrow::Cow, io, sync::Arc};

use rmcp::{
    RoleServer, ServiceExt,
    model::{ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, GetMeta, ServerJsonRpcMessage},
    service::RxJsonRpcMessage,
    transport::{Transport, async_rw::AsyncRwTransport, stdio_pipes},
};
use tokio_util::sync::CancellationToken;

use crate::{era::Era, fixture::Fixture, world::World};

/// Where the stateless era keeps its own things in a request.
const STATELESS_META: &str = "io.modelcontextprotocol/";

/// Serves until standard input ends, or `ended`.
pub(crate) async fn serve(era: Era, ended: CancellationToken) -> anyhow::Result<()> {
    let (read, write) = stdio_pipes();
    let transport = Gate { inner: AsyncRwTransport::new(read, write), era };
    let fixture = Fixture::new(Arc::new(World::new()), era);
    let served =
        async { fixture.serve_with_ct(transport, ended.clone()).await?.waiting().await.map_err(Into::into) };
    tokio::select! {
        () = ended.cancelled() => Ok(()),
        served = served => served.map(drop),
    }
}

/// Answers messages of an era that this server does not speak as a server that has never heard of it would. The SDK
/// knows both eras, and would answer from the other one's knowledge.
struct Gate<T> {
    inner: T,
    era: Era,
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
            let Some(refusal) = admit(self.era, &mut message) else {
                return Some(message);
            };
            self.inner.send(refusal).await.ok()?;
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.inner.close().await
    }
}

/// The answer to a message that gets no further, if it gets no further.
fn admit(era: Era, message: &mut ClientJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
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
