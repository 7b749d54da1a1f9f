//! The names of MCP's versions, headers and members.

use http::HeaderName;

/// The protocol version of the stateless era.
pub(crate) const STATELESS: &str = "2026-07-28";
/// The versions of the session era, newest first. `initialize` offers the newest if the client's
/// version is unknown.
/// Many published commands still speak the oldest, whose messages the relay passes on as they are.
pub(crate) const SESSION_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The notifications that a client may send, in any version of the protocol (its schemas,
/// `ClientNotification`; `notifications/tasks/status` is of 2025-11-25). Any other message must
/// have an id. Without one, a request would bypass the scopes and the record of use, and some
/// servers would still execute it.
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

/// The name of the upstream that the built-in tools belong to. No configured upstream may have it.
pub(crate) const BUILTIN: &str = "trustrelay";
