//! An upstream: the way to reach it, its health, and the eras of MCP that it speaks.

mod connections;
mod event;
mod exchange;
mod fault;
mod http;
mod lean;
mod line;
mod lines;
mod link;
mod pool;
mod process;
mod said;
mod stdio;
mod unanswered;
mod unusable;

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Method};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use trustrelay_token::UpstreamName;

use crate::catalogue::Catalogue;
use crate::config::{Limits, RelayError, UpstreamConfig, UpstreamTransport};
use crate::envelope::RawObject;

pub(crate) use self::connections::KEPT;
pub(crate) use self::event::Event;
pub(crate) use self::exchange::Exchange;
pub(crate) use self::fault::Fault;
use self::http::HttpTransport;
pub(crate) use self::http::{BOTH_KINDS, HttpAnswer, add_both_kinds, both_kinds};
pub(crate) use self::link::{Link, Server, own_initialize, own_request};
pub(crate) use self::pool::{Key, Pool};
use self::process::Launcher;
pub(crate) use self::said::Pauses;
pub(crate) use self::stdio::{Asker, next_asker};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Up,
    Down(Instant),
}

pub(crate) enum Transport {
    Http(Box<HttpTransport>),
    Stdio(Launcher),
}

/// The eras that the upstream is known to speak or not to speak.
#[derive(Default, Clone, Copy)]
struct Eras {
    session: Option<bool>,
    stateless: Option<bool>,
}

pub(crate) struct Upstream {
    pub(crate) name: UpstreamName,
    pub(crate) limits: Limits,
    transport: Transport,
    health: Mutex<Health>,
    eras: Mutex<Eras>,
    /// The stateless era has no sessions, so all clients share one link. The lock makes concurrent
    /// callers wait for one probe.
    stateless: tokio::sync::Mutex<Option<(Instant, Arc<Link>)>>,
    pub(crate) pool: Pool,
    pub(crate) catalogue: Catalogue,
}

impl Upstream {
    pub(crate) fn new(config: UpstreamConfig, limits: &Limits) -> Result<Self, RelayError> {
        let name = config.name;
        if name.as_str() == crate::names::BUILTIN {
            return Err(RelayError::Reserved);
        }
        if name.as_str() == "read" {
            return Err(RelayError::ReservedRead);
        }
        let transport = match config.transport {
            UpstreamTransport::Http { url, headers } => {
                Transport::Http(Box::new(HttpTransport::new(&name, url, headers, limits)?))
            }
            UpstreamTransport::Stdio { command, env, cwd } => {
                if command.is_empty() {
                    return Err(RelayError::NoCommand(name));
                }
                Transport::Stdio(Launcher::new(name.clone(), command, env, cwd, limits))
            }
        };
        Ok(Self {
            name,
            limits: limits.clone(),
            transport,
            health: Mutex::new(Health::Unknown),
            eras: Mutex::default(),
            stateless: tokio::sync::Mutex::default(),
            pool: Pool::default(),
            catalogue: Catalogue::default(),
        })
    }

    pub(crate) fn is_stdio(&self) -> bool {
        matches!(self.transport, Transport::Stdio(_))
    }

