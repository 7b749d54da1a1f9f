//! Refusals that matter: noted in memory, added up, and written to the audit log in batches. Never
//! on the path of an answer.
//!
//! The same refusal (of one action and reason, to one actor from one address, on one account and
//! token) is one entry at once, and then at most one a minute, which says how many there were. A
//! flood costs what is said here and no more: when all places are taken, what else is refused is
//! added up by action alone.

use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use trustrelay_token::Denied;
use uuid::Uuid;

use crate::audit::{AUDIT_BATCH, Actor, ActorKind, AuditEntry, By};
use crate::authority::Authority;
use crate::counters::{network, widest_network};

/// How long the same refusal is added up before it is written down again.
const EVERY: Duration = Duration::from_secs(60);
/// How many refusals to somebody who is known are told apart: at some 1 KB each, 400 KB; each is
/// one entry a minute, of some 500 bytes.
const MAX_KNOWN: usize = 400;
/// How many refusals to somebody who is not known are told apart. Apart from the others: whoever
/// has no token crowds nobody out who has one.
const MAX_ANONYMOUS: usize = 100;
/// All places, with room for the sum of each action: there are fewer than a hundred.
#[cfg(test)]
pub(crate) const MAX_PLACES: usize = MAX_KNOWN + MAX_ANONYMOUS + 100;
/// The share of the places that one account's refusals may take, or without an account one /48 or
/// IPv4 address: whoever has many tokens or addresses hides nobody else's refusals in the sum.
const SHARE_OF_ONE: usize = 4;
/// The detail that keeps refusals of one action apart: one of the server's own words, never a
/// caller's.
const REASON: &str = "reason";

/// What is added up in one entry.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Same {
    action: &'static str,
    reason: Option<String>,
    kind: ActorKind,
    by: (Option<Uuid>, Option<Uuid>),
    from: Option<IpAddr>,
    of: (Option<Uuid>, Option<Uuid>),
}

impl Same {
    fn is_from_one_source_with(&self, other: &Self) -> bool {
        let (user, of) = (self.by.0, other.by.0);
        user == of && (user.is_some() || self.from.map(widest_network) == other.from.map(widest_network))
    }
}

/// Refusals that are one entry.
struct Waiting {
    /// The first of them.
    first: AuditEntry,
    count: u64,
    /// When the last was.
    until: Timestamp,
}

#[derive(Default)]
struct Place {
    waiting: Option<Waiting>,
    /// When one was last written down, since the machine's start.
    written: Option<Duration>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct RefusalLog {
    places: Mutex<HashMap<Same, Place>>,
    /// One flush at a time.
    flushing: tokio::sync::Mutex<()>,
}

impl Place {
    fn add(&mut self, entry: AuditEntry) {
        match &mut self.waiting {
            Some(waiting) => {
                waiting.count += 1;
                waiting.until = entry.at;
            }
            none => *none = Some(Waiting { until: entry.at, first: entry, count: 1 }),
        }
    }

    /// What was taken and could not be written down: older than what has come since.
    fn take_back(&mut self, older: Waiting) {
        self.written = None;
        match &mut self.waiting {
            Some(newer) => {
                newer.first = older.first;
                newer.count += older.count;
            }
            none => *none = Some(older),
        }
    }

    fn is_due(&self, now: Duration, last: bool) -> bool {
        last || self.written.is_none_or(|written| now.saturating_sub(written) >= EVERY)
    }
}

impl Waiting {
    fn entry(&self) -> AuditEntry {
        let entry = self.first.clone();
        if self.count == 1 { entry } else { entry.with("count", self.count).with("until", self.until) }
    }
}

impl RefusalLog {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.places.lock().len()
    }

