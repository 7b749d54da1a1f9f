//! Verify: from the index, or from the store on a miss.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::Shared;
use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use trustrelay_token::{Denied, Principal, Token, TokenDigest, Verification, Verifier};
use uuid::Uuid;

use crate::audit::{Actor, By};
use crate::authority::Authority;
use crate::judgment::{judge, judge_secret};
use crate::record::PatRecord;
use crate::rotation::{FoundPat, Secret};

/// How often a miss is read again because a change came between; each time needs another
/// revocation.
const MAX_REREADS: usize = 8;
/// How long a miss waits for its turn at the store.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(2);
pub(crate) const UNAVAILABLE: Denied = Denied::Unavailable { retry_after: Duration::from_secs(1) };

type Found = Result<Option<Arc<FoundPat>>, Denied>;

/// The misses that are asking the store. Keyed by the epoch as well: who comes after a change was
/// applied does not share an answer that was read before it.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<(TokenDigest, u64), Flight>>);

type Flight = Shared<oneshot::Receiver<Found>>;

impl Verifier for Authority {
    fn verify(&self, token: Token) -> Verification {
        self.verify_from(token, None)
    }
}

impl Authority {
    /// Judges a token that came from an address. If it is known and refused, that is noted for the
    /// audit log.
    pub fn verify_from(&self, token: Token, address: Option<IpAddr>) -> Verification {
        let Some(newest) = self.keys.first() else {
            return Verification::Ready(Err(UNAVAILABLE));
        };
        let digest = newest.digest(&token);
        if self.fence.holds(self.clock.since_boot())
            && let Some(principal) = self.index.get(&digest)
            && let Some(judged) = self.judged_here(principal, address)
        {
            return Verification::Ready(judged);
        }
        // While secrets rotate, a token may be kept under an older one.
        let digests = std::iter::once(digest)
            .chain(self.keys.iter().skip(1).map(|key| key.digest(&token)))
            .collect::<Vec<_>>();
        drop(token);
        let Some(me) = self.me.upgrade() else {
            return Verification::Ready(Err(UNAVAILABLE));
        };
        Verification::Pending(Box::pin(async move { me.verify_slowly(digests, address).await }))
    }

    /// Judges a principal of the index. `None` for a secret whose overlap has just ended: the store
    /// knows that the token has another one, and the index would say that the token has expired.
    fn judged_here(
        &self,
        principal: Arc<Principal>,
        address: Option<IpAddr>,
    ) -> Option<Result<Arc<Principal>, Denied>> {
        let judged = match judged(&principal, self.clock.now()) {
            Ok(()) => Ok(principal),
            Err(Denied::Expired(_))
                if principal.pat().is_some_and(|pat| self.index.ending.has(pat.digest())) =>
            {
                return None;
            }
            Err(denied) => {
                self.note_refused_token(By::new(principal, address).actor(), &denied);
                Err(denied)
            }
        };
        self.numbers.judged_from_index();
        Some(judged)
    }

    /// Has a token re-keyed that was found by another digest than the active key's.
    fn note_older_key(&self, pat_id: Uuid, found_by: &TokenDigest, digests: &[TokenDigest]) {
        if let Some(active) = digests.first()
            && active != found_by
        {
            self.rekeying.note(pat_id, *found_by, *active);
        }
    }

