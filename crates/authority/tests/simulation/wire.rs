//! The way from a node to the store, and what happens on it.

mod beside;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use trustrelay_authority::contract::MemoryStore;
use trustrelay_authority::*;
use trustrelay_token::TokenDigest;
use uuid::Uuid;

use crate::dice::Dice;
use crate::node::SURE;

/// How bad it is: chances in a hundred, and times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// A way takes long.
    pub slow: usize,
    /// How long at most.
    pub slowness: usize,
    /// A request is lost: what it asked for is not done.
    pub lost: usize,
    /// An answer is lost: what was asked for is done.
    pub unsure: usize,
    /// A notification is lost.
    pub unheard: usize,
}

impl Weather {
    pub const FINE: Self = Self { slow: 0, slowness: 0, lost: 0, unsure: 0, unheard: 0 };
}

/// The database, and who is told that its log has grown.
pub struct Database {
    pub store: MemoryStore,
    pub dice: Arc<Dice>,
    pub weather: Mutex<Weather>,
    listeners: Mutex<Vec<Arc<Wire>>>,
}

impl Database {
    pub fn new(dice: Arc<Dice>, weather: Weather) -> Arc<Self> {
        let (store, weather) = (MemoryStore::default(), Mutex::new(weather));
        Arc::new(Self { store, dice, weather, listeners: Mutex::default() })
    }

    /// A new process's way to the database.
    pub fn connect(self: &Arc<Self>) -> Arc<Wire> {
        let wire = Arc::new(Wire {
            database: self.clone(),
            held_until: Mutex::new(Instant::now()),
            cut_until: Mutex::new(Instant::now()),
            ended: AtomicBool::new(false),
            heard: Notify::new(),
            lease: Mutex::default(),
        });
        self.listeners.lock().push(wire.clone());
        wire
    }

    /// Tells everyone, late or not at all.
    fn notify(&self) {
        for wire in self.listeners.lock().iter() {
            if self.dice.percent(self.weather.lock().unheard) {
                continue;
            }
            let (wire, delay) = (wire.clone(), self.delay());
            tokio::spawn(async move {
                sleep(delay).await;
                wire.heard.notify_one();
            });
        }
    }

    fn delay(&self) -> Duration {
        let weather = *self.weather.lock();
        let slow = self.dice.percent(weather.slow);
        self.dice.millis(if slow { weather.slowness } else { 2 })
    }
}

/// One process's way to the database.
pub struct Wire {
    database: Arc<Database>,
    held_until: Mutex<Instant>,
    cut_until: Mutex<Instant>,
    ended: AtomicBool,
    heard: Notify,
    /// When it was renewed last, and how often that was too long after the time before.
    lease: Mutex<(Option<Instant>, usize)>,
}

impl Wire {
    /// The process is paused: nothing goes out and nothing comes in; time goes on.
    pub fn pause(&self, length: Duration) {
        *self.held_until.lock() = Instant::now() + length;
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        Instant::now() < *self.held_until.lock()
    }

    /// The database can't be reached.
    pub fn cut_off(&self, length: Duration) {
        *self.cut_until.lock() = Instant::now() + length;
    }

    /// The process is killed. What it was about never goes on.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Whether it was killed.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// If the lease surely holds: since it ran out for the how-many-eth time.
    pub fn holds_since(&self) -> Option<usize> {
        let (renewed, lapses) = *self.lease.lock();
        renewed.is_some_and(|at| at.elapsed() < SURE).then_some(lapses)
    }

    /// Whether it has had a lease.
    pub fn has_joined(&self) -> bool {
        self.lease.lock().0.is_some()
    }

    /// All is well from now on.
    pub fn heal(&self) {
        *self.held_until.lock() = Instant::now();
        *self.cut_until.lock() = Instant::now();
    }

    async fn travel(&self, lost: usize) -> Result<(), StoreError> {
        sleep(self.database.delay()).await;
        loop {
            let until = *self.held_until.lock();
            if Instant::now() >= until {
                break;
            }
            sleep_until(until).await;
        }
        if self.has_ended() {
            std::future::pending::<()>().await;
        }
        let is_cut = Instant::now() < *self.cut_until.lock();
        if is_cut || self.database.dice.percent(lost) {
            return Err(StoreError::Unavailable("lost on the way".into()));
        }
        Ok(())
    }

    async fn carry<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let weather = *self.database.weather.lock();
        self.travel(weather.lost).await?;
        let answer = work.await;
        self.travel(weather.unsure).await?;
        answer
    }

    /// The same for what may make an entry.
    async fn change<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let told = async {
            let answer = work.await;
            self.database.notify();
            answer
        };
        self.carry(told).await
    }

    fn store(&self) -> &MemoryStore {
        &self.database.store
    }
}

// Notices are no part of the story, and go straight through.
#[async_trait]
impl RotationStore for Wire {
    async fn pat_by_digest(&self, digest: &TokenDigest) -> Result<Option<FoundPat>, StoreError> {
        self.carry(self.store().pat_by_digest(digest)).await
    }

    async fn rotate_pat(&self, rotation: &Rotation, audit: &AuditEntry) -> Result<RotateOutcome, StoreError> {
        self.change(self.store().rotate_pat(rotation, audit)).await
    }

    async fn retire_secret(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.change(self.store().retire_secret(pat_id, at, audit)).await
    }

    async fn end_overlap(
        &self,
        pat_id: Uuid,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.change(self.store().end_overlap(pat_id, at, audit)).await
    }

    async fn last_rotation(&self, pat_id: Uuid) -> Result<Option<PastRotation>, StoreError> {
        self.carry(self.store().last_rotation(pat_id)).await
    }

    async fn forget_rotations(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.store().forget_rotations(before).await
    }

