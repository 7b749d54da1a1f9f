//! Accounts: add, and the first one by a one-time link. What becomes of them is in `admin`.

use std::net::IpAddr;

use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::audit::{Actor, AuditEntry};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::UserRecord;
use crate::sessions::random_secret;

/// Shortest password, in characters (NIST SP 800-63B-4 asks for 15 without a second factor, 8 with
/// one; common words are no longer than this).
pub const MIN_PASSWORD_CHARS: usize = 12;
/// Longest password, in bytes: more is work for the hash and no gain.
const MAX_PASSWORD_BYTES: usize = 1024;

/// What is asked of a new account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its e-mail address.
    pub email: String,
    /// Its password.
    pub password: Zeroizing<String>,
    /// Whether it administers this TrustRelay.
    pub is_admin: bool,
}

/// The one-time link to the first account.
pub(crate) struct Setup(Zeroizing<String>);

impl Authority {
    /// Adds an account: what the operator at the machine may do.
    pub async fn add_account(&self, new: NewAccount) -> Result<UserRecord, AuthorityError> {
        let user = self.prepared(new).await?;
        self.store.insert_user(&user, &added(Actor::OPERATOR, &user)).await?;
        tracing::info!(user_id = %user.user_id, is_admin = user.is_admin, "added an account");
        Ok(user)
    }

    /// Sets an account's password and ends its browser sessions: what the operator at the machine
    /// may do.
    pub async fn set_password(&self, email: &str, password: Zeroizing<String>) -> Result<(), AuthorityError> {
        check_password("password", &password)?;
        let user = self.account(email).await?;
        let hash = self.passwords.hash(password).await?;
        let audit = AuditEntry::new(self.clock.now(), Actor::OPERATOR, "account.password_changed")
            .of_user(user.user_id);
        Ok(self.store.set_password(user.user_id, &hash, None, &audit).await?)
    }

    /// Whether this is an account's password; `false` if there is no such account. For the operator
    /// at the machine: nobody who can guess may ask.
    pub async fn has_password(
        &self,
        email: &str,
        password: Zeroizing<String>,
    ) -> Result<bool, AuthorityError> {
        let stored = self.store.user_by_email(email).await?.map(|user| user.password_hash);
        let turn = self.passwords.turn().await?;
        self.passwords.matches(turn, password, stored).await
    }

    /// All accounts, oldest first.
    pub async fn accounts(&self) -> Result<Vec<UserRecord>, AuthorityError> {
        Ok(self.store.list_users().await?)
    }

    /// Whether there is any account.
    pub async fn has_accounts(&self) -> Result<bool, AuthorityError> {
        Ok(self.store.has_users().await?)
    }

    /// Opens the one-time set-up, and answers the secret of its link. An earlier one no longer
    /// works.
    pub fn open_setup(&self) -> Result<String, AuthorityError> {
        let secret = random_secret()?;
        *self.setup.lock() = Some(Setup(secret.clone()));
        Ok(secret.to_string())
    }

    /// Whether `secret` opens the set-up.
    pub fn setup_is_open(&self, secret: &str) -> bool {
        self.setup.lock().as_ref().is_some_and(|setup| setup.0.as_bytes().ct_eq(secret.as_bytes()).into())
    }

    /// Makes the first account, an administrator, and closes the set-up.
    pub async fn set_up(
        &self,
        secret: &str,
        email: String,
        password: String,
        from: Option<IpAddr>,
    ) -> Result<(), AuthorityError> {
        if !self.setup_is_open(secret) {
            return Err(AuthorityError::NotFound(
                "setup link; a setup link works once, and the server prints a new one when it starts",
            ));
        }
        let user =
            self.prepared(NewAccount { email, password: Zeroizing::new(password), is_admin: true }).await?;
        let first = self.store.insert_first_user(&user, &added(Actor::anonymous(from), &user)).await?;
        *self.setup.lock() = None;
        if first {
            Ok(())
        } else {
            Err(AuthorityError::Conflict("the first account exists already; sign in with it".into()))
        }
    }

    async fn prepared(&self, new: NewAccount) -> Result<UserRecord, AuthorityError> {
        let email = checked_email(&new.email)?;
        check_password("password", &new.password)?;
        Ok(UserRecord {
            user_id: Uuid::now_v7(),
            email,
            password_hash: self.passwords.hash(new.password).await?,
            is_admin: new.is_admin,
            created_at: self.clock.now(),
            disabled_at: None,
            upstreams: None,
        })
    }
}

fn added(actor: Actor, user: &UserRecord) -> AuditEntry {
    AuditEntry::new(user.created_at, actor, "account.added")
        .of_user(user.user_id)
        .with("email", &user.email)
        .with("is_admin", user.is_admin)
}

/// An e-mail address as it is kept. Only its shape is checked: whether mail arrives is not known
/// here.
pub(crate) fn checked_email(email: &str) -> Result<String, AuthorityError> {
    let email = email.trim().to_lowercase();
    let fits = email.len() <= 254
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    if fits {
        Ok(email)
    } else {
        Err(AuthorityError::Invalid {
            field: "email",
            message: "`email` must be an email address, such as ada@example.org".into(),
        })
    }
}

pub(crate) fn check_password(field: &'static str, password: &str) -> Result<(), AuthorityError> {
    let length = password.chars().count();
    let message = if length < MIN_PASSWORD_CHARS {
        format!("the password has {length} characters; use at least {MIN_PASSWORD_CHARS}")
    } else if password.len() > MAX_PASSWORD_BYTES {
        format!("the password is longer than {MAX_PASSWORD_BYTES} bytes; choose a shorter one")
    } else {
        return Ok(());
    };
    Err(AuthorityError::Invalid { field, message })
}
