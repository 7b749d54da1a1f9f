//! A judged request, ready for its endpoint: who asks, and what of the upstreams is within reach.

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
    /// Whether the request is served here, wherever its session lives.
    pub(crate) here: bool,
    /// The client's own trace, which goes on upstream.
    pub(crate) trace: HeaderMap,
    /// Cancelled when the client has gone away, or has read its answer.
    pub(crate) gone: CancellationToken,
}

impl Context {
    /// `NAME` of `/mcp/NAME`.
    pub(crate) fn only_name(&self) -> Option<&str> {
        self.only.as_ref().map(|upstream| upstream.name.as_str())
    }

    /// The upstreams of this endpoint of which anything is within the scopes.
    pub(crate) fn touched(&self) -> Vec<Arc<Upstream>> {
        match &self.only {
            Some(upstream) => vec![Arc::clone(upstream)],
            None => self.relay.touched(&self.principal),
        }
    }

    /// Those of them whose prompts and resources are within the scopes.
    pub(crate) fn readable(&self) -> Vec<Arc<Upstream>> {
        let mut upstreams = self.touched();
        upstreams.retain(|upstream| self.principal.scopes.reads_upstream(upstream.name.as_str()));
        upstreams
    }

    /// Whether a tool is within the scopes. Where that hangs on what the tool declares, the catalogue is asked.
    pub(crate) async fn may_call(&self, upstream: &Arc<Upstream>, tool: &str) -> Result<bool, Fault> {
        match self.principal.scopes.reach(upstream.name.as_str(), tool) {
            Reach::Whole => Ok(true),
            Reach::Nothing => Ok(false),
            Reach::ReadOnly => Ok(upstream.reads_only(tool).await?.unwrap_or(false)),
        }
    }

    /// Whether every tool of the upstream is within the scopes.
    pub(crate) fn may_call_all(&self, upstream: &Upstream) -> bool {
        self.principal.scopes.allows_upstream(upstream.name.as_str())
    }

    /// A response to `tools/list` with the tools within the scopes, each as it came.
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

    /// The link for a stateless client: the stateless era's where the upstream speaks it, else the token's shared session.
    pub(crate) async fn stateless_link(
        &self,
        upstream: &Arc<Upstream>,
        sender: &Sender,
    ) -> Result<Arc<Link>, Fault> {
        if let Some(link) = upstream.stateless().await? {
            return Ok(link);
        }
        // In a box: what is rare is not carried about with every call.
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
