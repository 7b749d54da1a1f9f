//! The requests of an MCP client, in each era.

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::request::Builder;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use crate::http::Connection;

/// The session era's version.
pub(crate) const SESSION: &str = "2025-11-25";
/// The stateless era's.
pub(crate) const STATELESS: &str = "2026-07-28";
/// What each request of the stateless era says of its sender.
const META: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"}}"#;

/// The era of the protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Era {
    Session,
    Stateless,
}

impl Era {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Stateless => "stateless",
        }
    }
}

/// What a client asks, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) path: &'static str,
    pub(crate) era: Era,
    /// The `Authorization` header, where one is asked for.
    pub(crate) authorization: Option<HeaderValue>,
    /// The tool as this path names it.
    pub(crate) tool: &'static str,
    /// What its answer must have in it.
    pub(crate) said: &'static [u8],
    /// `Mcp-Session-Id`, once there is one.
    pub(crate) session: Option<HeaderValue>,
}

impl Client {
    fn post(&self, method: &str) -> Builder {
        let mut request = Request::post(self.path)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream");
        if method != "initialize" {
            let version = match self.era {
                Era::Session => SESSION,
                Era::Stateless => STATELESS,
            };
            request = request.header("mcp-protocol-version", version);
        }
        if self.era == Era::Stateless {
            request = request.header("mcp-method", method);
        }
        self.identified(request)
    }

    fn identified(&self, mut request: Builder) -> Builder {
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        match &self.session {
            Some(session) => request.header("mcp-session-id", session),
            None => request,
        }
    }

    /// Begins a session, where the era has them; a server may do without.
    pub(crate) async fn begin(&mut self, connection: &mut Connection) -> Result<()> {
        if self.era == Era::Stateless {
            return Ok(());
        }
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{SESSION}","capabilities":{{}},"clientInfo":{{"name":"bench","version":"1"}}}}}}"#
        );
        let answer = connection.ask(self.post("initialize").body(full(body))?).await?;
        self.session = answer.headers().get("mcp-session-id").cloned();
        let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        connection.ask(self.post("notifications/initialized").body(full(body))?).await?;
        Ok(())
    }

    /// Ends it.
    pub(crate) async fn end(&self, connection: &mut Connection) -> Result<()> {
        if self.session.is_some() {
            let request = self.identified(Request::builder().method(Method::DELETE).uri(self.path));
            connection.ask(request.body(full(""))?).await?;
        }
        Ok(())
    }

    /// A call of the tool. Made once: each sending is a copy of it.
    pub(crate) fn call(&self) -> Result<Request<Full<Bytes>>> {
        let mut request = self.post("tools/call");
        let meta = match self.era {
            Era::Session => String::new(),
            Era::Stateless => {
                request = request.header("mcp-name", self.tool);
                format!(r#","_meta":{META}"#)
            }
        };
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{}","arguments":{{"text":"hello"}}{meta}}}}}"#,
            self.tool
        );
        Ok(request.body(full(body))?)
    }

    /// A stream that stays open: GET, or `subscriptions/listen`.
    pub(crate) fn stream(&self) -> Result<Request<Full<Bytes>>> {
        ensure!(self.session.is_some() == (self.era == Era::Session), "the session has to begin first");
        match self.era {
            Era::Session => {
                let request = Request::get(self.path).header(ACCEPT, "text/event-stream");
                Ok(self.identified(request.header("mcp-protocol-version", SESSION)).body(full(""))?)
            }
            Era::Stateless => {
                let body = format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},"_meta":{META}}}}}"#
                );
                Ok(self.post("subscriptions/listen").body(full(body))?)
            }
        }
    }
}

pub(crate) fn full(body: impl Into<Bytes>) -> Full<Bytes> {
    Full::new(body.into())
}
