//! Seals: every minute a node says by a keyed hash what the chain's last entry is. Who can write in
//! the database and has no key can make a new chain, but no seals for it.

use std::time::Duration;

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::Sha256;

use super::{AuditLink, AuditSeal};
use crate::authority::Authority;
use crate::store::StoreError;

/// How often a seal is made, where there is something new.
const EVERY: Duration = Duration::from_secs(60);

/// The key of the seals.
pub(crate) struct SealKey(pub(crate) Hmac<Sha256>);

impl SealKey {
    fn over(&self, link: &AuditLink, at: Timestamp) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(&link.seq.to_be_bytes());
        mac.update(&at.as_microsecond().to_be_bytes());
        mac.update(&link.hash);
        mac
    }

    fn seal(&self, link: &AuditLink, at: Timestamp) -> AuditSeal {
        let mac = self.over(link, at).finalize().into_bytes().into();
        AuditSeal { seq: link.seq, at, mac }
    }

    /// Whether a seal was made with this key, of this entry.
    pub(crate) fn made(&self, seal: &AuditSeal, link: &AuditLink) -> bool {
        seal.seq == link.seq && self.over(link, seal.at).verify_slice(&seal.mac).is_ok()
    }
}

/// What this node has sealed.
#[derive(Default)]
pub(crate) struct Sealing(Mutex<Sealed>);

#[derive(Default, Clone, Copy)]
struct Sealed {
    last: Option<AuditLink>,
    /// When it was last looked, since the machine's start.
    looked: Option<Duration>,
    /// The chain is not the one that was sealed: no more is.
    broken: bool,
}

impl Authority {
    /// What is done for the audit log now and then: at the end it is sealed whether or not a minute
    /// has passed.
    pub(crate) async fn keep_audit(&self, last: bool) {
        let now = self.clock.since_boot();
        let looked = self.sealing.0.lock().looked;
        if last || looked.is_none_or(|looked| now.saturating_sub(looked) >= EVERY) {
            match self.seal_audit().await {
                Ok(()) => self.sealing.0.lock().looked = Some(now),
                Err(error) => tracing::warn!(%error, "could not seal the audit log; trying again later"),
            }
        }
        if !last {
            self.sweep_audit().await;
        }
    }

    /// Seals the audit log's last entry, if it is not the one that was sealed last. Several nodes
    /// may do so.
    pub async fn seal_audit(&self) -> Result<(), StoreError> {
        let ends = self.store.audit_ends().await?;
        let sealed = *self.sealing.0.lock();
        if sealed.broken || ends.head.seq == 0 || sealed.last == Some(ends.head) {
            return Ok(());
        }
        // A seal vouches for all that is before it, so what was sealed must still be there.
        if let Some(last) = sealed.last
            && last.seq > ends.cut.seq
        {
            let found = self.store.audit_after(last.seq - 1, 1).await?;
            if !found.first().is_some_and(|found| found.seq == last.seq && found.hash == last.hash) {
                self.sealing.0.lock().broken = true;
                metrics::gauge!("trustrelay_audit_broken").set(1);
                tracing::error!(
                    entry = last.seq,
                    "the audit log is not the one that was sealed: somebody has changed it in the database; it is not sealed any more. \
                     See `trustrelay audit verify`"
                );
                return Ok(());
            }
        }
        if let Some(key) = self.seal_keys.first() {
            let at = self.clock.now();
            let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at);
            self.store.seal_audit(&key.seal(&ends.head, at)).await?;
            self.sealing.0.lock().last = Some(ends.head);
        }
        Ok(())
    }
}
