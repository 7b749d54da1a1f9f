//! The context of an admitted request: its caller, and the upstreams within the caller's reach.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use trustrelay_token::Reach;
use uuid::Uuid;

use crate::admitted::Admitted;
use crate::envelope::{Message, RawObject, raw};
use crate::era::{SESSION_VERSIONS, Sender};
use crate::relay::Relay;
use crate::upstream::{Fault, Key, Link, Upstream};

#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) relay: Relay,
    pub(crate) principal: Admitted,
    pub(crate) pat_id: Uuid,
    /// `Some` on `/mcp/NAME`.
    pub(crate) only: Option<Arc<Upstream>>,
    /// True if this node must serve the request even if its session lives on another node.
    pub(crate) here: bool,
    /// The client's trace context, which is continued upstream.
    pub(crate) trace: HeaderMap,
    /// Cancelled when the client has disconnected or has read its answer.
    pub(crate) gone: CancellationToken,
}

impl Context {
    /// Returns `NAME` of `/mcp/NAME`.
    pub(crate) fn only_name(&self) -> Option<&str> {
        self.only.as_ref().map(|upstream| upstream.name.as_str())
    }

    /// Returns the upstreams of this endpoint of which the scopes allow at least something.
    pub(crate) fn touched(&self) -> Vec<Arc<Upstream>> {
        match &self.only {
            Some(upstream) => vec![Arc::clone(upstream)],
            None => self.relay.touched(&self.principal),
        }
    }

    /// Returns the upstreams of this endpoint whose prompts and resources the scopes allow.
    pub(crate) fn readable(&self) -> Vec<Arc<Upstream>> {
        let mut upstreams = self.touched();
        upstreams.retain(|upstream| self.principal.scopes.reads_upstream(upstream.name.as_str()));
        upstreams
    }

    /// Returns whether the scopes allow a tool. If that depends on the tool's own declaration, the
    /// catalogue is consulted.
    pub(crate) async fn may_call(&self, upstream: &Arc<Upstream>, tool: &str) -> Result<bool, Fault> {
        match self.principal.scopes.reach(upstream.name.as_str(), tool) {
            Reach::Whole => Ok(true),
            Reach::Nothing => Ok(false),
            Reach::ReadOnly => Ok(upstream.reads_only(tool).await?.unwrap_or(false)),
        }
    }

    /// Returns whether the scopes allow every tool of the upstream.
    pub(crate) fn may_call_all(&self, upstream: &Upstream) -> bool {
        self.principal.scopes.allows_upstream(upstream.name.as_str())
    }

    /// Filters a response to `tools/list` down to the tools that the scopes allow. Each remaining
    /// tool keeps its bytes. Returns `None` if the response cannot be parsed.
    pub(crate) fn only_allowed(&self, message: &Message, upstream: &Upstream) -> Option<String> {
        let mut result = RawObject::parse(message.result()?).ok()?;
        let mut tools: Vec<Box<RawValue>> = serde_json::from_str(result.get("tools")?.get()).ok()?;
        tools.retain(|tool| {
            let Ok(tool) = RawObject::parse(tool.get()) else { return false };
            let Some(name) = tool.str("name") else { return false };
            match self.principal.scopes.reach(upstream.name.as_str(), &name) {
                Reach::Whole => true,
                Reach::Nothing => false,
                Reach::ReadOnly => {
                    let hints = tool.object("annotations");
                    hints.is_some_and(|hints| {
                        hints.get("readOnlyHint").is_some_and(|hint| hint.get() == "true")
                    })
                }
            }
        });
        result.set("tools", raw(&tools));
        Some(crate::envelope::result(message.id(), &result))
    }

    /// Returns the link for a stateless client: a stateless link if the upstream speaks that era,
    /// otherwise the token's shared session.
    pub(crate) async fn stateless_link(
        &self,
        upstream: &Arc<Upstream>,
        sender: &Sender,
    ) -> Result<Arc<Link>, Fault> {
        if let Some(link) = upstream.stateless().await? {
            return Ok(link);
        }
        // Boxed, so that the rare path does not enlarge the future of every call.
        Box::pin(self.shared_link(upstream, sender)).await
    }

    async fn shared_link(&self, upstream: &Arc<Upstream>, sender: &Sender) -> Result<Arc<Link>, Fault> {
        let mut init = RawObject::default();
        init.set("protocolVersion", raw(SESSION_VERSIONS[0]));
        let capabilities = RawValue::from_string(sender.capabilities.clone());
        init.set("capabilities", capabilities.unwrap_or_else(|_| raw(&serde_json::json!({}))));
        let own = || raw(&serde_json::json!({"name": "trustrelay", "version": env!("CARGO_PKG_VERSION")}));
        init.set("clientInfo", sender.client.clone().unwrap_or_else(own));
        let key = Key::new(self.pat_id, "", &sender.capabilities);
        let registry = &self.relay.0.registry;
        let link = upstream.pooled(registry, &self.principal, &key, &init).await?;
        link.ok_or(Fault::Rejected)
    }
}
