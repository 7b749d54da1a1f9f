//! The relay: its parts, and what the rest of the program asks of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use trustrelay_token::Principal;
use uuid::Uuid;

use crate::body::{BoxError, RelayBody};
use crate::catalogue::UpstreamStatus;
use crate::config::{Limits, RelayConfig, RelayError};
use crate::envelope::RawObject;
use crate::registry::{Cut, Kind, Registry};
use crate::reply::{self, Reply};
use crate::session::Session;
use crate::upstream::{Link, Upstream};

pub(crate) struct Inner {
    /// Sorted by name: the order that clients see.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    pub(crate) public_origin: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) registry: Arc<Registry>,
    /// By id; oldest found by `born`.
    sessions: Mutex<HashMap<String, (u64, Arc<Session>)>>,
    tasks: TaskTracker,
}

/// The relay. Cheap to clone.
#[derive(Clone)]
pub struct Relay(pub(crate) Arc<Inner>);

impl Relay {
    /// Makes a relay; no upstream is asked anything yet.
    ///
    /// # Errors
    /// When an upstream can't be one; the message says which and what to do.
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
            limits: config.limits,
            registry: Arc::default(),
            sessions: Mutex::default(),
            tasks: TaskTracker::new(),
        })))
    }

    /// Answers one request. `upstream` is `None` on `/mcp`, the name on `/mcp/NAME`. The principal was put
    /// there by the guard, which has taken the `Authorization` header away.
    pub async fn handle<B>(
        &self,
        principal: Arc<Principal>,
        upstream: Option<&str>,
        request: Request<B>,
    ) -> Response<RelayBody>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        crate::front::handle(self, principal, upstream, request).await
    }

    /// Cuts all that a token holds open: sessions, streams, calls in flight. The farewells to the upstreams
    /// are said in the background.
    pub fn cut_token(&self, pat_id: Uuid) -> Cut {
        self.0.registry.cut_token(pat_id)
    }

    /// Cuts all that the tokens of a user hold open.
    pub fn cut_user(&self, user_id: Uuid) -> Cut {
        self.0.registry.cut_user(user_id)
    }

    /// The upstreams and their state, by name.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.0
            .upstreams
            .iter()
            .map(|upstream| UpstreamStatus {
                name: upstream.name.to_string(),
                state: upstream.state(),
                tools: upstream.catalogue.known_tools(),
            })
            .collect()
    }

    /// What is open.
    pub fn open(&self) -> Cut {
        self.0.registry.open()
    }

    /// Ends every stream and closes the upstream sessions; takes a bounded time.
    pub async fn shutdown(&self) {
        self.0.registry.cut_all();
        self.0.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(8), self.0.tasks.wait()).await;
        let closes = self.0.upstreams.iter().map(|upstream| upstream.catalogue.close());
        let _ = tokio::time::timeout(Duration::from_secs(3), futures_util::future::join_all(closes)).await;
    }

    /// The upstreams of which anything is within the scopes.
    pub(crate) fn touched(&self, principal: &Principal) -> Vec<Arc<Upstream>> {
        let upstreams = self.0.upstreams.iter();
        upstreams.filter(|u| principal.scopes.touches_upstream(u.name.as_str())).map(Arc::clone).collect()
    }

    pub(crate) fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.upstreams.iter().find(|upstream| upstream.name.as_str() == name)
    }

    pub(crate) fn session(&self, id: &str, pat_id: Uuid, only: Option<&str>) -> Option<Arc<Session>> {
        let (_, session) = self.0.sessions.lock().get(id).cloned()?;
        let theirs = session.pat_id == pat_id && session.only.as_deref() == only;
        (theirs && !session.entry.cancel.is_cancelled()).then_some(session)
    }

    /// Opens a client session: registered first, the standing asked second.
    pub(crate) async fn open_session(
        &self,
        principal: &Principal,
        pat_id: Uuid,
        init: RawObject,
        link: Option<Arc<Link>>,
    ) -> Result<Arc<Session>, Reply> {
        self.make_room(pat_id)?;
        let entry = self.0.registry.register(principal, pat_id, Kind::Session);
        if !principal.stands() {
            return Err(reply::ended("null"));
        }
        let only = link.as_ref().map(|link| link.upstream.name.to_string());
        let session = Session::new(pat_id, only, init, entry)
            .map_err(|_| reply::refused(StatusCode::SERVICE_UNAVAILABLE, "no randomness; try again"))?;
        if let Some(link) = link {
            session.adopt(link).await;
        }
        {
            let mut sessions = self.0.sessions.lock();
            let born = sessions.values().map(|(born, _)| born + 1).max().unwrap_or(0);
            sessions.insert(session.id.clone(), (born, Arc::clone(&session)));
        }
        let (relay, ending) = (self.clone(), Arc::clone(&session));
        self.0.tasks.spawn(async move {
            ending.entry.cancel.cancelled().await;
            relay.0.sessions.lock().remove(&ending.id);
            ending.close().await;
        });
        Ok(session)
    }

    /// Of a token's sessions the oldest idle one goes when there are too many.
    #[allow(clippy::result_large_err, reason = "the error is the answer, made once and sent")]
    fn make_room(&self, pat_id: Uuid) -> Result<(), Reply> {
        let sessions = self.0.sessions.lock();
        let mut theirs: Vec<_> = sessions.values().filter(|(_, session)| session.pat_id == pat_id).collect();
        if theirs.len() < self.0.limits.sessions_per_token {
            return Ok(());
        }
        theirs.sort_by_key(|(born, _)| *born);
        let idle = theirs.iter().find(|(_, s)| s.is_idle() && !s.entry.cancel.is_cancelled());
        let Some((_, oldest)) = idle else {
            return Err(reply::refused(
                StatusCode::TOO_MANY_REQUESTS,
                "the token has too many sessions in use",
            ));
        };
        oldest.entry.cancel.cancel();
        Ok(())
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("open", &self.open()).finish_non_exhaustive()
    }
}
