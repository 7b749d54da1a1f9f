//! What the relay is made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use trustrelay_token::UpstreamName;
use url::Url;

use crate::record::Recorder;

/// The relay's configuration.
#[derive(Clone, Default)]
pub struct RelayConfig {
    /// The MCP servers behind the relay.
    pub upstreams: Vec<UpstreamConfig>,
    /// `scheme://host[:port]` that browsers may come from, beside loopback.
    pub public_origin: Option<String>,
    /// The keys that session ids are sealed with, newest first. Without any, ids end with the process.
    pub seal_keys: Vec<[u8; 32]>,
    /// Where the other nodes reach this one, if there are several: the ids of its sessions name it.
    pub home: Option<Url>,
    /// Who keeps the record of use.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// What bounds each thing.
    pub limits: Limits,
}

impl std::fmt::Debug for RelayConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayConfig")
            .field("upstreams", &self.upstreams)
            .field("public_origin", &self.public_origin)
            .field("home", &self.home.as_ref().map(Url::as_str))
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
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
    /// A child process that speaks MCP over its pipes.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
        /// Its environment, beside `PATH`, `HOME` and the like.
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
    /// Most sessions of one token that are kept in memory; the oldest idle one makes room, and comes back when it is used.
    pub sessions_per_token: usize,
    /// Most calls of one token that wait for input.
    pub parked_per_token: usize,
    /// Most shared sessions with one upstream.
    pub pooled: usize,
    /// Most processes of one upstream.
    pub processes: usize,
    /// Most elements of a merged list in one answer.
    pub page: usize,
    /// Pages of one upstream's list that are followed.
    pub pages: usize,
    /// Time for a client's body to arrive.
    pub receive: Duration,
    /// Time for connecting to an upstream.
    pub connect: Duration,
    /// Time for an upstream's `initialize`.
    pub initialize: Duration,
    /// Time for a command to start and to answer for the first time: it may have to fetch itself.
    pub start: Duration,
    /// Time for one upstream's list, all pages.
    pub list: Duration,
    /// How long a client waits for the list of an upstream that was never heard: it follows with `list_changed`.
    pub list_patience: Duration,
    /// How long an upstream's word on what it speaks is believed.
    pub discovered: Duration,
    /// How long a shared session, and a client's session in memory, is kept while nobody uses it.
    pub idle: Duration,
    /// How long a call waits for its client's input.
    pub input: Duration,
    /// How long an answer may keep silent before it becomes a stream, so that it can be kept alive.
    pub quiet: Duration,
    /// Time to the first byte of a call's answer. Once it streams it may take for ever.
    pub first_byte: Duration,
    /// How long a list is believed.
    pub list_fresh: Duration,
    /// How long an upstream found down is left alone.
    pub down: Duration,
    /// Between two keep-alive comments on a stream.
    pub keep_alive: Duration,
    /// How long calls in flight may go on when the relay stops.
    pub drain: Duration,
    /// Time for a farewell: `notifications/cancelled`, DELETE of an upstream session.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4 << 20,
            answer: 16 << 20,
            sessions_per_token: 64,
            parked_per_token: 16,
            pooled: 1024,
            processes: 16,
            page: 1000,
            pages: 1000,
            receive: Duration::from_secs(60),
            connect: Duration::from_secs(3),
            initialize: Duration::from_secs(10),
            start: Duration::from_secs(60),
            list: Duration::from_secs(30),
            list_patience: Duration::from_secs(2),
            discovered: Duration::from_secs(300),
            idle: Duration::from_secs(600),
            input: Duration::from_secs(600),
            quiet: Duration::from_secs(5),
            first_byte: Duration::from_secs(300),
            list_fresh: Duration::from_secs(15),
            down: Duration::from_secs(5),
            keep_alive: Duration::from_secs(15),
            drain: Duration::from_secs(5),
            farewell: Duration::from_secs(2),
        }
    }
}

/// Why a relay can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// An empty command.
    #[error("upstream `{0}`: the command is empty; give a program and its arguments")]
    NoCommand(UpstreamName),
    /// The name that a scope has.
    #[error("upstream `read`: the scope `mcp:read` has another meaning; choose another name")]
    ReservedRead,
    /// The system gave no randomness.
    #[error("no randomness for the keys of session ids: {0}")]
    Random(getrandom::Error),
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
    Client(#[source] std::io::Error),
}
