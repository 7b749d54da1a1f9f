//! Rotate: a new secret for a token that stays what it is. Its identity, its name, its scopes and
//! its open sessions are the token's, not the secret's. The old secret is good for an overlap, so
//! that what uses it can be given the new one in peace.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use trustrelay_token::{Principal, Scope, Token, TokenDigest};
use uuid::Uuid;

use crate::audit::{Actor, AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::expiry::Expiry;
use crate::issue::invalid;
use crate::policy::PolicyRecord;
use crate::record::PatRecord;
use crate::revoke::PatRef;
use crate::rotation::{PastRotation, Repeatable, RotateOutcome, Rotation};
use crate::secret::{RotationKey, token_from};
use crate::store::StoreError;

/// How long the old secret is good if nothing is said.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// How long it may be good at most: who needs longer needs two tokens.
pub const MAX_OVERLAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long it is good at least where a token rotates itself: if the answer is lost, the old secret
/// has to ask again.
pub const MIN_OWN_OVERLAP: Duration = Duration::from_secs(60);
/// For how long a rotation is answered again to whoever repeats its idempotency key.
pub const REPEATABLE_FOR: Duration = Duration::from_secs(24 * 3600);
/// How often those that are over are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Longest idempotency key, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// How often a rotation is tried again that another one came before.
const TRIES: usize = 3;
/// How far up a token looks for itself among another one's ancestors.
const MAX_DEPTH: usize = 64;

/// Until when the old secret is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// For so long, at most [`MAX_OVERLAP`]; zero: not at all.
    For(Duration),
    /// Until the new secret is used for the first time, or the old one would have expired.
    UntilFirstUse,
}

/// What is asked of a rotation.
#[derive(Debug, Clone)]
pub struct Rotate {
    /// Until when the old secret is good.
    pub overlap: Overlap,
    /// When the token expires from now on. [`Expiry::Default`]: it gets as long a life again as it
    /// had.
    pub expiry: Expiry,
    /// Makes it safe to ask again if the answer was lost: the same key gives the same answer for
    /// [`REPEATABLE_FOR`]. 1 to 255 visible ASCII characters, never the same for two rotations
    /// (draft-ietf-httpapi-idempotency-key-header-07, §2).
    pub idempotency_key: Option<String>,
}

/// A token with a new secret: the one time that it is whole.
#[derive(Debug)]
pub struct Rotated {
    /// What is kept of the token.
    pub record: PatRecord,
    /// The new secret.
    pub token: Token,
    /// From when on the old secret is refused, at the latest.
    pub old_valid_until: Timestamp,
    /// Whether the new secret's first use ends the old one.
    pub until_first_use: bool,
}

/// What became of a rotation that was to be committed.
enum Settled {
    Rotated,
    /// The token has another secret by now.
    OtherSecret,
    /// Its new life was judged by a policy that another one has replaced.
    OtherPolicy,
}

impl Rotate {
    fn checked(&self, by_itself: bool) -> Result<(), AuthorityError> {
        match self.overlap {
            Overlap::For(overlap) if overlap > MAX_OVERLAP => Err(invalid(
                "overlap_seconds",
                format!(
                    "`overlap_seconds` is {}; the maximum is {} (7 days)",
                    overlap.as_secs(),
                    MAX_OVERLAP.as_secs()
                ),
            )),
            Overlap::For(overlap) if by_itself && overlap < MIN_OWN_OVERLAP => Err(invalid(
                "overlap_seconds",
                format!(
                    "`overlap_seconds` is {}; a token that rotates itself must keep its old secret for at least {}, so that it can retry \
                     if the answer is lost; or use `until_first_use`",
                    overlap.as_secs(),
                    MIN_OWN_OVERLAP.as_secs()
                ),
            )),
            _ => Ok(()),
        }?;
        match &self.idempotency_key {
            Some(key)
                if key.is_empty()
                    || key.len() > MAX_KEY_BYTES
                    || !key.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                let message = "`Idempotency-Key` must be 1 to 255 visible ASCII characters, such as a UUID, and new for each rotation";
                Err(invalid("Idempotency-Key", message))
            }
            _ => Ok(()),
        }
    }

    /// What was asked for, to tell a repetition from another request with the same key.
    fn digest(&self, pat_id: Uuid) -> [u8; 32] {
        let overlap = match self.overlap {
            Overlap::For(overlap) => overlap.as_secs().to_string(),
            Overlap::UntilFirstUse => "first use".to_owned(),
        };
        let expiry = match self.expiry {
            Expiry::Default => "default".to_owned(),
            Expiry::Days(days) => format!("{days} days"),
            Expiry::At(at) => at.to_string(),
        };
        Sha256::digest(format!("{pat_id}\n{overlap}\n{expiry}")).into()
    }

    /// From when on the old secret is refused.
    fn valid_until(&self, pat: &PatRecord, now: Timestamp) -> Timestamp {
        let until = match self.overlap {
            Overlap::For(overlap) => {
                SignedDuration::try_from(overlap).ok().and_then(|overlap| now.checked_add(overlap).ok())
            }
            Overlap::UntilFirstUse => None,
        };
        until.map_or(pat.expires_at, |until| until.min(pat.expires_at))
    }
}