    async fn note_retired_use(
        &self,
        digest: &TokenDigest,
        since: Timestamp,
        notice: &NewNotice,
        mail: bool,
    ) -> Result<bool, StoreError> {
        self.carry(self.store().note_retired_use(digest, since, notice, mail)).await
    }
}

#[async_trait]
impl Store for Wire {
    async fn revoke_pats(
        &self,
        pats: &[Revocation],
        at: Timestamp,
        mail: bool,
    ) -> Result<Vec<Option<RevokeOutcome>>, StoreError> {
        self.change(self.store().revoke_pats(pats, at, mail)).await
    }

    async fn set_user_disabled(
        &self,
        user_id: Uuid,
        at: Option<Timestamp>,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        self.change(self.store().set_user_disabled(user_id, at, now, audit)).await
    }

    async fn log_grew(&self) {
        self.heard.notified().await;
    }

    async fn renew_lease(&self, lease: &Lease) -> Result<Renewal, StoreError> {
        let noted = async {
            let renewal = self.store().renew_lease(lease).await?;
            if renewal == Renewal::Held {
                let lapsed = self.holds_since().is_none();
                let mut lease = self.lease.lock();
                *lease = (Some(Instant::now()), lease.1 + usize::from(lapsed));
            }
            Ok(renewal)
        };
        self.carry(noted).await
    }

    async fn end_lease(&self, node_id: Uuid) -> Result<(), StoreError> {
        // Nobody waits for it any more.
        self.lease.lock().1 += 1;
        self.carry(self.store().end_lease(node_id)).await
    }

    async fn log_after(&self, seq: u64) -> Result<Vec<LogEntry>, StoreError> {
        self.carry(self.store().log_after(seq)).await
    }

    async fn holders_behind(&self, seq: u64, except: Option<Uuid>) -> Result<Vec<Holder>, StoreError> {
        self.carry(self.store().holders_behind(seq, except)).await
    }

    async fn let_go(&self, holders: &[Holder]) -> Result<(), StoreError> {
        self.carry(self.store().let_go(holders)).await
    }

    async fn cuts(&self, seq: u64, except: Option<Uuid>) -> Result<Terminated, StoreError> {
        self.carry(self.store().cuts(seq, except)).await
    }

    async fn log_head(&self) -> Result<u64, StoreError> {
        self.carry(self.store().log_head()).await
    }

    async fn pat_by_id(&self, pat_id: Uuid) -> Result<Option<PatRecord>, StoreError> {
        self.carry(self.store().pat_by_id(pat_id)).await
    }

    async fn user_by_id(&self, user_id: Uuid) -> Result<Option<UserRecord>, StoreError> {
        self.carry(self.store().user_by_id(user_id)).await
    }

    async fn user_by_email(&self, email: &str) -> Result<Option<UserRecord>, StoreError> {
        self.carry(self.store().user_by_email(email)).await
    }

    async fn insert_pat(&self, pat: &PatRecord, limit: u64, audit: &AuditEntry) -> Result<(), StoreError> {
        self.carry(self.store().insert_pat(pat, limit, audit)).await
    }

    async fn bind_secret(&self, fingerprint: &[u8; 16]) -> Result<bool, StoreError> {
        self.carry(self.store().bind_secret(fingerprint)).await
    }

    // The rest is no part of the story, and goes straight through.

    async fn insert_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<(), StoreError> {
        self.store().insert_user(user, audit).await
    }

    async fn insert_first_user(&self, user: &UserRecord, audit: &AuditEntry) -> Result<bool, StoreError> {
        self.store().insert_first_user(user, audit).await
    }

    async fn list_users(&self) -> Result<Vec<UserRecord>, StoreError> {
        self.store().list_users().await
    }

    async fn has_users(&self) -> Result<bool, StoreError> {
        self.store().has_users().await
    }

    async fn set_password(
        &self,
        user_id: Uuid,
        hash: &str,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        self.store().set_password(user_id, hash, keep, audit).await
    }

    async fn active_pats(&self, user_id: Uuid, now: Timestamp) -> Result<Vec<PatRecord>, StoreError> {
        self.store().active_pats(user_id, now).await
    }

    async fn record_usage(&self, notes: &[Usage]) -> Result<(), StoreError> {
        self.store().record_usage(notes).await
    }

    async fn record_calls(&self, notes: &[TokenCalls]) -> Result<(), StoreError> {
        self.store().record_calls(notes).await
    }

    async fn activity(&self, pat_id: Uuid, since: Date) -> Result<KeptActivity, StoreError> {
        self.store().activity(pat_id, since).await
    }

    async fn forget_calls(&self, before: Date, limit: u64) -> Result<u64, StoreError> {
        self.store().forget_calls(before, limit).await
    }

    async fn insert_session(&self, session: &SessionRecord, audit: &AuditEntry) -> Result<(), StoreError> {
        self.store().insert_session(session, audit).await
    }

    async fn session_by_digest(
        &self,
        digest: &[u8; 32],
    ) -> Result<Option<(SessionRecord, UserRecord)>, StoreError> {
        self.store().session_by_digest(digest).await
    }

    async fn delete_session(&self, digest: &[u8; 32], audit: &AuditEntry) -> Result<bool, StoreError> {
        self.store().delete_session(digest, audit).await
    }

    async fn delete_sessions_of(
        &self,
        user_id: Uuid,
        keep: Option<[u8; 32]>,
        audit: &AuditEntry,
    ) -> Result<u64, StoreError> {
        self.store().delete_sessions_of(user_id, keep, audit).await
    }

    async fn delete_expired_sessions(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.store().delete_expired_sessions(now).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, StoreError> {
        self.store().nodes().await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store().ping().await
    }
}
