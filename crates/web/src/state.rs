//! What every handler can reach.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use trustrelay_authority::Authority;
use trustrelay_relay::Relay;
use url::Url;

use crate::client::TrustedProxies;
use crate::github::GithubKeys;
use crate::nodes::Nodes;
use crate::numbers::Numbers;

/// How long a request of the REST API or a page may take. MCP streams have no such limit.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How many bodies that may be larger than usual are read at a time: of 1 MiB each, 16 MiB. More
/// are refused unread.
pub(crate) const LARGE_BODIES: usize = 16;

/// What the pages and the API are set up with.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// The address that people use, if a proxy stands in front.
    pub public_url: Option<Url>,
    /// Whether cookies are for https alone.
    pub secure_cookies: bool,
    /// Where the numbers of `/metrics` come from.
    pub metrics: Option<PrometheusHandle>,
    /// Whether [`ops_router`](crate::ops_router) serves `/metrics` instead, at an address of its
    /// own: upstreams are named there, which is for operators.
    pub metrics_elsewhere: bool,
    /// The proxies in front that are believed when they say whom they speak for.
    pub proxies: TrustedProxies,
    /// The keys that GitHub signs its reports of leaked tokens with, if it is to be believed.
    pub github_keys: Option<Arc<GithubKeys>>,
    /// The way to the other nodes, if there are any.
    pub nodes: Option<Nodes>,
    /// Cancelled when the server has been told to stop: from then on it is not ready.
    pub stopping: CancellationToken,
}

/// Shared by all handlers. Cloned several times for each request: one count goes up, and its parts
/// are reached through it.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

/// The parts of [`AppState`].
#[derive(Clone)]
pub struct Shared {
    pub(crate) authority: Arc<Authority>,
    pub(crate) relay: Relay,
    pub(crate) config: WebConfig,
    pub(crate) numbers: Arc<Numbers>,
    pub(crate) time_limit: Duration,
    /// Room for the bodies that are being read and are larger than usual.
    pub(crate) large_bodies: Arc<Semaphore>,
}

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl AppState {
    /// Puts the parts together. The recorder of metrics must be installed by then.
    pub fn new(authority: Arc<Authority>, relay: Relay, config: WebConfig) -> Self {
        let numbers = Arc::new(Numbers::new());
        Self(Arc::new(Shared {
            authority,
            relay,
            config,
            numbers,
            time_limit: TIME_LIMIT,
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)),
        }))
    }

    /// Sets how long a request of the REST API or a page may take: half of it for its body to
    /// arrive.
    pub fn with_time_limit(mut self, time_limit: Duration) -> Self {
        Arc::make_mut(&mut self.0).time_limit = time_limit;
        self
    }
}
