//! The names that MCP has for its versions, headers and members.

use http::HeaderName;

/// The stateless era's version.
pub(crate) const STATELESS: &str = "2026-07-28";
/// The session era's versions, newest first: what `initialize` offers when the client's is unknown.
pub(crate) const SESSION_VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// What a client may say without asking for anything, in any version of the protocol (its schemas, `ClientNotification`;
/// `notifications/tasks/status` is of 2025-11-25). Anything else must have an id: without one a request would pass
/// neither the scopes nor the record, and some servers run it all the same.
pub(crate) const CLIENT_NOTIFICATIONS: [&str; 5] = [
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
];

pub(crate) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");

// The keys of `_meta` (MCP 2026-07-28, "General fields").
pub(crate) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
pub(crate) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(crate) const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub(crate) const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
pub(crate) const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// The name of the relay's own tools, which no upstream may have.
pub(crate) const BUILTIN: &str = "trustrelay";
