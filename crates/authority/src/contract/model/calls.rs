//! The calls that a sequence is made of, and their answers.

use jiff::Timestamp;
use jiff::civil::Date;
use std::num::NonZeroU16;
use trustrelay_token::TokenDigest;
use uuid::Uuid;

use crate::admin::{InviteRecord, UserChange};
use crate::audit::{AuditEnds, AuditEntry};
use crate::keys::{KeyCount, Rekey, RekeyOutcome};
use crate::notices::WebhookRecord;
use crate::policy::{Policy, PolicyRecord};
use crate::record::{Change, KeptActivity, PatRecord, SessionRecord, TokenCalls, Usage, UserRecord};
use crate::rotation::{FoundPat, RotateOutcome, Rotation};
use crate::store::{Holder, Lease, Renewal, RevokeOutcome, Store, StoreError};

#[derive(Debug, Clone)]
pub(super) enum Call {
    InsertUser(UserRecord),
    InsertFirstUser(UserRecord),
    UserById(Uuid),
    UserByEmail(String),
    ListUsers,
    HasUsers,
    SetUserDisabled(Uuid, Option<Timestamp>, Timestamp),
    SetPassword(Uuid, String, Option<[u8; 32]>),
    InsertPat(Box<PatRecord>, u64),
    PatByDigest(TokenDigest),
    PatById(Uuid),
    ActivePats(Uuid, Timestamp),
    UnusedPats(Timestamp, Timestamp, Option<NonZeroU16>),
    RevokePat(Uuid, Timestamp),
    RecordUsage(Vec<Usage>),
    RecordCalls(Vec<TokenCalls>),
    Activity(Uuid, Date),
    ForgetCalls(Date),
    InsertSession(SessionRecord),
    SessionByDigest([u8; 32]),
    DeleteSession([u8; 32]),
    DeleteSessionsOf(Uuid, Option<[u8; 32]>),
    DeleteExpiredSessions(Timestamp),
    LogHead,
    RenewLease(Lease),
    EndLease(Uuid),
    LetGo(Vec<Holder>),
    HoldersBehind(u64, Option<Uuid>),
    BindSecret([u8; 16]),
    ReplaceSecret([u8; 16], [u8; 16]),
    Rekey(Box<Rekey>),
    KeyCounts(Timestamp),
    ChangeUser(Uuid, UserChange, Timestamp),
    RotatePat(Box<Rotation>),
    RetireSecret(Uuid, Timestamp),
    EndOverlap(Uuid, Timestamp),
    InsertInvite(InviteRecord, u64),
    DeleteInvite(Uuid),
    Invites(Timestamp),
    SetPolicy(Policy, u64, Timestamp),
    Policy,
    InsertWebhook(WebhookRecord, u64),
    DeleteWebhook(Uuid, Timestamp),
    Webhooks(Option<Uuid>),
    AuditEnds,
}

impl Call {
    /// The name of a change that somebody makes. What is read, and what nodes write down, needs no
    /// actor.
    pub(super) fn change(&self) -> Option<&'static str> {
        Some(match self {
            Self::InsertUser(..) => "insert_user",
            Self::InsertFirstUser(..) => "insert_first_user",
            Self::SetUserDisabled(..) => "set_user_disabled",
            Self::SetPassword(..) => "set_password",
            Self::InsertPat(..) => "insert_pat",
            Self::RevokePat(..) => "revoke_pat",
            Self::InsertSession(..) => "insert_session",
            Self::DeleteSession(..) => "delete_session",
            Self::DeleteSessionsOf(..) => "delete_sessions_of",
            Self::ChangeUser(..) => "change_user",
            Self::RotatePat(..) => "rotate_pat",
            Self::ReplaceSecret(..) => "replace_secret",
            Self::RetireSecret(..) => "retire_secret",
            Self::EndOverlap(..) => "end_overlap",
            Self::InsertInvite(..) => "insert_invite",
            Self::DeleteInvite(..) => "delete_invite",
            Self::SetPolicy(..) => "set_policy",
            Self::InsertWebhook(..) => "insert_webhook",
            Self::DeleteWebhook(..) => "delete_webhook",
            _ => return None,
        })
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Done,
    Is(bool),
    Count(u64),
    Entry(Option<u64>),
    User(Option<UserRecord>),
    Users(Vec<UserRecord>),
    Pat(Option<PatRecord>),
    PatOf(Option<Box<FoundPat>>),
    Pats(Vec<PatRecord>),
    Activity(KeptActivity),
    Session(Option<(SessionRecord, UserRecord)>),
    Revoked(Option<RevokeOutcome>),
    Renewal(Renewal),
    Holders(Vec<Holder>),
    Rotated(RotateOutcome),
    Rekeyed(RekeyOutcome),
    KeyCounts(Vec<KeyCount>),
    Invites(Vec<InviteRecord>),
    Policy(PolicyRecord),
    Webhooks(Vec<WebhookRecord>),
    AuditEnds(AuditEnds),
}