impl Authority {
    /// Gives one of the caller's tokens a new secret. A browser session may rotate all of its
    /// person's; a token with `rotate` or `tokens` itself; one with `tokens` also those that were
    /// made with it, at any depth, and no others: their secrets would open what it does not. When
    /// it is answered, no node takes the old secret for longer than the overlap.
    pub async fn rotate(&self, by: &By, which: PatRef, asked: Rotate) -> Result<Rotated, AuthorityError> {
        let pat_id = self.rotatable(by, which).await?;
        let pat = match self.store.pat_by_id(pat_id).await? {
            Some(pat) if pat.user_id == by.user_id => pat,
            _ => return Err(AuthorityError::NotFound("token")),
        };
        self.rotate_as(by.actor(), by.pat_id() == Some(pat_id), pat, asked).await
    }

    /// Gives a token a new secret, whoever's it is: what the operator at the machine may do.
    pub async fn rotate_any(&self, pat_id: Uuid, asked: Rotate) -> Result<Rotated, AuthorityError> {
        let pat = self.store.pat_by_id(pat_id).await?.ok_or(AuthorityError::NotFound("token"))?;
        self.rotate_as(Actor::OPERATOR, false, pat, asked).await
    }

    async fn rotatable(&self, by: &Principal, which: PatRef) -> Result<Uuid, AuthorityError> {
        match (which, by.pat_id()) {
            (PatRef::Id(id), Some(own)) if id != own => {
                self.require(by, &Scope::Tokens)?;
                let is_below = self.is_below(id, own).await?;
                is_below.then_some(id).ok_or(AuthorityError::NotFound("token created with this one"))
            }
            (_, Some(own)) => self.require(by, &Scope::Rotate).map(|()| own),
            (which, None) => self.resolve(by, which),
        }
    }

    /// Whether a token was made with `ancestor`, or with one that was.
    async fn is_below(&self, pat_id: Uuid, ancestor: Uuid) -> Result<bool, AuthorityError> {
        let mut at = pat_id;
        for _ in 0..MAX_DEPTH {
            match self.store.pat_by_id(at).await?.and_then(|pat| pat.parent_id) {
                None => return Ok(false),
                Some(parent) if parent == ancestor => return Ok(true),
                Some(parent) => at = parent,
            }
        }
        Ok(false)
    }

    async fn rotate_as(
        &self,
        actor: Actor,
        by_itself: bool,
        mut pat: PatRecord,
        asked: Rotate,
    ) -> Result<Rotated, AuthorityError> {
        asked.checked(by_itself)?;
        for _ in 0..TRIES {
            if let Some(again) = self.answer_again(&pat, &asked).await? {
                return Ok(again);
            }
            let now = self.clock.now();
            check_active(&pat, now)?;
            let PolicyRecord { seq, policy } = self.judging_policy().await?;
            let expires_at = self.next_expiry(&pat, by_itself, asked.expiry, now, &policy).await?;
            let (token, repeatable) = self.next_secret(&pat, &asked)?;
            let Some(key) = self.keys.first() else {
                return Err(AuthorityError::Internal("no server secret".into()));
            };
            let rotation = Rotation {
                pat_id: pat.pat_id,
                at: now,
                replaces: pat.digest,
                digest: key.digest(&token),
                key_id: key.id(),
                hint: token.hint(),
                expires_at,
                old_valid_until: asked.valid_until(&pat, now),
                until_first_use: asked.overlap == Overlap::UntilFirstUse,
                repeatable,
            };
            let audit = AuditEntry::new(now, actor.clone().under_policy(seq), "token.rotated")
                .of_user(pat.user_id)
                .of_pat(pat.pat_id)
                .with("name", &pat.name)
                .with("expires_at", expires_at)
                .with("old_hint", &pat.hint)
                .with(
                    "old_valid_until",
                    if rotation.until_first_use {
                        "first use".to_owned()
                    } else {
                        rotation.old_valid_until.to_string()
                    },
                );
            match self.settle_rotation(rotation.clone(), audit).await? {
                Settled::Rotated => {
                    let record = PatRecord {
                        digest: rotation.digest,
                        key_id: rotation.key_id,
                        hint: rotation.hint,
                        expires_at,
                        rotated_at: Some(now),
                        ..pat
                    };
                    let Rotation { old_valid_until, until_first_use, .. } = rotation;
                    return Ok(Rotated { record, token, old_valid_until, until_first_use });
                }
                Settled::OtherPolicy => continue,
                Settled::OtherSecret => {}
            }
            // Another rotation came first, perhaps with the same key.
            pat = self.store.pat_by_id(pat.pat_id).await?.ok_or(AuthorityError::NotFound("token"))?;
            if asked.idempotency_key.is_none() {
                break;
            }
        }
        Err(AuthorityError::Conflict(
            "the token was rotated or the policy was changed at the same time; \
             if the token has another secret now, use that one"
                .into(),
        ))
    }