    fn judged_from(
        &self,
        principal: Arc<Principal>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Principal>, Denied> {
        match judged(&principal, self.clock.now()) {
            Ok(()) => Ok(principal),
            Err(denied) => {
                let by = By::new(principal, address);
                self.note_refused_token(by.actor(), &denied);
                Err(denied)
            }
        }
    }

    pub(crate) async fn verify_slowly(
        self: Arc<Self>,
        digests: Vec<TokenDigest>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Principal>, Denied> {
        for _ in 0..MAX_REREADS {
            let epoch = self.index.epoch();
            let trusted = self.fence.holds(self.clock.since_boot());
            if trusted && let Some(principal) = digests.iter().find_map(|digest| self.index.get(digest)) {
                if let Some(pat) = principal.pat() {
                    self.note_older_key(pat.pat_id, pat.digest(), &digests);
                }
                if let Some(judged) = self.judged_here(principal, address) {
                    return judged;
                }
            }
            let found = if trusted {
                self.look_up_together(&digests, epoch).await
            } else {
                // Without a lease the epoch says nothing about what other nodes did: each asks for
                // itself.
                self.look_up(&digests).await
            };
            self.numbers.judged_from_store(found.is_ok());
            let Some(found) = found? else {
                return self.refuse_in_turn(Denied::Unknown).await;
            };
            if !trusted {
                // Nor is it known which policy the token is held to at the door.
                self.read_policy().await?;
            }
            let FoundPat { pat, owner, secret, first_use_seq } = &*found;
            let now = self.clock.now();
            if let Err(denied) = judge(pat.revoked_at, owner.disabled_at.is_some(), pat.expires_at, now) {
                self.note_refused_token(Actor::holder(pat, owner, address), &denied);
                return self.refuse_in_turn(denied).await;
            }
            let by_another;
            let pat = match secret {
                Secret::Current { ends_another: false } => {
                    self.note_older_key(pat.pat_id, &pat.digest, &digests);
                    pat
                }
                Secret::Current { ends_another: true } => {
                    if let Err(error) = self.first_use(pat).await {
                        tracing::warn!(%error, "could not end the previous secret of a token at the first use of its new secret");
                        return Err(UNAVAILABLE);
                    }
                    continue;
                }
                Secret::Retired { digest, valid_until, ended, hint } => {
                    if let Err(denied) = judge_secret(secret, now) {
                        if !ended {
                            self.index.ending.overdue(pat.pat_id);
                        }
                        self.note_retired_use(pat, digest, hint, address).await;
                        return self.refuse_in_turn(denied).await;
                    }
                    // Whoever has it is told when it ends, and not when the token does.
                    let expires_at = pat.expires_at.min(*valid_until);
                    by_another = PatRecord { digest: *digest, hint: hint.clone(), expires_at, ..pat.clone() };
                    self.index.ending.admitted(pat.pat_id, *digest, *valid_until);
                    &by_another
                }
            };
            if let Some(seq) = first_use_seq
                && !self.pass_fence_together(*seq).await
            {
                return Err(UNAVAILABLE);
            }
            // Whoever is handed a principal shares its standing with the index, so that a
            // revocation reaches it.
            if let Some(principal) = self.index.admit(pat, owner, epoch) {
                return self.judged_from(principal, address);
            }
        }
        Err(UNAVAILABLE)
    }

    /// Refuses a token that the store was asked for. It is not remembered, so its next use asks
    /// again: whoever has one that is unknown or dead makes no more work with it than the pace
    /// allows.
    async fn refuse_in_turn(&self, denied: Denied) -> Result<Arc<Principal>, Denied> {
        let turn = self.pace.turn(self.clock.since_boot());
        if !turn.is_zero() {
            tokio::time::sleep(turn).await;
        }
        Err(denied)
    }

    /// Asks the store once for all that wait for the same token in the same epoch.
    async fn look_up_together(self: &Arc<Self>, digests: &[TokenDigest], epoch: u64) -> Found {
        let Some(first) = digests.first() else {
            return Ok(None);
        };
        let key = (*first, epoch);
        let flight = {
            let mut flights = self.flights.0.lock();
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let (answer, flight) = oneshot::channel();
                    let flight = flight.shared();
                    flights.insert(key, flight.clone());
                    let me = self.clone();
                    let digests = digests.to_vec();
                    // A task of its own: it ends even if everyone who waits for it goes away.
                    tokio::spawn(async move {
                        let found = me.look_up(&digests).await;
                        me.flights.0.lock().remove(&key);
                        // Nobody may be waiting any more.
                        let _ = answer.send(found);
                    });
                    flight
                }
            }
        };
        flight.await.unwrap_or(Err(UNAVAILABLE))
    }

    /// So that this node's policy is no older than this question.
    async fn read_policy(&self) -> Result<(), Denied> {
        match self.store.policy().await {
            Ok(policy) => {
                self.policy.take(policy);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "could not verify a token: the database is not available");
                Err(UNAVAILABLE)
            }
        }
    }

    async fn look_up(&self, digests: &[TokenDigest]) -> Found {
        let Ok(Ok(_turn)) = tokio::time::timeout(LOOKUP_PATIENCE, self.lookups.acquire()).await else {
            return Err(UNAVAILABLE);
        };
        for digest in digests {
            match self.store.pat_by_digest(digest).await {
                Ok(Some(mut found)) => {
                    // Where this node looks for it, if another node has re-keyed it under a key
                    // that is not active here.
                    if matches!(found.secret, Secret::Current { .. }) {
                        found.pat.digest = *digest;
                    }
                    return Ok(Some(Arc::new(found)));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "could not verify a token: the database is not available");
                    return Err(UNAVAILABLE);
                }
            }
        }
        Ok(None)
    }
}

/// A principal of the index, if it may be handed out.
pub(crate) fn judged(principal: &Principal, now: Timestamp) -> Result<(), Denied> {
    let revoked_at = principal.standing().ended_at();
    let owner_disabled = principal.account().standing.has_ended();
    judge(revoked_at, owner_disabled, principal.expires_at(), now)
}
