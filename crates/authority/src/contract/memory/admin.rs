//! What administrators decide, in the store in memory.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::audit::{append, permit};
use super::{Data, MemoryStore, head, is_active};
use crate::admin::{
    AdminStore, Cursor, InviteRecord, Key, PatFilter, PatOwner, PatPage, PatState, UserChange, UserFilter,
    UserPage,
};
use crate::audit::AuditEntry;
use crate::record::{Change, LogEntry, PatRecord, UserRecord};
use crate::store::StoreError;

/// Refuses if the account is the only one that administers and is enabled.
pub(super) fn spare_the_last_administrator(data: &Data, user_id: Uuid) -> Result<(), StoreError> {
    let mut enabled = data.users.iter().filter(|user| user.is_admin && user.disabled_at.is_none());
    match (enabled.next(), enabled.next()) {
        (Some(only), None) if only.user_id == user_id => Err(StoreError::LastAdministrator),
        _ => Ok(()),
    }
}

/// The tokens that a filter fits, in its order, each with its owner's address.
fn fitting(data: &Data, filter: &PatFilter, now: Timestamp) -> Vec<(PatRecord, String)> {
    let email = |pat: &PatRecord| {
        let owner = data.users.iter().find(|user| user.user_id == pat.user_id);
        owner.map(|owner| owner.email.clone()).unwrap_or_default()
    };
    let state = |pat: &PatRecord| match pat.revoked_at {
        Some(_) => PatState::Revoked,
        None if pat.expires_at > now => PatState::Active,
        None => PatState::Expired,
    };
    let fits = |pat: &&PatRecord| {
        let is_theirs = match &filter.owner {
            None => true,
            Some(PatOwner::Id(user_id)) => pat.user_id == *user_id,
            Some(PatOwner::Email(prefix)) => email(pat).starts_with(&prefix.to_ascii_lowercase()),
        };
        is_theirs
            && filter
                .name
                .as_ref()
                .is_none_or(|prefix| pat.name.to_ascii_lowercase().starts_with(&prefix.to_ascii_lowercase()))
            && filter.hint.as_ref().is_none_or(|hint| pat.hint == *hint)
            && filter.state.is_none_or(|wanted| state(pat) == wanted)
            && !(filter.leaves_revoked_out() && pat.revoked_at.is_some())
            && filter.expires_before.is_none_or(|before| pat.expires_at < before)
            && filter.unused_since.is_none_or(|since| pat.last_used_at.unwrap_or(pat.created_at) < since)
    };
    let mut found: Vec<_> = data.pats.iter().filter(fits).map(|pat| (pat.clone(), email(pat))).collect();
    let order = filter.order();
    found.sort_by_key(|(pat, _)| (order.key(pat), pat.pat_id));
    if order.is_descending() {
        found.reverse();
    }
    found
}

