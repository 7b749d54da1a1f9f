//! Actors of a sequence: each may have had its power once, and may have lost it since.

use std::collections::BTreeMap;

use jiff::Timestamp;
use trustrelay_token::Denied;

use super::Known;
use crate::audit::{Actor, AuditEntry, Preconditions};
use crate::power::{Credential, Power, Powerless};
use crate::rotation::Secret;
use crate::store::{Store, StoreError};

/// Of a hundred changes, so many are the system's own: it needs no power.
const BY_SYSTEM: usize = 55;
/// How many actors that had their power are kept. Few, so that some act again when they have lost
/// it.
const KEPT: usize = 8;

/// Every reason why an actor may have no power. Each must have been given.
const REASONS: [&str; 7] =
    ["revoked", "disabled", "expired", "retired", "unknown", "signed out", "no administrator"];

/// The audit entry of a change that is made with this power.
fn entry(power: Option<Power>, at: Timestamp) -> AuditEntry {
    AuditEntry::new(at, Actor { needs: Preconditions { power, policy: None }, ..Actor::SYSTEM }, "test")
}

/// Whether an actor has its power, as far as can be read. That is another way than the one by which
/// a store judges inside its transaction.
pub(super) async fn has_power(store: &dyn Store, by: &AuditEntry) -> bool {
    let Some(power) = by.actor.power() else { return true };
    let Some(user) = store.user_by_id(power.user_id).await.expect("reads") else { return false };
    let is_good = match power.credential {
        None => true,
        Some(Credential::Session(digest)) => {
            let session = store.session_by_digest(&digest).await.expect("reads");
            session.is_some_and(|(session, owner)| owner == user && by.at < session.expires_at)
        }
        Some(Credential::Secret { pat_id, digest }) => {
            let found = store.pat_by_digest(&digest).await.expect("reads");
            found.is_some_and(|found| {
                let is_over = match found.secret {
                    Secret::Current { .. } => false,
                    Secret::Retired { ended, valid_until, .. } => ended || valid_until <= by.at,
                };
                let is_its_own = found.pat.pat_id == pat_id && found.owner == user;
                is_its_own && found.pat.revoked_at.is_none() && by.at < found.pat.expires_at && !is_over
            })
        }
    };
    is_good && user.disabled_at.is_none() && (user.is_admin || !power.admin)
}

impl Known {
    /// Whoever makes the next change.
    pub(super) fn actor(&mut self) -> AuditEntry {
        let at = self.near();
        if self.random.chance(BY_SYSTEM) {
            return entry(None, at);
        }
        if !self.acted.is_empty() && self.random.chance(60) {
            let power = self.acted[self.random.below(self.acted.len())];
            return entry(Some(power), at);
        }
        let admin = self.random.chance(45);
        let (owner, credential) = match self.random.below(9) {
            0..4 => {
                let (owner, digest) = self.sessions[self.random.below(self.sessions.len())];
                (owner, Some(Credential::Session(digest)))
            }
            4..8 if !self.secrets.is_empty() => {
                let (owner, pat_id, digest) = self.secrets[self.random.below(self.secrets.len())];
                (owner, Some(Credential::Secret { pat_id, digest }))
            }
            _ => (self.user(), None),
        };
        // Now and then with what is somebody else's.
        let user_id = if self.random.chance(5) { self.user() } else { owner };
        entry(Some(Power { user_id, credential, admin }), at)
    }

    /// The number of the policy that a change was judged by, of which the present one has
    /// `present`; of many none.
    pub(super) fn judged_by(&mut self, present: u64) -> Option<u64> {
        match self.random.below(20) {
            0..16 => None,
            16..19 => Some(present),
            _ => Some(self.random.below(present as usize + 2) as u64),
        }
    }

    /// Keeps an actor that has its power, to act again when it may have lost it.
    pub(super) fn keep(&mut self, by: &AuditEntry) {
        if let Some(power) = by.actor.power().filter(|power| !self.acted.contains(power)) {
            self.acted.push(*power);
            if self.acted.len() > KEPT {
                self.acted.remove(0);
            }
        }
    }
}

fn reason(why: &Powerless) -> &'static str {
    match why {
        Powerless::Denied(Denied::Revoked(_)) => "revoked",
        Powerless::Denied(Denied::OwnerDisabled) => "disabled",
        Powerless::Denied(Denied::Expired(_)) => "expired",
        Powerless::Denied(Denied::Retired(_)) => "retired",
        Powerless::Denied(_) => "unknown",
        Powerless::SignedOut => "signed out",
        Powerless::NotAdministrator => "no administrator",
    }
}

/// How often changes of actors were refused, and why: sequences in which nothing is refused would
/// show nothing.
#[derive(Debug, Default)]
pub struct Refusals {
    /// By change: how often it was refused, and how often an actor could make it.
    changes: BTreeMap<&'static str, (usize, usize)>,
    /// By reason: how often it was given to any actor, and to one that had had that power.
    reasons: BTreeMap<&'static str, (usize, usize)>,
    /// How often a change was judged by the policy that holds, and by another one.
    policies: (usize, usize),
}

impl Refusals {
    pub(super) fn note(&mut self, change: &'static str, refused: Option<(&StoreError, bool)>) {
        let of_change = self.changes.entry(change).or_default();
        match refused {
            Some((StoreError::Powerless(why), had)) => {
                of_change.0 += 1;
                let given = self.reasons.entry(reason(why)).or_default();
                given.0 += 1;
                given.1 += usize::from(had);
            }
            _ => of_change.1 += 1,
        }
    }

    pub(super) fn note_policy(&mut self, holds: bool) {
        let (present, other) = &mut self.policies;
        *(if holds { present } else { other }) += 1;
    }

    /// Every change was refused and was made, and every reason was given.
    ///
    /// # Panics
    /// If one was not.
    pub fn assert_enough(&self) {
        assert!(self.changes.len() >= 19, "{self:?}");
        assert!(self.changes.values().all(|(refused, made)| *refused > 20 && *made > 20), "{self:?}");
        assert!(self.policies.0 > 20 && self.policies.1 > 20, "{self:?}");
        for reason in REASONS {
            let (given, lost) = self.reasons.get(reason).copied().unwrap_or_default();
            // A credential that is unknown never was good; every other reason comes to whoever had
            // the power.
            assert!(given > 20 && (lost > 5 || reason == "unknown"), "{reason}: {self:?}");
        }
    }
}
