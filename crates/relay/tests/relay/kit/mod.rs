//! Scripted upstreams over HTTP and pipes, and clients in process.
#![allow(dead_code, unreachable_pub)]

pub mod child;
pub mod client;
pub mod fake;
pub mod peer;

use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use child::Children;
pub use client::{Client, Era, Live, Whole};
pub use fake::{Fake, Log};
pub use peer::Eras;
use trustrelay_relay::{CallRecord, Limits, Recorder, Relay, RelayConfig, UpstreamConfig, UpstreamTransport};
use trustrelay_token::{Account, Pat, Principal};
use uuid::Uuid;

/// The protocol version of the stateless era.
pub const STATELESS: &str = "2026-07-28";
/// The prefix of the protocol's own keys in `_meta`.
pub const META: &str = "io.modelcontextprotocol/";
pub const HOUR: Duration = Duration::from_secs(3600);

pub fn http(name: &str, fake: &Fake) -> UpstreamConfig {
    at(name, fake.url.clone())
}

pub fn at(name: &str, url: url::Url) -> UpstreamConfig {
    let headers = vec![("x-upstream-key".to_owned(), "its-own".to_owned())];
    UpstreamConfig { name: name.parse().unwrap(), transport: UpstreamTransport::Http { url, headers } }
}

pub fn relay(upstreams: Vec<UpstreamConfig>) -> Relay {
    relay_with(upstreams, |_| {})
}

pub fn relay_with(upstreams: Vec<UpstreamConfig>, change: impl FnOnce(&mut RelayConfig)) -> Relay {
    let mut config = RelayConfig { upstreams, limits: limits(), ..RelayConfig::default() };
    change(&mut config);
    Relay::new(config).unwrap()
}

/// Returns the default limits, except for those that would make a test wait.
pub fn limits() -> Limits {
    // Lists stay fresh for long, so tests that change them announce it. There is no drain time,
    // because many tests leave calls running that never end.
    Limits { list_fresh: HOUR, keep_alive: HOUR, drain: Duration::ZERO, ..Limits::default() }
}

pub fn principal(scopes: &str) -> Arc<Principal> {
    principal_for(scopes, HOUR)
}

pub fn principal_for(scopes: &str, lives: Duration) -> Arc<Principal> {
    principal_of(Uuid::from_u128(1), Uuid::now_v7(), scopes, lives)
}

#[allow(clippy::disallowed_methods, reason = "tests of expiry sleep in real time")]
pub fn principal_of(user_id: Uuid, pat_id: Uuid, scopes: &str, lives: Duration) -> Arc<Principal> {
    let account = Arc::new(Account { user_id, email: "a@example.com".into(), ..Account::default() });
    let (pat, scopes) = (Pat::new(pat_id, "agent", "...abcd"), Arc::new(scopes.parse().unwrap()));
    let expires_at = jiff::Timestamp::now() + jiff::SignedDuration::try_from(lives).unwrap();
    Arc::new(Principal::with_pat(account, pat, scopes, expires_at))
}

/// A recorder that keeps every record.
#[derive(Default)]
pub struct Kept(Mutex<Vec<CallRecord>>);

impl Kept {
    pub fn all(&self) -> Vec<CallRecord> {
        self.0.lock().unwrap().clone()
    }

    /// Waits for the record of a tool's call and returns its outcome.
    pub async fn outcome(&self, tool: &str) -> &'static str {
        let found =
            eventually(|| self.all().iter().rev().find(|call| call.tool == tool).map(|call| call.outcome))
                .await;
        found.unwrap_or_else(|| panic!("no record of {tool}, but {:?}", self.all()))
    }
}

impl Recorder for Kept {
    fn record(&self, call: CallRecord) {
        self.0.lock().unwrap().push(call);
    }
}

/// Polls until a value is available, for at most ten seconds.
pub async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..2000 {
        if let Some(found) = look() {
            return Some(found);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

/// Waits until the relay holds nothing open.
pub async fn is_quiet(relay: &Relay) {
    let quiet = eventually(|| (relay.open() == trustrelay_relay::Cut::default()).then_some(())).await;
    assert!(quiet.is_some(), "still open: {:?}", relay.open());
}

/// The way to reach an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Http,
    Stdio,
}

/// A combination of a client, an upstream, and the path between them.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub client: Era,
    pub upstream: Eras,
    pub transport: Transport,
    pub at: Option<&'static str>,
}

impl Place {
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for client in [Era::Session, Era::Stateless] {
            for upstream in Eras::ALL {
                for transport in [Transport::Http, Transport::Stdio] {
                    for at in [None, Some("up")] {
                        all.push(Self { client, upstream, transport, at });
                    }
                }
            }
        }
        all
    }

    /// Returns whether the relay uses the stateless era for the upstream.
    pub fn asks_statelessly(&self) -> bool {
        match self.upstream {
            Eras::Session => false,
            Eras::Stateless => true,
            Eras::Both => self.client == Era::Stateless,
        }
    }

    pub async fn begin(&self) -> World {
        #[allow(clippy::print_stdout, reason = "shown when the test fails: which place it was")]
        {
            println!("{self:?}");
        }
        let (upstream, log, held): (_, _, Box<dyn std::any::Any + Send>) = match self.transport {
            Transport::Http => {
                let fake = Fake::start(self.upstream).await;
                (http("up", &fake), fake.log.clone(), Box::new(fake))
            }
            Transport::Stdio => {
                let children = Children::new(self.upstream).await;
                (children.config("up"), children.log.clone(), Box::new(children))
            }
        };
        let kept = Arc::new(Kept::default());
        let recorder: Arc<dyn Recorder> = Arc::clone(&kept) as _;
        let relay = relay_with(vec![upstream], |config| config.recorder = Some(recorder));
        let principal = principal("mcp");
        let client = Client::of(&relay, &principal, self.at, self.client).await;
        World { relay, client, principal, log, kept, _held: held }
    }
}

/// The running parts of a [`Place`].
pub struct World {
    pub relay: Relay,
    pub client: Client,
    pub principal: Arc<Principal>,
    pub log: Log,
    pub kept: Arc<Kept>,
    _held: Box<dyn std::any::Any + Send>,
}

/// Captures this thread's log until the guard is dropped.
pub fn logged() -> (Arc<Mutex<String>>, tracing::subscriber::DefaultGuard) {
    let text = Arc::new(Mutex::new(String::new()));
    let guard = tracing::subscriber::set_default(Lines(Arc::clone(&text)));
    (text, guard)
}

/// Collects log events, one per line.
struct Lines(Arc<Mutex<String>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            let _ = std::fmt::Write::write_fmt(&mut *line, format_args!("{}={value:?} ", field.name()));
        });
        line.push('\n');
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
