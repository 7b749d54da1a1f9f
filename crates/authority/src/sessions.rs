//! Browser sessions: sign in, sign out, change the password.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use trustrelay_token::Principal;
use zeroize::Zeroizing;

use crate::accounts::check_password;
use crate::audit::{Actor, ActorKind, AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::index::account_of;
use crate::record::{SessionRecord, UserRecord};
use crate::throttle::Attempt;

/// What the `session` cookie holds.
pub struct SessionSecret(Zeroizing<String>);

impl SessionSecret {
    /// The cookie's value. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

/// 32 random bytes as text.
pub(crate) fn random_secret() -> Result<Zeroizing<String>, AuthorityError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *bytes).map_err(|error| AuthorityError::Internal(error.to_string()))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

fn session_entry(
    at: Timestamp,
    user: &UserRecord,
    address: Option<IpAddr>,
    action: &'static str,
) -> AuditEntry {
    let (user_id, email) = (Some(user.user_id), Some(user.email.clone()));
    let actor = Actor { kind: ActorKind::User, user_id, email, ..Actor::anonymous(address) };
    AuditEntry::new(at, actor, action).of_user(user.user_id)
}

impl Authority {
    /// Signs in. A wrong password, an unknown and a disabled account are alike in answer and time.
    pub async fn login(
        &self,
        email: &str,
        password: String,
        from: Option<IpAddr>,
    ) -> Result<(SessionSecret, Timestamp), AuthorityError> {
        let password = Zeroizing::new(password);
        let email = email.trim().to_lowercase();
        let mut attempt = match self.throttle.take(&email, from, self.clock.since_boot()) {
            Ok(attempt) => attempt,
            Err(throttled) => {
                self.note_refused_login(self.throttle.whose(&email), from, "throttled");
                return Err(throttled);
            }
        };
        let outcome = self.sign_in(&email, password, from, &mut attempt).await;
        match &outcome {
            Ok(_) => attempt.forgive(),
            Err(AuthorityError::WrongCredentials) => attempt.keep(),
            // It was not an attempt: the store did not answer, or something else broke.
            Err(_) => attempt.give_back(),
        }
        outcome
    }

    async fn sign_in(
        &self,
        email: &str,
        password: Zeroizing<String>,
        from: Option<IpAddr>,
        attempt: &mut Attempt<'_>,
    ) -> Result<(SessionSecret, Timestamp), AuthorityError> {
        let user = self.store.user_by_email(email).await?;
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let turn = self.passwords.turn().await?;
        attempt.keep();
        let good = self.passwords.matches(turn, password, hash.clone()).await?;
        let user_id = user.as_ref().map(|user| user.user_id);
        let Some(user) = user.filter(|user| good && user.disabled_at.is_none()) else {
            user_id
                .into_iter()
                .for_each(|user_id| self.throttle.learn(email, user_id, self.clock.since_boot()));
            self.note_refused_login(user_id, from, if good { "account disabled" } else { "wrong" });
            return Err(AuthorityError::WrongCredentials);
        };
        let secret = SessionSecret(random_secret()?);
        let now = self.clock.now();
        let length = jiff::SignedDuration::try_from(self.config.session_length)
            .unwrap_or(jiff::SignedDuration::from_hours(1));
        let expires_at =
            now.checked_add(length).map_err(|error| AuthorityError::Internal(error.to_string()))?;
        let session = SessionRecord {
            digest: self.session_digests(secret.expose()).next().unwrap_or_default(),
            user_id: user.user_id,
            created_at: now,
            expires_at,
        };
        let began = session_entry(now, &user, from, "session.began");
        self.store.insert_session(&session, &began).await.map_err(|error| match error {
            // Disabled between the two: alike, again.
            crate::StoreError::UserGone => AuthorityError::WrongCredentials,
            other => other.into(),
        })?;
        // A password that was changed meanwhile ended the sessions that were there, and this one
        // was not yet.
        let still = self.store.user_by_id(session.user_id).await?;
        if still.as_ref().map(|user| &user.password_hash) != hash.as_ref() {
            let ended = session_entry(now, &user, from, "session.ended");
            self.store.delete_session(&session.digest, &ended).await?;
            return Err(AuthorityError::WrongCredentials);
        }
        // Now and then, where sessions are made anyway, the dead ones are swept.
        if let Err(error) = self.store.delete_expired_sessions(now).await {
            tracing::debug!(%error, "could not delete expired sessions; the next sign-in tries again");
        }
        Ok((secret, expires_at))
    }

    fn session_digests<'a>(&'a self, value: &'a str) -> impl Iterator<Item = [u8; 32]> + 'a {
        self.session_keys.iter().map(move |key| key.digest(value))
    }

    /// The digest that a session is kept under: it may have begun under an older secret of the
    /// server.
    async fn session_digest(&self, value: &str) -> Result<Option<[u8; 32]>, AuthorityError> {
        for digest in self.session_digests(value) {
            if self.store.session_by_digest(&digest).await?.is_some() {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    /// Who a session cookie stands for; `None` if it does not (any more).
    pub async fn authenticate_session(&self, cookie: &str) -> Result<Option<Principal>, AuthorityError> {
        Ok(self.session_of(cookie).await?.map(|(principal, _)| principal))
    }

    /// The caller that a session cookie stands for, from an address; `None` if it does not stand
    /// (any more). What it changes is refused if the session has ended before the change is
    /// committed.
    pub async fn authenticate_browser(
        &self,
        cookie: &str,
        address: Option<IpAddr>,
    ) -> Result<Option<By>, AuthorityError> {
        let found = self.session_of(cookie).await?;
        Ok(found.map(|(principal, digest)| By::new(Arc::new(principal), address).with_session(digest)))
    }

    /// A browser's caller as it stands now.
    pub(crate) async fn rejudge_session(&self, by: &By) -> Result<By, AuthorityError> {
        let digest = by.session().ok_or(AuthorityError::SignedOut)?;
        let found = self.store.session_by_digest(digest).await?;
        let principal = found.and_then(|(session, user)| self.session_principal(&session, &user));
        let principal = principal.ok_or(AuthorityError::SignedOut)?;
        Ok(By::new(Arc::new(principal), by.address).with_session(*digest))
    }

    async fn session_of(&self, cookie: &str) -> Result<Option<(Principal, [u8; 32])>, AuthorityError> {
        if cookie.len() != 43 {
            return Ok(None);
        }
        for digest in self.session_digests(cookie) {
            if let Some((session, user)) = self.store.session_by_digest(&digest).await? {
                return Ok(self.session_principal(&session, &user).map(|principal| (principal, digest)));
            }
        }
        Ok(None)
    }

    /// The caller that a session stands for, while it does.
    fn session_principal(&self, session: &SessionRecord, user: &UserRecord) -> Option<Principal> {
        let is_good = session.expires_at > self.clock.now() && user.disabled_at.is_none();
        is_good.then(|| Principal::with_session(Arc::new(account_of(user)), session.expires_at))
    }

    /// Ends a session. One that is not there is as good as ended.
    pub async fn logout(&self, cookie: &str, from: Option<IpAddr>) -> Result<(), AuthorityError> {
        for digest in self.session_digests(cookie) {
            if let Some((_, user)) = self.store.session_by_digest(&digest).await? {
                let ended = session_entry(self.clock.now(), &user, from, "session.ended");
                self.store.delete_session(&digest, &ended).await?;
            }
        }
        Ok(())
    }

    /// Changes the caller's password and ends the other sessions. Tokens stay.
    pub async fn change_password(
        &self,
        by: &By,
        cookie: &str,
        current: String,
        new: String,
    ) -> Result<(), AuthorityError> {
        let (current, new) = (Zeroizing::new(current), Zeroizing::new(new));
        check_password("new_password", &new)?;
        let mut attempt = match self.throttle.take(&by.email, None, self.clock.since_boot()) {
            Ok(attempt) => attempt,
            Err(throttled) => {
                self.note_refusal_to(by, "refused.login", &[("reason", "throttled")]);
                return Err(throttled);
            }
        };
        let user = self.store.user_by_id(by.user_id).await?.ok_or(AuthorityError::NotFound("account"))?;
        let turn = self.passwords.turn().await?;
        attempt.keep();
        if !self.passwords.matches(turn, current, Some(user.password_hash)).await? {
            self.note_refusal_to(by, "refused.login", &[("reason", "wrong current password")]);
            return Err(AuthorityError::Invalid {
                field: "current_password",
                message: "the current password is wrong".into(),
            });
        }
        attempt.forgive();
        let hash = self.passwords.hash(new).await?;
        let audit =
            AuditEntry::new(self.clock.now(), by.actor(), "account.password_changed").of_user(by.user_id);
        let keep = self.session_digest(cookie).await?;
        Ok(self.store.set_password(by.user_id, &hash, keep, &audit).await?)
    }

    /// Ends all the caller's sessions but the one whose cookie is `keep`; how many. Tokens stay.
    pub async fn sign_out_everywhere(&self, by: &By, keep: Option<&str>) -> Result<u64, AuthorityError> {
        let keep = match keep {
            Some(cookie) => self.session_digest(cookie).await?,
            None => None,
        };
        let audit = AuditEntry::new(self.clock.now(), by.actor(), "session.ended")
            .of_user(by.user_id)
            .with("sessions", "all others");
        Ok(self.store.delete_sessions_of(by.user_id, keep, &audit).await?)
    }
}