    pub(crate) fn state(&self) -> &'static str {
        match *self.health.lock() {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down(_) => "down",
        }
    }

    /// Returns whether the upstream was recently found down and is not tried for a while.
    pub(crate) fn is_resting(&self) -> bool {
        matches!(*self.health.lock(), Health::Down(until) if until > Instant::now())
    }

    pub(crate) fn note(&self, fault: Option<Fault>) {
        let health = match fault {
            None => Health::Up,
            Some(Fault::Down | Fault::Slow) => Health::Down(Instant::now() + self.limits.down),
            // The upstream answered, so it is up, whatever the answer was.
            Some(_) => return,
        };
        *self.health.lock() = health;
    }

    /// Returns the stateless link. `None` if the upstream does not speak that era.
    pub(crate) async fn stateless(self: &Arc<Self>) -> Result<Option<Arc<Link>>, Fault> {
        if self.eras.lock().stateless == Some(false) {
            return Ok(None);
        }
        if let Ok(slot) = self.stateless.try_lock()
            && let Some((found, link)) = &*slot
            && found.elapsed() < self.limits.discovered
            && link.is_alive()
        {
            return Ok(Some(Arc::clone(link)));
        }
        // Boxed, so that the rare path does not enlarge the future of every call.
        Box::pin(self.find_stateless()).await
    }

    async fn find_stateless(self: &Arc<Self>) -> Result<Option<Arc<Link>>, Fault> {
        let mut slot = self.stateless.lock().await;
        if self.eras.lock().stateless == Some(false) {
            return Ok(None);
        }
        if let Some((found, link)) = &*slot
            && found.elapsed() < self.limits.discovered
            && link.is_alive()
        {
            return Ok(Some(Arc::clone(link)));
        }
        if self.is_resting() {
            return Err(Fault::Down);
        }
        // Waits for a silent process no longer than in the session era for one that may have to
        // download itself.
        let wait = self.limits.initialize.min(self.limits.handshake(self.is_stdio()));
        let reuse = slot.take().map(|(_, link)| link).filter(|link| link.is_alive());
        let is_new = reuse.is_none();
        let found = timeout(wait, Link::discover(self, reuse)).await.unwrap_or(Err(Fault::Slow));
        if found.is_ok() || !self.is_stdio() {
            self.note(found.as_ref().err().copied());
        }
        match found {
            Ok(Some(link)) => {
                self.eras.lock().stateless = Some(true);
                *slot = Some((Instant::now(), Arc::clone(&link)));
                if self.is_stdio() && is_new {
                    tokio::spawn(crate::watch::move_to(Arc::clone(self), Arc::clone(&link)));
                }
                Ok(Some(link))
            }
            Ok(None) => {
                self.eras.lock().stateless = Some(false);
                Ok(None)
            }
            // A process that stays silent or ends speaks the session era (MCP 2026-07-28, "stdio",
            // "Backward Compatibility"), unless it opens no session either.
            Err(Fault::Slow | Fault::Down) if self.is_stdio() => {
                self.eras.lock().stateless = Some(false);
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Opens a session with the parameters of an `initialize`. Returns `None` if the upstream
    /// speaks only the stateless era.
    pub(crate) async fn session(self: &Arc<Self>, init: &RawObject) -> Result<Option<Arc<Link>>, Fault> {
        if self.eras.lock().session == Some(false) {
            return Ok(None);
        }
        match Link::open(self, init).await {
            Ok(link) => {
                self.eras.lock().session = Some(true);
                Ok(Some(link))
            }
            // A stateless command may exit when it receives a message of the other era.
            Err(fault @ (Fault::Down | Fault::Slow)) if !self.is_stdio() || self.is_known() => Err(fault),
            Err(Fault::Busy) => Err(Fault::Busy),
            Err(fault) => {
                // The command may have been replaced by another program since the last probe.
                self.eras.lock().stateless = None;
                *self.health.lock() = Health::Unknown;
                match self.stateless().await? {
                    Some(_) => {
                        self.eras.lock().session = Some(false);
                        Ok(None)
                    }
                    None => {
                        self.note(Some(fault));
                        Err(fault)
                    }
                }
            }
        }
    }

    /// Returns whether the upstream is known to speak the session era.
    fn is_known(&self) -> bool {
        self.eras.lock().session == Some(true)
    }

    /// Returns whether the upstream may speak the session era.
    pub(crate) fn may_speak_session(&self) -> bool {
        self.eras.lock().session != Some(false)
    }

    /// Returns whether the upstream is known to speak the stateless era.
    pub(crate) fn speaks_stateless(&self) -> bool {
        self.eras.lock().stateless == Some(true)
    }

    /// Notes that the upstream has just begun a session.
    pub(crate) fn speaks_session(&self) {
        self.eras.lock().session = Some(true);
    }

    /// Sends one POST without a session, over HTTP.
    pub(crate) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: String,
        wait: Duration,
    ) -> Result<HttpAnswer, Fault> {
        let Transport::Http(http) = &self.transport else { return Err(Fault::Down) };
        if self.is_resting() {
            return Err(Fault::Down);
        }
        let answer = http.send(method, None, headers, Some(body), wait, self.limits.answer).await;
        self.note(answer.as_ref().err().copied());
        answer
    }

    /// Drops shared sessions and connections that were not used for a while.
    pub(crate) fn sweep(&self, idle: Duration) {
        self.pool.sweep(idle);
        if let Transport::Http(http) = &self.transport {
            http.sweep();
        }
    }

    /// Closes everything that clients share.
    pub(crate) async fn close(&self) {
        self.catalogue.close().await;
        self.pool.close().await;
        let link = self.stateless.lock().await.take();
        if let Some((_, link)) = link {
            link.close().await;
        }
    }
}
