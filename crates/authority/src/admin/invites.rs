//! Invitations: a link that makes one account, once, within a week.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use trustrelay_token::{Principal, Scope};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::accounts::{check_password, checked_email};
use crate::admin::InviteRecord;
use crate::audit::{Actor, AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::UserRecord;
use crate::sessions::random_secret;

/// How long an invitation may be accepted.
pub const INVITE_DAYS: i64 = 7;
/// Most open invitations: a listing of them stays below 500 KiB.
pub const MAX_INVITES: u64 = 1000;
/// What a link's secret is: 32 bytes in base64url.
const SECRET_CHARS: usize = 43;

/// A new invitation: the one time that its secret is there.
pub struct Invited {
    /// What is kept of it.
    pub record: InviteRecord,
    /// The secret of its link. Whoever has it becomes that account.
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for Invited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invited").field("record", &self.record).finish_non_exhaustive()
    }
}

impl Authority {
    /// Invites somebody. An earlier invitation of the same address no longer works. It makes a
    /// credential: a token needs `tokens` beside `api`.
    pub async fn invite(&self, by: &By, email: &str, is_admin: bool) -> Result<Invited, AuthorityError> {
        self.require_admin(by, &[Scope::Api, Scope::Tokens])?;
        self.invite_as(by.administrator(), Some(by.user_id), email, is_admin).await
    }

    /// The same, by the operator at the machine.
    pub async fn invite_for(&self, email: &str, is_admin: bool) -> Result<Invited, AuthorityError> {
        self.invite_as(Actor::OPERATOR, None, email, is_admin).await
    }

    async fn invite_as(
        &self,
        actor: Actor,
        created_by: Option<Uuid>,
        email: &str,
        is_admin: bool,
    ) -> Result<Invited, AuthorityError> {
        let email = checked_email(email)?;
        let secret = random_secret()?;
        let now = self.clock.now();
        let expires_at = now
            .checked_add(SignedDuration::from_hours(24 * INVITE_DAYS))
            .map_err(|error| AuthorityError::Internal(error.to_string()))?;
        let digest = self.invite_digests(&secret).next();
        let record = InviteRecord {
            invite_id: Uuid::now_v7(),
            digest: digest.ok_or_else(|| AuthorityError::Internal("no server secret".into()))?,
            email,
            is_admin,
            created_by,
            created_at: now,
            expires_at,
        };
        let audit = told(now, actor, "account.invited", &record);
        self.store.insert_invite(&record, MAX_INVITES, &audit).await?;
        Ok(Invited { record, secret })
    }

    /// The invitations that may still be accepted, newest first.
    pub async fn invites(&self, by: &Principal) -> Result<Vec<InviteRecord>, AuthorityError> {
        self.require_admin(by, &[Scope::ApiRead])?;
        Ok(self.store.invites(self.clock.now()).await?)
    }

    /// Takes an invitation back.
    pub async fn withdraw_invite(&self, by: &By, invite_id: Uuid) -> Result<(), AuthorityError> {
        self.require_admin(by, &[Scope::Api])?;
        let now = self.clock.now();
        let open = self.store.invites(now).await?;
        let invite = open.iter().find(|invite| invite.invite_id == invite_id);
        let invite = invite.ok_or(AuthorityError::NotFound("invitation"))?;
        let audit = told(now, by.administrator(), "account.invite_withdrawn", invite);
        if self.store.delete_invite(invite_id, &audit).await? {
            Ok(())
        } else {
            Err(AuthorityError::NotFound("invitation"))
        }
    }

    /// The invitation that a link's secret opens, if it still does.
    pub async fn invitation(&self, secret: &str) -> Result<Option<InviteRecord>, AuthorityError> {
        // What is no secret is refused without asking anybody.
        if secret.len() != SECRET_CHARS {
            return Ok(None);
        }
        for digest in self.invite_digests(secret) {
            if let Some(invite) = self.store.invite_by_digest(&digest).await? {
                return Ok((invite.expires_at > self.clock.now()).then_some(invite));
            }
        }
        Ok(None)
    }

    /// Accepts an invitation: makes the account with a password of its owner's choice. The link no
    /// longer works then.
    pub async fn accept_invite(
        &self,
        secret: &str,
        password: String,
        from: Option<IpAddr>,
    ) -> Result<UserRecord, AuthorityError> {
        let password = Zeroizing::new(password);
        let gone = || {
            AuthorityError::NotFound(
                "invitation; an invitation link works once, expires after a week, and is replaced by a newer one",
            )
        };
        let invite = self.invitation(secret).await?.ok_or_else(gone)?;
        check_password("password", &password)?;
        let user = UserRecord {
            user_id: Uuid::now_v7(),
            email: invite.email.clone(),
            password_hash: self.passwords.hash(password).await?,
            is_admin: invite.is_admin,
            created_at: self.clock.now(),
            disabled_at: None,
            upstreams: None,
        };
        let audit =
            told(user.created_at, Actor::anonymous(from), "account.added", &invite).of_user(user.user_id);
        if self.store.accept_invite(&invite.digest, &user, &audit).await? { Ok(user) } else { Err(gone()) }
    }

    fn invite_digests<'a>(&'a self, secret: &'a str) -> impl Iterator<Item = [u8; 32]> + 'a {
        self.invite_keys.iter().map(move |key| key.digest(secret))
    }
}

fn told(at: Timestamp, actor: Actor, action: &'static str, invite: &InviteRecord) -> AuditEntry {
    AuditEntry::new(at, actor, action)
        .with("email", &invite.email)
        .with("is_admin", invite.is_admin)
        .with("invite_id", invite.invite_id)
}