    /// Commits a rotation and waits for the fence.
    async fn settle_rotation(
        &self,
        rotation: Rotation,
        audit: AuditEntry,
    ) -> Result<Settled, AuthorityError> {
        let me = self.me.upgrade().ok_or_else(|| AuthorityError::Internal("shutting down".into()))?;
        // A task of its own: once begun it is carried through, also if the caller goes away.
        let done = tokio::spawn(async move {
            let outcome = match me.store.rotate_pat(&rotation, &audit).await {
                Err(StoreError::PolicyChanged) => return Ok(Settled::OtherPolicy),
                outcome => outcome?,
            };
            match outcome {
                RotateOutcome::Rotated(seq) => {
                    me.wait_for_fence(seq).await?;
                    tracing::info!(pat_id = %rotation.pat_id, old_valid_until = %rotation.old_valid_until, "rotated a token");
                    Ok(Settled::Rotated)
                }
                RotateOutcome::Changed => Ok(Settled::OtherSecret),
                RotateOutcome::Outlived => Err(AuthorityError::Conflict(
                    "the expiry of its parent token or of a token created with it was changed at the \
                     same time; review it and try again"
                        .into(),
                )),
                RotateOutcome::NotActive => Err(AuthorityError::Conflict(
                    "the token is no longer active, because it was revoked or has expired; create a new token".into(),
                )),
            }
        });
        done.await.map_err(|error| AuthorityError::Internal(error.to_string()))?
    }

