//! Has notices sent: claims what is due, tries it, writes down how that went.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::SignedDuration;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::backoff::next_wait;
use super::{Claim, Delivery, Outcome, Outgoing, Target, To, Undelivered};
use crate::authority::Authority;
use crate::error::AuthorityError;

/// How many deliveries are tried at once. One that hangs holds its place for [`LONGEST_TRY`] at
/// most, and none of the others up.
const AT_ONCE: usize = 64;
/// How long one try may take, whatever the courier promises.
const LONGEST_TRY: Duration = Duration::from_secs(90);
/// How long a claim holds: longer than a try and the writing down.
pub(super) const CLAIMED: SignedDuration = SignedDuration::from_secs(3 * 60);
/// How often it is looked for what is due. What is made here is sent at once.
const LOOK: Duration = Duration::from_secs(5);
/// How often tokens are looked through whose end comes near.
const SWEEP: Duration = Duration::from_secs(10 * 60);
/// How long tries may go on when the server stops. What is cut off is tried again when its claim
/// has run out.
const LAST: Duration = Duration::from_secs(3);

/// What the verbs and the task share.
#[derive(Default)]
pub(crate) struct Dispatch {
    pub(crate) stop: Arc<Notify>,
    /// Something new is due.
    pub(crate) wake: Arc<Notify>,
    /// When webhooks were tried by hand: only those of the last seconds.
    tested: Mutex<HashMap<Uuid, Duration>>,
}

impl Dispatch {
    /// Whether a webhook may be tried by hand at this time since boot.
    pub(super) fn may_test(
        &self,
        webhook_id: Uuid,
        now: Duration,
        between: Duration,
    ) -> Result<(), AuthorityError> {
        let mut tested = self.tested.lock();
        tested.retain(|_, at| now.saturating_sub(*at) < between);
        if let Some(at) = tested.get(&webhook_id) {
            return Err(AuthorityError::Throttled {
                retry_after: between.saturating_sub(now.saturating_sub(*at)),
            });
        }
        tested.insert(webhook_id, now);
        Ok(())
    }
}

impl Authority {
    /// Tries everything that is due, and waits for it; how many tries that were. The task of a
    /// started authority does it by itself.
    pub async fn send_due(&self) -> Result<usize, AuthorityError> {
        let due = self.claim_due(AT_ONCE).await?;
        let tries = due.len();
        futures_util::future::join_all(due.into_iter().map(|delivery| self.attempt(delivery))).await;
        Ok(tries)
    }

    async fn claim_due(&self, limit: usize) -> Result<Vec<Delivery>, AuthorityError> {
        let now = self.clock.now();
        let claim = Claim { now, until: now + CLAIMED, limit: limit as u64, notice_id: None };
        Ok(self.store.claim_deliveries(&claim).await?)
    }

    /// One try, and what became of it.
    pub(super) async fn attempt(&self, delivery: Delivery) -> Outcome {
        let tried = timeout(LONGEST_TRY, AssertUnwindSafe(self.carry(&delivery)).catch_unwind()).await;
        let result = match tried {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                tracing::error!(delivery_id = %delivery.delivery_id, "sending a notice panicked");
                Err(Undelivered::Later("an internal error".into()))
            }
            Err(_) => Err(Undelivered::Later("it took too long".into())),
        };
        let now = self.clock.now();
        let outcome = match result {
            Ok(()) => Outcome::Done,
            Err(Undelivered::ForGood(error)) => Outcome::Failed(error),
            Err(Undelivered::Later(error)) => match next_wait(delivery.attempt, dice()) {
                Some(wait) => Outcome::Later { next_at: now + in_micros(wait), error },
                None => Outcome::Failed(error),
            },
        };
        count(&delivery.target, &outcome);
        if let Err(error) =
            self.store.finish_delivery(delivery.delivery_id, delivery.attempt, now, &outcome).await
        {
            tracing::warn!(%error, "could not write the result of a delivery; trying the delivery again later");
        }
        outcome
    }

    async fn carry(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        let Delivery { notice, email, target, .. } = delivery;
        let secret;
        let to = match target {
            Target::Mail(address) => To::Mail(address),
            Target::Webhook(webhook) => {
                secret = self.webhook_secret(webhook)?;
                To::Webhook { url: &webhook.url, secret: &secret }
            }
            Target::Gone => return Err(Undelivered::ForGood("the webhook was removed".into())),
        };
        self.courier().carry(Outgoing { notice, email, to, at: self.clock.now() }).await
    }
}

/// Stores keep whole microseconds.
fn in_micros(wait: Duration) -> SignedDuration {
    SignedDuration::from_micros(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))
}

/// Anything, evenly spread; of no importance to anybody.
fn dice() -> u32 {
    let mut bytes = [0; 4];
    // Without a random source what failed together comes again together.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

fn count(target: &Target, outcome: &Outcome) {
    let channel = match target {
        Target::Mail(_) => "mail",
        Target::Webhook(_) | Target::Gone => "webhook",
    };
    let outcome = match outcome {
        Outcome::Done => "done",
        Outcome::Later { .. } => "later",
        Outcome::Failed(_) => "failed",
    };
    metrics::counter!("trustrelay_deliveries_total", "channel" => channel, "outcome" => outcome).increment(1);
}

/// Makes notices and has them sent until it is stopped or nobody uses the authority any more.
pub(crate) async fn keep_notices(authority: Weak<Authority>) {
    let Some((stop, wake)) =
        authority.upgrade().map(|me| (Arc::clone(&me.notices.stop), Arc::clone(&me.notices.wake)))
    else {
        return;
    };
    let mut tries = JoinSet::new();
    let mut next_sweep = Instant::now();
    loop {
        let Some(me) = authority.upgrade() else { return };
        if Instant::now() >= next_sweep {
            if let Err(error) = me.sweep_notices().await {
                tracing::warn!(%error, "could not look for tokens that expire soon; trying again later");
            }
            next_sweep = Instant::now() + SWEEP;
        }
        let room = AT_ONCE - tries.len();
        let due = if room == 0 { Ok(Vec::new()) } else { me.claim_due(room).await };
        for delivery in due.unwrap_or_else(|error| {
            tracing::debug!(%error, "could not look for due deliveries");
            Vec::new()
        }) {
            let me = Arc::clone(&me);
            tries.spawn(async move { me.attempt(delivery).await });
        }
        drop(me);
        tokio::select! {
            () = stop.notified() => break,
            () = wake.notified() => {}
            () = sleep(LOOK) => {}
            Some(_) = tries.join_next() => {}
        }
        while tries.try_join_next().is_some() {}
    }
    let all = async { while tries.join_next().await.is_some() {} };
    if timeout(LAST, all).await.is_err() {
        tracing::info!("deliveries were interrupted; they will be tried again");
    }
}
