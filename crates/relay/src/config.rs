//! The relay's configuration.

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
    /// The origin (`scheme://host[:port]`) that browsers may come from, in addition to loopback.
    pub public_origin: Option<String>,
    /// The keys that seal session ids, newest first. Without keys, session ids become invalid when
    /// the process ends.
    pub seal_keys: Vec<[u8; 32]>,
    /// The URL at which other nodes reach this one, if there are several nodes. Session ids name
    /// it.
    pub home: Option<Url>,
    /// The keeper of the record of use.
    pub recorder: Option<Arc<dyn Recorder>>,
    /// The limits of the relay.
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

/// The configuration of an upstream.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// The upstream's name, which is the prefix of its tools.
    pub name: UpstreamName,
    /// The way to reach it.
    pub transport: UpstreamTransport,
}

/// The way to reach an upstream.
#[derive(Clone)]
pub enum UpstreamTransport {
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: Url,
        /// Headers added to each request, such as the relay's own credential for the upstream.
        headers: Vec<(String, String)>,
    },
    /// A child process that speaks MCP over its pipes.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
        /// Its environment, in addition to `PATH`, `HOME` and the like.
        env: Vec<(String, String)>,
        /// Its working directory.
        cwd: Option<PathBuf>,
    },
}

// URLs, headers and environments contain credentials, so none of them is printed.
impl std::fmt::Debug for UpstreamTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http { .. } => "Http(..)",
            Self::Stdio { .. } => "Stdio(..)",
        })
    }
}

/// The limits of the relay. One call holds at most `body` bytes of input and `answer` bytes of
/// output in memory.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum size of a client's request body, in bytes.
    pub body: usize,
    /// Maximum size of an upstream's JSON answer or of one event, in bytes.
    pub answer: usize,
    /// Maximum number of a token's sessions in memory. At the limit, the session that has been idle
    /// longest is dropped; it is restored when it is used again.
    pub sessions_per_token: usize,
    /// Maximum number of a token's calls that wait for input.
    pub parked_per_token: usize,
    /// Maximum number of shared sessions with one upstream.
    pub pooled: usize,
    /// Maximum number of processes of one upstream.
    pub processes: usize,
    /// Maximum number of elements in one page of a merged list.
    pub page: usize,
    /// Maximum number of pages of an upstream's list. A longer list is refused.
    pub pages: usize,
    /// Time limit for receiving a client's request body.
    pub receive: Duration,
    /// Time limit for connecting to an upstream.
    pub connect: Duration,
    /// Time limit for an upstream's `initialize`.
    pub initialize: Duration,
    /// Time limit for a command to start and answer for the first time. The command may have to
    /// download itself.
    pub start: Duration,
    /// Time limit for fetching one list of an upstream, with all its pages.
    pub list: Duration,
    /// Maximum time that a client waits for the first list of an upstream. A list that arrives
    /// later is announced with `list_changed`.
    pub list_patience: Duration,
    /// The time for which the result of probing an upstream's era is reused.
    pub discovered: Duration,
    /// The time after which an unused shared session, or a client's unused session in memory, is
    /// dropped.
    pub idle: Duration,
    /// Maximum time that a call waits for its client's input.
    pub input: Duration,
    /// The time without output after which an answer becomes a stream, so that it can be kept
    /// alive.
    pub quiet: Duration,
    /// Time limit for the first byte of a call's answer. A streaming answer may take unlimited
    /// time.
    pub first_byte: Duration,
    /// The time for which a fetched list counts as fresh.
    pub list_fresh: Duration,
    /// The time for which an upstream found down is not tried again.
    pub down: Duration,
    /// The interval between keep-alive comments on a stream.
    pub keep_alive: Duration,
    /// Maximum time that calls in flight may continue when the relay stops.
    pub drain: Duration,
    /// Time limit for a farewell message: `notifications/cancelled`, or the DELETE of an upstream
    /// session.
    pub farewell: Duration,
}

/// The time limit for opening a session. It depends on whether a process has to be started.
impl Limits {
    pub(crate) fn handshake(&self, is_stdio: bool) -> Duration {
        if is_stdio { self.start } else { self.initialize }
    }
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

/// The reason why a relay cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// A command is empty.
    #[error("upstream `{0}`: the command is empty; give a program and its arguments")]
    NoCommand(UpstreamName),
    /// An upstream has the name of a scope.
    #[error(
        "upstream `read`: this name is reserved, because the scope `mcp:read` has another meaning; choose another name"
    )]
    ReservedRead,
    /// The system provided no randomness.
    #[error("no random numbers for the keys of session ids: {0}")]
    Random(getrandom::Error),
    /// Two upstreams have the same name.
    #[error("upstream `{0}` is configured twice; use a different name for each upstream")]
    Twice(UpstreamName),
    /// An upstream has the name of the built-in tools.
    #[error("upstream `trustrelay`: this name is reserved for the built-in tools; choose another name")]
    Reserved,
    /// A URL is neither http nor https.
    #[error("upstream `{0}`: the URL must be http:// or https://")]
    NotHttp(UpstreamName),
    /// A header is not valid.
    #[error("upstream `{upstream}`: header number {number} is not a valid HTTP header")]
    BadHeader {
        /// The upstream's name.
        upstream: UpstreamName,
        /// The header's position, counted from 1.
        number: usize,
    },
    /// The HTTP client could not be set up.
    #[error("the HTTP client for upstreams could not be set up; check the TLS root certificates")]
    Client(#[source] std::io::Error),
}
