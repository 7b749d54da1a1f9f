//! The authority itself: what the verbs share.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use trustrelay_token::{DigestKey, TokenDigest};
use uuid::Uuid;

use crate::accounts::Setup;
use crate::activity::CallLog;
use crate::audit::{SealKey, Sealing, Sweep};
use crate::clock::Clock;
use crate::error::AuthorityError;
use crate::fence::{Fence, KeepLease};
use crate::index::Index;
use crate::leaks::{REPORTS_A_MINUTE, REVOCATIONS_A_MINUTE};
use crate::limits::{Rates, end_unused};
use crate::namesakes::Namesakes;
use crate::notices::{Courier, Dispatch, keep_notices};
use crate::numbers::Numbers;
use crate::pace::Pace;
use crate::password::Passwords;
use crate::policy;
use crate::refusals::RefusalLog;
use crate::rekey::{Rekeying, active_first};
use crate::retired_uses::RetiredUses;
use crate::secret::{RotationKey, ServerSecret, SessionKey, WebhookKey};
use crate::skew::Skew;
use crate::store::Store;
use crate::throttle::Throttle;
use crate::turns::Turns;
use crate::usage::{UsageLog, keep_usage};
use crate::verify::Flights;

/// Ends what is open. The relay is behind it; the authority does not know it.
pub trait Cut: Send + Sync + 'static {
    /// Ends all that a token holds open; which sessions, each by a number that it has on every
    /// node. Quick, and never waits.
    fn cut_token(&self, pat_id: Uuid) -> Vec<u64>;
    /// Ends all that an account's tokens hold open; which sessions, as for a token. Quick, and
    /// never waits.
    fn cut_user(&self, user_id: Uuid) -> Vec<u64>;
    /// Ends the streams and calls that were opened with one of a token's secrets, and not the
    /// token's sessions; how many. Quick, and never waits.
    fn cut_secret(&self, pat_id: Uuid, digest: &TokenDigest) -> usize;
    /// Ends the streams and calls of clients that are elsewhere than tokens may be used from, also
    /// those that were let in before and register after this; how many. `None`: they may be used
    /// from anywhere. Quick, and never waits.
    fn cut_from_elsewhere(&self, allows: Option<AllowsFrom>) -> usize;
}

/// Tells from where tokens may be used. An unknown address is `None`.
pub type AllowsFrom = Arc<dyn Fn(Option<IpAddr>) -> bool + Send + Sync>;

/// A [`Cut`] for where nothing can be open.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingOpen;

impl Cut for NothingOpen {
    fn cut_token(&self, _: Uuid) -> Vec<u64> {
        Vec::new()
    }

    fn cut_user(&self, _: Uuid) -> Vec<u64> {
        Vec::new()
    }

    fn cut_secret(&self, _: Uuid, _: &TokenDigest) -> usize {
        0
    }

    fn cut_from_elsewhere(&self, _: Option<AllowsFrom>) -> usize {
        0
    }
}

/// What can be set.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    /// How long a lease is, at most [`MAX_LEASE`](crate::MAX_LEASE): the longest that a dead node
    /// can delay a revocation.
    pub lease: Duration,
    /// What people call this node, such as its host and port.
    pub node_name: String,
    /// Where the other nodes reach this one, if they can. No other node may have the same.
    pub node_url: Option<String>,
    /// How many tokens the index holds: at some 160 bytes each, 1,000,000 are 160 MB. They are
    /// taken as tokens are used.
    pub index_entries: usize,
    /// How long a browser session lasts.
    pub session_length: Duration,
    /// How often noted uses and calls are written down.
    pub usage_flush: Duration,
    /// How often unused tokens are looked for.
    pub unused_sweep: Duration,
    /// How many misses may ask the store at a time.
    pub store_lookups: usize,
    /// The first secret becomes the active one, if the store was never bound to it: servers do so,
    /// commands beside them don't.
    pub adopt_newest_secret: bool,
    /// Secrets that are retired, and still needed to check the audit log's seals of their time.
    pub seal_secrets: Vec<ServerSecret>,
    /// How long an entry of the audit log is kept.
    pub audit_retention: Duration,
    /// Argon2id memory in KiB. 19,456 is OWASP's recommendation; tests take less.
    pub password_memory_kib: u32,
}

impl Default for AuthorityConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(2),
            node_name: String::new(),
            node_url: None,
            index_entries: 1_000_000,
            session_length: Duration::from_secs(7 * 24 * 3600),
            usage_flush: Duration::from_secs(5),
            unused_sweep: Duration::from_secs(600),
            store_lookups: 64,
            adopt_newest_secret: false,
            seal_secrets: Vec::new(),
            audit_retention: Duration::from_secs(400 * 24 * 3600),
            password_memory_kib: 19_456,
        }
    }
}

