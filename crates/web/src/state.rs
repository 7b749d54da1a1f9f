//! What every handler can reach.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use trustrelay_authority::Authority;
use trustrelay_relay::Relay;
use url::Url;

/// What the pages and the API are set up with.
#[derive(Clone, Default)]
pub struct WebConfig {
    /// The address that people use, if a proxy stands in front.
    pub public_url: Option<Url>,
    /// Whether cookies are for https alone.
    pub secure_cookies: bool,
    /// Where the numbers of `/metrics` come from.
    pub metrics: Option<PrometheusHandle>,
}

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub(crate) authority: Arc<Authority>,
    pub(crate) relay: Relay,
    pub(crate) config: Arc<WebConfig>,
}

impl AppState {
    /// Puts the parts together.
    pub fn new(authority: Arc<Authority>, relay: Relay, config: WebConfig) -> Self {
        Self { authority, relay, config: Arc::new(config) }
    }
}
