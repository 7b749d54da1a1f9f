//! What the relay is made from.

use std::path::PathBuf;
use std::time::Duration;

use trustrelay_token::UpstreamName;
use url::Url;

/// The relay's configuration.
#[derive(Debug, Clone, Default)]
pub struct RelayConfig {
    /// The MCP servers behind the relay.
    pub upstreams: Vec<UpstreamConfig>,
    /// `scheme://host[:port]` that browsers may come from, beside loopback and the request's own host.
    pub public_origin: Option<String>,
    /// What bounds each thing.
    pub limits: Limits,
}

/// One upstream.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Its name: the prefix of its tools.
    pub name: UpstreamName,
    /// How it is reached.
    pub transport: UpstreamTransport,
}

/// How an upstream is reached.
#[derive(Clone)]
pub enum UpstreamTransport {
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: Url,
        /// Headers added to each request: the upstream's own credential.
        headers: Vec<(String, String)>,
    },
    /// A child process. Not served yet: [`Relay::new`](crate::Relay::new) refuses it.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
        /// Its environment.
        env: Vec<(String, String)>,
        /// Its working directory.
        cwd: Option<PathBuf>,
    },
}

// URLs, headers and environments carry credentials: none of them prints.
impl std::fmt::Debug for UpstreamTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http { .. } => "Http(..)",
            Self::Stdio { .. } => "Stdio(..)",
        })
    }
}

/// The bounds. Memory of one call: at most `body` in, `answer` out.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body of a client, in bytes.
    pub body: usize,
    /// Largest JSON answer, and largest single event, of an upstream, in bytes.
    pub answer: usize,
    /// Most sessions of one token.
    pub sessions_per_token: usize,
    /// Pages of one upstream's list that are followed.
    pub pages: usize,
    /// Time for connecting to an upstream.
    pub connect: Duration,
    /// Time for an upstream's `initialize`.
    pub initialize: Duration,
    /// Time for one upstream's list, all pages.
    pub list: Duration,
    /// Time to the first byte of a call's answer. Once it streams it may take for ever.
    pub first_byte: Duration,
    /// How long a list is believed.
    pub list_fresh: Duration,
    /// How long an upstream found down is left alone.
    pub down: Duration,
    /// Between two keep-alive comments on a stream.
    pub keep_alive: Duration,
    /// Time for a farewell: `notifications/cancelled`, DELETE of an upstream session.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4 << 20,
            answer: 16 << 20,
            sessions_per_token: 64,
            pages: 64,
            connect: Duration::from_secs(3),
            initialize: Duration::from_secs(10),
            list: Duration::from_secs(5),
            first_byte: Duration::from_secs(300),
            list_fresh: Duration::from_secs(15),
            down: Duration::from_secs(5),
            keep_alive: Duration::from_secs(15),
            farewell: Duration::from_secs(2),
        }
    }
}

/// Why a relay can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A command as upstream.
    #[error("upstream `{0}`: commands (stdio) are not served yet; give a URL")]
    StdioNotServed(UpstreamName),
    /// Two of the same name.
    #[error("upstream `{0}` is configured twice; give each its own name")]
    Twice(UpstreamName),
    /// The relay's own name.
    #[error("upstream `trustrelay`: the name is taken by the built-in tools; choose another")]
    Reserved,
    /// Not http or https.
    #[error("upstream `{0}`: the URL must be http:// or https://")]
    NotHttp(UpstreamName),
    /// A header that can't be sent.
    #[error("upstream `{upstream}`: header number {number} is not a valid HTTP header")]
    BadHeader {
        /// Whose.
        upstream: UpstreamName,
        /// Which, from 1.
        number: usize,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client for upstreams could not be set up (TLS roots?)")]
    Client(#[source] reqwest::Error),
}