/// Makes a call; `by` is whoever makes it, if it is a change.
pub(super) async fn ask(store: &dyn Store, call: Call, by: &AuditEntry) -> Result<Answer, StoreError> {
    Ok(match call {
        Call::InsertUser(user) => store.insert_user(&user, by).await.map(|()| Answer::Done)?,
        Call::InsertFirstUser(user) => Answer::Is(store.insert_first_user(&user, by).await?),
        Call::UserById(id) => Answer::User(store.user_by_id(id).await?),
        Call::UserByEmail(email) => Answer::User(store.user_by_email(&email).await?),
        Call::ListUsers => Answer::Users(store.list_users().await?),
        Call::HasUsers => Answer::Is(store.has_users().await?),
        Call::SetUserDisabled(id, disabled, now) => {
            Answer::Entry(store.set_user_disabled(id, disabled, now, by).await?)
        }
        Call::SetPassword(id, hash, keep) => {
            store.set_password(id, &hash, keep, by).await.map(|()| Answer::Done)?
        }
        Call::InsertPat(pat, limit) => store.insert_pat(&pat, limit, by).await.map(|()| Answer::Done)?,
        Call::PatByDigest(digest) => Answer::PatOf(store.pat_by_digest(&digest).await?.map(Box::new)),
        Call::UnusedPats(now, by, of_all) => Answer::Pats(store.unused_pats(now, by, of_all, 1000).await?),
        Call::PatById(id) => Answer::Pat(store.pat_by_id(id).await?),
        Call::ActivePats(id, now) => Answer::Pats(store.active_pats(id, now).await?),
        Call::RevokePat(id, now) => Answer::Revoked(store.revoke_pat(id, now, by).await?),
        Call::RecordUsage(notes) => store.record_usage(&notes).await.map(|()| Answer::Done)?,
        Call::RecordCalls(notes) => store.record_calls(&notes).await.map(|()| Answer::Done)?,
        Call::Activity(id, since) => Answer::Activity(store.activity(id, since).await?),
        Call::ForgetCalls(before) => Answer::Count(store.forget_calls(before, 1000).await?),
        Call::InsertSession(session) => store.insert_session(&session, by).await.map(|()| Answer::Done)?,
        Call::SessionByDigest(digest) => Answer::Session(store.session_by_digest(&digest).await?),
        Call::DeleteSession(digest) => Answer::Is(store.delete_session(&digest, by).await?),
        Call::DeleteSessionsOf(id, keep) => Answer::Count(store.delete_sessions_of(id, keep, by).await?),
        Call::DeleteExpiredSessions(now) => Answer::Count(store.delete_expired_sessions(now).await?),
        Call::LogHead => Answer::Count(store.log_head().await?),
        Call::RenewLease(lease) => Answer::Renewal(sorted(store.renew_lease(&lease).await?)),
        Call::EndLease(id) => store.end_lease(id).await.map(|()| Answer::Done)?,
        Call::LetGo(holders) => store.let_go(&holders).await.map(|()| Answer::Done)?,
        Call::HoldersBehind(seq, except) => {
            let mut holders = store.holders_behind(seq, except).await?;
            holders.sort_by_key(|holder| holder.node_id);
            Answer::Holders(holders)
        }
        Call::ChangeUser(id, change, now) => Answer::Entry(store.change_user(id, &change, now, by).await?),
        Call::ReplaceSecret(old, new) => Answer::Is(store.replace_secret(&old, &new, by).await?),
        Call::Rekey(rekey) => Answer::Rekeyed(store.rekey_pat(&rekey).await?),
        Call::KeyCounts(now) => Answer::KeyCounts(store.key_counts(now).await?),
        Call::RotatePat(rotation) => Answer::Rotated(store.rotate_pat(&rotation, by).await?),
        Call::RetireSecret(id, now) => Answer::Entry(store.retire_secret(id, now, by).await?),
        Call::EndOverlap(id, now) => Answer::Entry(store.end_overlap(id, now, by).await?),
        Call::InsertInvite(invite, limit) => {
            store.insert_invite(&invite, limit, by).await.map(|()| Answer::Done)?
        }
        Call::DeleteInvite(id) => Answer::Is(store.delete_invite(id, by).await?),
        Call::Invites(now) => Answer::Invites(store.invites(now).await?),
        Call::SetPolicy(policy, replaces, now) => {
            Answer::Entry(store.set_policy(&policy, replaces, now, by).await?)
        }
        Call::Policy => Answer::Policy(store.policy().await?),
        Call::InsertWebhook(webhook, limit) => {
            store.insert_webhook(&webhook, limit, by).await.map(|()| Answer::Done)?
        }
        Call::DeleteWebhook(id, now) => Answer::Is(store.delete_webhook(id, now, by).await?),
        Call::Webhooks(owner) => Answer::Webhooks(store.webhooks(owner).await?),
        Call::AuditEnds => Answer::AuditEnds(store.audit_ends().await?),
        Call::BindSecret(fingerprint) => Answer::Is(store.bind_secret(&fingerprint).await?),
    })
}

/// The tokens and secrets of one entry come in any order.
fn sorted(mut renewal: Renewal) -> Renewal {
    if let Renewal::Behind(entries) = &mut renewal {
        for entry in entries {
            match &mut entry.change {
                Change::PatsRevoked(pats) => pats.sort_by_key(|pat| (pat.pat_id, *pat.digest.as_bytes())),
                Change::SecretsRetired(secrets) => secrets.sort_by_key(|secret| *secret.digest.as_bytes()),
                _ => {}
            }
        }
    }
    renewal
}
