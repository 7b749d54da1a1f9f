//! The relay: its parts and its public interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use http::Response;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use trustrelay_token::{Principal, TokenDigest};
use url::Url;
use uuid::Uuid;

use crate::admitted::Admitted;
use crate::body::RelayBody;
use crate::catalogue::UpstreamStatus;
use crate::config::{Limits, RelayConfig, RelayError};
use crate::live::Sessions;
use crate::parked::Parked;
use crate::record::Records;
use crate::registry::{AllowsFrom, Cut, Ended, Registry};
use crate::reply;
use crate::seal::Sealer;
use crate::upstream::{KEPT, Upstream};

pub(crate) struct Inner {
    /// Sorted by name, the order in which clients see them.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) public_origin: Option<String>,
    pub(crate) home: Option<Url>,
    pub(crate) limits: Limits,
    pub(crate) registry: Arc<Registry>,
    pub(crate) sealer: Sealer,
    pub(crate) records: Records,
    pub(crate) parked: Mutex<HashMap<Uuid, Parked>>,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) tasks: TaskTracker,
    sweeping: AtomicBool,
}

/// The relay. Cheap to clone.
#[derive(Clone)]
pub struct Relay(pub(crate) Arc<Inner>);

impl Relay {
    /// Creates a relay. It contacts no upstream yet.
    ///
    /// # Errors
    ///
    /// Returns [`RelayError`] if the configuration of an upstream is invalid, an HTTP client cannot
    /// be set up, or the system provides no randomness.
    pub fn new(config: RelayConfig) -> Result<Self, RelayError> {
        let mut upstreams = Vec::new();
        for upstream in config.upstreams {
            upstreams.push(Arc::new(Upstream::new(upstream, &config.limits)?));
        }
        upstreams.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        if let Some(pair) = upstreams.windows(2).find(|pair| pair[0].name.as_str() == pair[1].name.as_str()) {
            return Err(RelayError::Twice(pair[0].name.clone()));
        }
        Ok(Self(Arc::new(Inner {
            upstreams,
            public_origin: config.public_origin,
            home: config.home,
            limits: config.limits,
            registry: Arc::default(),
            sealer: Sealer::new(&config.seal_keys).map_err(RelayError::Random)?,
            records: Records::new(config.recorder),
            parked: Mutex::default(),
            sessions: Mutex::default(),
            tasks: TaskTracker::new(),
            sweeping: AtomicBool::new(false),
        })))
    }

    /// Ends everything that a token has open: sessions, streams, calls in flight. Farewells to the
    /// upstreams are sent in the background.
    pub fn cut_token(&self, pat_id: Uuid) -> Ended {
        self.0.registry.cut_token(pat_id)
    }

    /// Ends everything that the tokens of a user have open.
    pub fn cut_user(&self, user_id: Uuid) -> Ended {
        self.0.registry.cut_user(user_id)
    }

    /// Ends the streams and calls that were opened with one of a token's secrets. The token's
    /// sessions stay.
    pub fn cut_secret(&self, pat_id: Uuid, digest: &TokenDigest) -> Cut {
        self.0.registry.cut_secret(pat_id, digest)
    }

    /// Ends the streams and calls of clients at addresses from which tokens may not be used. `None`
    /// allows every address.
    pub fn cut_from_elsewhere(&self, allows: Option<AllowsFrom>) -> Cut {
        self.0.registry.cut_from_elsewhere(allows)
    }

    /// Returns the response that replaces an answer which must no longer be delivered.
    pub fn cut_answer(&self, caller: &Admitted) -> Response<RelayBody> {
        reply::cut(caller, "null").0
    }

    /// Returns the upstreams and their states, sorted by name.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.0.upstreams.iter().map(|upstream| upstream.status()).collect()
    }

    /// Returns the number of open things.
    pub fn open(&self) -> Cut {
        self.0.registry.open()
    }

    /// Returns the number of things that the tokens of a user have open.
    pub fn open_of(&self, user_id: Uuid) -> Cut {
        self.0.registry.open_of(user_id)
    }

    /// Ends the streams, lets the calls in flight finish, and closes the upstream sessions. Takes a
    /// bounded time.
    pub async fn shutdown(&self) {
        self.0.registry.end_streams();
        let _ = tokio::time::timeout(self.0.limits.drain, self.0.registry.without_calls()).await;
        self.0.registry.cut_all();
        self.0.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(4), self.0.tasks.wait()).await;
        let closes = self.0.upstreams.iter().map(|upstream| upstream.close());
        let _ = tokio::time::timeout(Duration::from_secs(6), futures_util::future::join_all(closes)).await;
    }

    /// Returns the upstreams that exist for a principal. An upstream that the account may not use
    /// counts as absent. Every look-up of an upstream goes through this function.
    fn there_for<'r>(&'r self, principal: &'r Principal) -> impl Iterator<Item = &'r Arc<Upstream>> {
        self.0.upstreams.iter().filter(|upstream| principal.upstreams.allow(upstream.name.as_str()))
    }

    /// Returns the existing upstreams of which the scopes allow at least something.
    pub(crate) fn touched(&self, principal: &Principal) -> Vec<Arc<Upstream>> {
        let there = self.there_for(principal);
        there.filter(|u| principal.scopes.touches_upstream(u.name.as_str())).map(Arc::clone).collect()
    }

    /// Returns the existing upstream of this name.
    pub(crate) fn upstream<'r>(&'r self, principal: &'r Principal, name: &str) -> Option<&'r Arc<Upstream>> {
        self.there_for(principal).find(|upstream| upstream.name.as_str() == name)
    }

    /// Drops sessions and links that were not used for a while. A session can be restored from its
    /// id, a link can be opened again.
    pub(crate) fn sweep_now_and_then(&self) {
        if self.0.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let weak = Arc::downgrade(&self.0);
        let idle = self.0.limits.idle;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep((idle / 4).min(KEPT / 4)).await;
                let Some(inner) = weak.upgrade() else { return };
                for upstream in &inner.upstreams {
                    upstream.sweep(idle);
                }
                let sessions = inner.sessions.lock();
                for session in sessions.live.values().flatten() {
                    if session.used().elapsed() > idle && session.is_idle() {
                        session.entry.cancel.cancel();
                    }
                }
            }
        });
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("open", &self.open()).finish_non_exhaustive()
    }
}