#[async_trait]
impl AdminStore for MemoryStore {
    async fn insert_invite(
        &self,
        invite: &InviteRecord,
        limit: u64,
        audit: &AuditEntry,
    ) -> Result<(), StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        if data.users.iter().any(|user| user.email == invite.email) {
            return Err(StoreError::EmailTaken);
        }
        let stays =
            |other: &InviteRecord| other.email != invite.email && other.expires_at > invite.created_at;
        let others = data.invites.iter().filter(|other| stays(other)).count() as u64;
        if others >= limit {
            return Err(StoreError::TooManyInvites(others));
        }
        data.invites.retain(stays);
        data.invites.push(invite.clone());
        append(&mut data, audit)
    }

    async fn invite_by_digest(&self, digest: &[u8; 32]) -> Result<Option<InviteRecord>, StoreError> {
        Ok(self.data()?.invites.iter().find(|invite| invite.digest == *digest).cloned())
    }

    async fn invites(&self, now: Timestamp) -> Result<Vec<InviteRecord>, StoreError> {
        let data = self.data()?;
        let mut open: Vec<_> =
            data.invites.iter().filter(|invite| invite.expires_at > now).cloned().collect();
        open.sort_by_key(|invite| std::cmp::Reverse((invite.created_at, invite.invite_id)));
        Ok(open)
    }

    async fn delete_invite(&self, invite_id: Uuid, audit: &AuditEntry) -> Result<bool, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let before = data.invites.len();
        data.invites.retain(|invite| invite.invite_id != invite_id);
        if data.invites.len() == before {
            return Ok(false);
        }
        append(&mut data, audit)?;
        Ok(true)
    }

    async fn accept_invite(
        &self,
        digest: &[u8; 32],
        user: &UserRecord,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let is_open =
            |invite: &&InviteRecord| invite.digest == *digest && invite.expires_at > user.created_at;
        if data.invites.iter().find(is_open).is_none() {
            return Ok(false);
        }
        if data.users.iter().any(|other| other.email == user.email) {
            return Err(StoreError::EmailTaken);
        }
        data.invites.retain(|invite| invite.digest != *digest);
        data.users.push(user.clone());
        append(&mut data, audit)?;
        Ok(true)
    }

    async fn change_user(
        &self,
        user_id: Uuid,
        change: &UserChange,
        now: Timestamp,
        audit: &AuditEntry,
    ) -> Result<Option<u64>, StoreError> {
        let mut data = self.data()?;
        permit(&data, audit)?;
        let Some(at) = data.users.iter().position(|user| user.user_id == user_id) else { return Ok(None) };
        let user = &data.users[at];
        let is_so = match change {
            UserChange::Admin(is_admin) => user.is_admin == *is_admin,
            UserChange::Upstreams(upstreams) => user.upstreams == *upstreams,
            UserChange::NarrowUpstreams(names) => user.upstreams.as_ref() == Some(names),
        };
        if is_so {
            return Ok(Some(data.user_seq.get(&user_id).copied().unwrap_or(0)));
        }
        change.check_narrowing(user.upstreams.as_ref().map(|names| names.iter().map(String::as_str)))?;
        let told = match change {
            UserChange::Admin(is_admin) => {
                if !is_admin {
                    spare_the_last_administrator(&data, user_id)?;
                }
                data.users[at].is_admin = *is_admin;
                Change::AdminChanged(user_id)
            }
            UserChange::Upstreams(upstreams) => {
                data.users[at].upstreams.clone_from(upstreams);
                Change::UpstreamsChanged(user_id)
            }
            UserChange::NarrowUpstreams(names) => {
                data.users[at].upstreams = Some(names.clone());
                Change::UpstreamsChanged(user_id)
            }
        };
        let seq = head(&data) + 1;
        data.log.push(LogEntry { seq, at: now, change: told });
        data.user_seq.insert(user_id, seq);
        append(&mut data, audit)?;
        Ok(Some(seq))
    }

    async fn search_users(
        &self,
        filter: &UserFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<UserPage, StoreError> {
        let data = self.data()?;
        let place = |user: &UserRecord| (user.created_at.as_microsecond(), user.user_id);
        let is_after = |user: &UserRecord| match after {
            None => true,
            Some(Cursor { key: Key::Micros(micros), id }) => place(user) < (*micros, *id),
            Some(_) => false,
        };
        let fits = |user: &&UserRecord| {
            filter
                .email
                .as_ref()
                .is_none_or(|part| user.email.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
                && filter.is_admin.is_none_or(|is_admin| user.is_admin == is_admin)
                && filter.is_disabled.is_none_or(|is_disabled| user.disabled_at.is_some() == is_disabled)
                && is_after(user)
        };
        let mut found: Vec<_> = data.users.iter().filter(fits).cloned().collect();
        found.sort_by_key(|user| std::cmp::Reverse(place(user)));
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more);
        let next = last.map(|user| Cursor { key: Key::Micros(place(user).0), id: user.user_id });
        let tokens = |user: &UserRecord| {
            data.pats.iter().filter(|pat| pat.user_id == user.user_id && is_active(pat, now)).count() as u64
        };
        Ok(UserPage { users: found.into_iter().map(|user| (user.clone(), tokens(&user))).collect(), next })
    }

    async fn search_pats(
        &self,
        filter: &PatFilter,
        after: Option<&Cursor>,
        limit: u64,
        now: Timestamp,
    ) -> Result<PatPage, StoreError> {
        let order = filter.order();
        let mut pats = fitting(&*self.data()?, filter, now);
        pats.retain(|(pat, _)| match after {
            None => true,
            Some(after) if std::mem::discriminant(&after.key) != std::mem::discriminant(&order.key(pat)) => {
                false
            }
            Some(Cursor { key: Key::Text(text), .. }) if text.contains('\0') => false,
            Some(after) => {
                let (here, there) = ((order.key(pat), pat.pat_id), (after.key.clone(), after.id));
                if order.is_descending() { here < there } else { here > there }
            }
        });
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = pats.len() > limit;
        pats.truncate(limit);
        let last = pats.last().filter(|_| more);
        let next = last.map(|(pat, _)| order.after(pat));
        Ok(PatPage { pats, next })
    }

    async fn count_pats(&self, filter: &PatFilter, most: u64, now: Timestamp) -> Result<u64, StoreError> {
        Ok((fitting(&*self.data()?, filter, now).len() as u64).min(most))
    }
}