/// Issues, verifies, lists and revokes tokens; keeps accounts and browser sessions.
pub struct Authority {
    pub(crate) me: Weak<Self>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: AuthorityConfig,
    /// The active one first, which new tokens are made under, and then the newest.
    pub(crate) keys: Vec<DigestKey>,
    /// The active secret's.
    pub(crate) fingerprint: [u8; 16],
    pub(crate) rekeying: Rekeying,
    pub(crate) session_keys: Vec<SessionKey>,
    /// In the same order.
    pub(crate) rotation_keys: Vec<RotationKey>,
    pub(crate) invite_keys: Vec<SessionKey>,
    /// In the same order.
    pub(crate) webhook_keys: Vec<WebhookKey>,
    pub(crate) index: Index,
    pub(crate) fence: Fence,
    pub(crate) flights: Flights,
    pub(crate) lookups: Arc<Semaphore>,
    pub(crate) pace: Pace,
    pub(crate) usage: UsageLog,
    pub(crate) numbers: Numbers,
    pub(crate) skew: Skew,
    pub(crate) namesakes: Namesakes,
    pub(crate) calls: CallLog,
    pub(crate) refusals: RefusalLog,
    /// Newest first, as the secrets.
    pub(crate) seal_keys: Vec<SealKey>,
    pub(crate) sealing: Sealing,
    pub(crate) sweep: Sweep,
    pub(crate) passwords: Passwords,
    pub(crate) retired_uses: RetiredUses,
    /// When, since the machine's start.
    pub(crate) rotations_forgotten: Mutex<Option<Duration>>,
    pub(crate) throttle: Throttle,
    pub(crate) rates: Rates,
    pub(crate) policy: policy::Held,
    pub(crate) stop_sweep: Arc<Notify>,
    pub(crate) revocations: Turns,
    pub(crate) reports: Turns,
    pub(crate) setup: Mutex<Option<Setup>>,
    pub(crate) cut: OnceLock<Arc<dyn Cut>>,
    pub(crate) notices: Dispatch,
    pub(crate) courier: OnceLock<Arc<dyn Courier>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Authority {
    /// Opens the authority over a store. `secrets`: newest first, at least one; the store must be
    /// bound to one of them, or to none yet ([`AuthorityError::Conflict`] otherwise). The one that
    /// it is bound to is active: see [`AuthorityConfig::adopt_newest_secret`].
    ///
    /// It issues and revokes at once; it verifies from memory only after [`Authority::start`].
    pub async fn open(
        store: Arc<dyn Store>,
        secrets: &[ServerSecret],
        clock: Arc<dyn Clock>,
        config: AuthorityConfig,
    ) -> Result<Arc<Self>, AuthorityError> {
        let secrets = active_first(&*store, secrets, config.adopt_newest_secret, clock.now()).await?;
        let secrets = || secrets.iter().copied();
        let passwords = Passwords::new(config.password_memory_kib).map_err(AuthorityError::Internal)?;
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            store,
            clock,
            keys: secrets().map(ServerSecret::token_key).collect(),
            session_keys: secrets().map(ServerSecret::session_key).collect(),
            webhook_keys: secrets().map(ServerSecret::webhook_key).collect(),
            rotation_keys: secrets().map(ServerSecret::rotation_key).collect(),
            invite_keys: secrets().map(ServerSecret::invite_key).collect(),
            index: Index::new(config.index_entries),
            fence: Fence::new(config.lease),
            flights: Flights::default(),
            fingerprint: secrets().next().map(ServerSecret::fingerprint).unwrap_or_default(),
            rekeying: Rekeying::default(),
            lookups: Arc::new(Semaphore::new(config.store_lookups)),
            pace: Pace::default(),
            usage: UsageLog::default(),
            numbers: Numbers::default(),
            skew: Skew::default(),
            namesakes: Namesakes::default(),
            calls: CallLog::default(),
            refusals: RefusalLog::default(),
            seal_keys: secrets().chain(&config.seal_secrets).map(ServerSecret::seal_key).collect(),
            sealing: Sealing::default(),
            sweep: Sweep::default(),
            passwords,
            retired_uses: RetiredUses::default(),
            rotations_forgotten: Mutex::default(),
            throttle: Throttle::default(),
            rates: Rates::default(),
            policy: policy::Held::default(),
            stop_sweep: Arc::default(),
            revocations: Turns::new(REVOCATIONS_A_MINUTE),
            reports: Turns::new(REPORTS_A_MINUTE),
            setup: Mutex::new(None),
            cut: OnceLock::new(),
            notices: Dispatch::default(),
            courier: OnceLock::new(),
            tasks: Mutex::new(Vec::new()),
            config,
        }))
    }

    /// Says what ends the open streams and calls of a token. Once, before [`Authority::start`].
    pub fn set_cut(&self, cut: Arc<dyn Cut>) {
        if self.cut.set(cut).is_err() {
            tracing::error!("the session terminator was set twice; keeping the first one");
        }
    }

    /// Says who carries notices. Once, before [`Authority::start`].
    pub fn set_courier(&self, courier: Arc<dyn Courier>) {
        if self.courier.set(courier).is_err() {
            tracing::error!("the notice courier was set twice; keeping the first one");
        }
    }

    /// Makes this process a node: takes a lease, and starts to renew it, to write uses down, and to
    /// have notices sent. All of it ends with [`Authority::stop`], or when nobody uses this any
    /// more; then the lease runs out by itself.
    pub async fn start(self: &Arc<Self>) -> Result<(), AuthorityError> {
        self.join().await?;
        let lease = tokio::spawn(KeepLease::of(self).run());
        let usage = tokio::spawn(keep_usage(Arc::downgrade(self)));
        let sweep = tokio::spawn(end_unused(Arc::downgrade(self)));
        let notices = tokio::spawn(keep_notices(Arc::downgrade(self)));
        self.tasks.lock().extend([lease, usage, sweep, notices]);
        Ok(())
    }

    /// Gives the lease up and writes the last uses, calls and refusals down.
    pub async fn stop(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        self.fence.stop.notify_one();
        self.usage.stop.notify_one();
        self.notices.stop.notify_one();
        self.stop_sweep.notify_one();
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a background task panicked");
            }
        }
    }

    /// The clock that all judgments go by.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Whether the store answers.
    pub async fn ready(&self) -> Result<(), AuthorityError> {
        Ok(self.store.ping().await?)
    }

    /// Brings the counters up to date that would be in the way of verifications if they were
    /// counted in place. For who is about to read them.
    pub fn publish_numbers(&self) {
        self.numbers.publish();
    }

    /// How many tokens the index holds.
    pub fn indexed(&self) -> usize {
        self.index.len()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}