    pub(crate) fn add(&self, entry: AuditEntry, action: &'static str) {
        let (kind, by) = (entry.actor.kind, (entry.actor.user_id, entry.actor.pat_id));
        let same = Same {
            action,
            reason: entry.details.get(REASON).cloned(),
            kind,
            by,
            from: entry.actor.address.map(network),
            of: (entry.user_id, entry.pat_id),
        };
        let mut places = self.places.lock();
        if let Some(place) = places.get_mut(&same) {
            return place.add(entry);
        }
        let anonymous = kind == ActorKind::Anonymous;
        let most = if anonymous { MAX_ANONYMOUS } else { MAX_KNOWN };
        let (mut taken, mut taken_by_one) = (0, 0);
        for other in places.keys().filter(|same| (same.kind == ActorKind::Anonymous) == anonymous) {
            taken += 1;
            taken_by_one += usize::from(same.is_from_one_source_with(other));
        }
        if taken < most && taken_by_one < most / SHARE_OF_ONE {
            return places.entry(same).or_default().add(entry);
        }
        // Actions are few, and their names the program's own.
        let rest = Same {
            reason: None,
            kind: ActorKind::System,
            by: (None, None),
            from: None,
            of: (None, None),
            ..same
        };
        let entry = AuditEntry::new(entry.at, Actor::SYSTEM, action).with("to", "too many to tell apart");
        places.entry(rest).or_default().add(entry);
    }

    /// What is to be written down now; the places of what has been quiet for a while are free
    /// again.
    fn take(&self, now: Duration, last: bool) -> Vec<(Same, Waiting)> {
        let mut places = self.places.lock();
        let mut taken = Vec::new();
        places.retain(|same, place| {
            if !place.is_due(now, last) {
                return true;
            }
            let Some(waiting) = place.waiting.take() else { return false };
            place.written = Some(now);
            taken.push((same.clone(), waiting));
            true
        });
        taken.sort_by_key(|(_, waiting)| waiting.first.at);
        taken
    }
}

impl Authority {
    /// Notes that something was refused: what (`refused.…`), to whom, and on whose account and
    /// which token, as far as that is known. A detail named `reason` keeps refusals apart, so its
    /// values must be the program's own; of the other details, those of the first of several are
    /// kept. Quick, and never waits.
    pub fn note_refusal(
        &self,
        action: &'static str,
        actor: Actor,
        user_id: Option<Uuid>,
        pat_id: Option<Uuid>,
        details: &[(&'static str, &str)],
    ) {
        let mut entry = AuditEntry::new(self.clock.now(), actor, action);
        (entry.user_id, entry.pat_id) = (user_id, pat_id);
        let entry = details.iter().fold(entry, |entry, (name, value)| entry.with(name, value));
        self.refusals.add(entry, action);
    }

    /// Notes that a caller was refused something: it concerns the caller's own account and token.
    pub fn note_refusal_to(&self, by: &By, action: &'static str, details: &[(&'static str, &str)]) {
        self.note_refusal(action, by.actor(), Some(by.user_id), by.pat_id(), details);
    }

    /// Notes that somebody could not sign in: at which account, if it is there. What was typed is
    /// not kept, for it may be anything, a password too.
    pub(crate) fn note_refused_login(
        &self,
        user_id: Option<Uuid>,
        from: Option<IpAddr>,
        reason: &'static str,
    ) {
        self.note_refusal("refused.login", Actor::anonymous(from), user_id, None, &[(REASON, reason)]);
    }

    /// Notes that a token was refused that is known: whoever had it is the actor.
    pub(crate) fn note_refused_token(&self, holder: Actor, denied: &Denied) {
        let reason = match denied {
            Denied::Expired(_) => "expired",
            Denied::Revoked(_) => "revoked",
            Denied::OwnerDisabled => "account disabled",
            // What could not be judged was not refused, and all else has its own name in the log.
            _ => return,
        };
        let (user_id, pat_id) = (holder.user_id, holder.pat_id);
        self.note_refusal("refused.token", holder, user_id, pat_id, &[(REASON, reason)]);
    }

    /// Writes down what has waited long enough; with `last` all that waits. What the store does not
    /// take waits on. If it took something and its answer was lost, that is told twice.
    pub async fn flush_refusals(&self, last: bool) {
        let _one_at_a_time = self.refusals.flushing.lock().await;
        let mut taken = self.refusals.take(self.clock.since_boot(), last);
        while !taken.is_empty() {
            let batch: Vec<_> = taken.drain(..taken.len().min(AUDIT_BATCH)).collect();
            let entries: Vec<_> = batch.iter().map(|(_, waiting)| waiting.entry()).collect();
            if let Err(error) = self.store.append_audit(&entries).await {
                tracing::warn!(%error, entries = batch.len(), "could not write refused requests to the audit log; keeping them for the next attempt");
                let mut places = self.refusals.places.lock();
                for (same, waiting) in batch {
                    places.entry(same).or_default().take_back(waiting);
                }
            }
        }
    }
}