    /// A new secret: random, or made from what is kept and the caller's key, so that it can be made
    /// again.
    fn next_secret(
        &self,
        pat: &PatRecord,
        asked: &Rotate,
    ) -> Result<(Token, Option<Repeatable>), AuthorityError> {
        let internal = |error: &dyn std::fmt::Display| AuthorityError::Internal(error.to_string());
        let Some(key) = &asked.idempotency_key else {
            return Ok((Token::generate().map_err(|error| internal(&error))?, None));
        };
        let Some(rotation_key) = self.rotation_keys.first() else {
            return Err(AuthorityError::Internal("no server secret".into()));
        };
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| internal(&error))?;
        let token = secret_from(rotation_key, pat.pat_id, &nonce, key);
        let key_digest = Sha256::digest(key).into();
        Ok((token, Some(Repeatable { key_digest, asked_digest: asked.digest(pat.pat_id), nonce })))
    }

    /// The answer of before, if this is the same request again.
    async fn answer_again(&self, pat: &PatRecord, asked: &Rotate) -> Result<Option<Rotated>, AuthorityError> {
        let Some(key) = &asked.idempotency_key else { return Ok(None) };
        let key_digest: [u8; 32] = Sha256::digest(key).into();
        let Some(past) = self.store.last_rotation(pat.pat_id).await? else { return Ok(None) };
        if past.repeatable.key_digest != key_digest || !is_recent(&past, self.clock.now()) {
            return Ok(None);
        }
        if past.repeatable.asked_digest != asked.digest(pat.pat_id) {
            return Err(AuthorityError::IdempotencyKeyReused);
        }
        check_active(pat, self.clock.now())?;
        let Some(digest_key) = self.keys.iter().find(|key| key.id() == pat.key_id) else {
            return Err(AuthorityError::Conflict(
                "the server secret was replaced after this rotation, so its answer cannot be repeated; rotate the token again".into(),
            ));
        };
        // The secret may have been made under an older key than its digest, if the token was
        // re-keyed since.
        let made = self
            .rotation_keys
            .iter()
            .map(|made_under| secret_from(made_under, pat.pat_id, &past.repeatable.nonce, key));
        // Rotated again between the two looks: then none of these is its secret any more.
        let Some(token) = made.into_iter().find(|token| digest_key.digest(token) == pat.digest) else {
            return Ok(None);
        };
        self.pass_fence(past.seq).await?;
        let PastRotation { old_valid_until, until_first_use, .. } = past;
        Ok(Some(Rotated { record: pat.clone(), token, old_valid_until, until_first_use }))
    }

    /// Ends the secrets of before whose time is over, and what was opened with them.
    pub(crate) fn end_overlaps(&self) {
        let over = self.index.end_overlaps(self.clock.now());
        for (pat_id, digest) in &over {
            self.cut_secret(*pat_id, digest);
        }
        if !over.is_empty() {
            self.fence.changed.notify_waiters();
        }
    }

    /// Has the store say that secrets have ended whose overlap is over by this node's clock. Slower
    /// clocks say otherwise, and are not asked from then on.
    pub(crate) async fn mark_ended(&self) {
        for pat_id in self.index.ending.take_overdue() {
            if let Err(error) = self.mark_ended_of(pat_id).await {
                tracing::debug!(%error, "could not mark an old secret as ended; trying again later");
                self.index.ending.overdue(pat_id);
            }
        }
    }

    async fn mark_ended_of(&self, pat_id: Uuid) -> Result<(), StoreError> {
        let Some(pat) = self.store.pat_by_id(pat_id).await? else { return Ok(()) };
        let now = self.clock.now();
        let audit = AuditEntry::new(now, Actor::SYSTEM, "token.secret_retired")
            .of_user(pat.user_id)
            .of_pat(pat_id)
            .with("name", &pat.name)
            .with("reason", "its overlap was over");
        self.store.end_overlap(pat_id, now, &audit).await.map(drop)
    }

    /// Ends what was opened with a secret, whose standing has been ended before; how much.
    pub(crate) fn cut_secret(&self, pat_id: Uuid, digest: &TokenDigest) -> usize {
        self.cut.get().map_or(0, |cut| cut.cut_secret(pat_id, digest))
    }

    /// Ends the secret before this one, whose first use this is. Whoever uses it is let in when all
    /// nodes have heard of that ([`FoundPat::first_use_seq`](crate::FoundPat)).
    pub(crate) async fn first_use(self: &Arc<Self>, pat: &PatRecord) -> Result<(), AuthorityError> {
        let now = self.clock.now();
        let audit = AuditEntry::new(now, Actor::SYSTEM, "token.secret_retired")
            .of_user(pat.user_id)
            .of_pat(pat.pat_id)
            .with("name", &pat.name)
            .with("reason", "the new secret was used for the first time");
        let (me, pat_id) = (Arc::clone(self), pat.pat_id);
        // Carried through, also if who used it goes away.
        let done = tokio::spawn(async move { me.store.retire_secret(pat_id, now, &audit).await.map(drop) });
        Ok(done.await.map_err(|error| AuthorityError::Internal(error.to_string()))??)
    }

    /// Forgets, now and then, what past rotations could be answered again with.
    pub(crate) async fn forget_rotations(&self) {
        let since_boot = self.clock.since_boot();
        let due =
            self.rotations_forgotten.lock().is_none_or(|at| since_boot.saturating_sub(at) >= FORGET_EVERY);
        let Some(before) = due.then(|| oldest_repeatable(self.clock.now())).flatten() else { return };
        match self.store.forget_rotations(before).await {
            Ok(_) => *self.rotations_forgotten.lock() = Some(since_boot),
            Err(error) => tracing::debug!(%error, "could not delete past rotations; trying again later"),
        }
    }
}

fn oldest_repeatable(now: Timestamp) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::try_from(REPEATABLE_FOR).ok()?).ok()
}

fn is_recent(past: &PastRotation, now: Timestamp) -> bool {
    oldest_repeatable(now).is_some_and(|oldest| past.at > oldest)
}

fn check_active(pat: &PatRecord, now: Timestamp) -> Result<(), AuthorityError> {
    let ended = match pat.revoked_at {
        Some(at) => format!("the token was revoked at {at}; create a new token"),
        None if pat.expires_at <= now => {
            format!("the token expired at {}; create a new token", pat.expires_at)
        }
        None => return Ok(()),
    };
    Err(AuthorityError::Conflict(ended))
}

/// The secret that these make, and no others.
fn secret_from(key: &RotationKey, pat_id: Uuid, nonce: &[u8; 32], idempotency_key: &str) -> Token {
    token_from(|counter| key.block(counter, pat_id, nonce, idempotency_key))
}
