//! Issue: make a token, and show it once.

use jiff::Timestamp;
use trustrelay_token::{Limits, Principal, Scope, ScopeSet, Token};
use uuid::Uuid;

use crate::audit::{Actor, AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::expiry::{Expiry, expiry};
use crate::judgment::judge;
use crate::limits;
use crate::policy::PolicyRecord;
use crate::record::{PatRecord, UserRecord};
use crate::rotation::{FoundPat, Secret};
use crate::store::StoreError;

/// How long a token lives if nothing is said.
pub const DEFAULT_DAYS: i64 = 365;
/// How long a token lives at most.
pub const MAX_DAYS: i64 = 365;
/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// Most active tokens of one account: a listing of them stays below 500 KiB.
pub const MAX_TOKENS_PER_USER: u64 = 1000;
/// How often a token is judged again because the policy was changed meanwhile.
const TRIES: usize = 3;

/// What is asked of a new token.
#[derive(Debug, Clone, Default)]
pub struct NewPat {
    /// Its name: 1 to [`MAX_NAME_CHARS`] characters.
    pub name: String,
    /// Its scopes, space-separated.
    pub scope: String,
    /// When it expires.
    pub expiry: Expiry,
    /// What it is held to beyond its scopes. What its parent is held to holds for it as well.
    pub limits: Limits,
}

/// A new token: the one time that it is whole.
#[derive(Debug)]
pub struct Issued {
    /// What is kept of it.
    pub record: PatRecord,
    /// The secret.
    pub token: Token,
}

/// The token that a token is made with.
struct Parent<'p> {
    pat_id: Uuid,
    expires_at: Timestamp,
    scopes: &'p ScopeSet,
    limits: Option<&'p Limits>,
}

pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> AuthorityError {
    AuthorityError::Invalid { field, message: message.into() }
}

fn checked_name(name: &str) -> Result<String, AuthorityError> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 {
        return Err(invalid(
            "pat_name",
            "`pat_name` is empty; name the token after what will use it, such as \"ci-pipeline\"",
        ));
    }
    if length > MAX_NAME_CHARS {
        return Err(invalid(
            "pat_name",
            format!("`pat_name` has {length} characters; at most {MAX_NAME_CHARS} are allowed"),
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid(
            "pat_name",
            "`pat_name` contains a control character, such as a line break or a tab; remove it",
        ));
    }
    if name.contains(trustrelay_token::PREFIX) {
        return Err(invalid(
            "pat_name",
            "`pat_name` looks like a token; use a name that says what will use the token",
        ));
    }
    Ok(name.to_owned())
}

impl Authority {
    /// Makes a token for the caller. A caller with a token needs the scope `tokens`, and makes a
    /// child of it: with no more scopes, living no longer, revoked with it.
    pub async fn issue(&self, by: &By, new: NewPat) -> Result<Issued, AuthorityError> {
        let parent = match by.pat_id() {
            None => None,
            Some(pat_id) => {
                self.require(by, &Scope::Tokens)?;
                Some(Parent {
                    pat_id,
                    expires_at: by.expires_at(),
                    scopes: &by.scopes,
                    limits: by.limits.as_deref(),
                })
            }
        };
        self.issue_within(by.actor(), by.user_id, parent, new, new_token()?).await
    }

    /// Makes a token for an account, by its e-mail address: what the operator at the machine may
    /// do.
    pub async fn issue_for(&self, email: &str, new: NewPat) -> Result<Issued, AuthorityError> {
        self.issue_known(email, new, new_token()?).await
    }

    /// The same with a token that the operator has already, such as the one of `serve --dev`.
    pub async fn issue_known(
        &self,
        email: &str,
        new: NewPat,
        token: Token,
    ) -> Result<Issued, AuthorityError> {
        let user = self.account(email).await?;
        self.issue_within(Actor::OPERATOR, user.user_id, None, new, token).await
    }

    /// Whether a token that the operator has is good; `None` if there is no such token. Nothing is
    /// noted of it.
    pub async fn is_good(&self, token: &Token) -> Result<Option<bool>, AuthorityError> {
        let Some(found) = self.find(self.digests(Some(token))).await? else { return Ok(None) };
        let FoundPat { pat, owner, secret, .. } = found;
        let judged = judge(pat.revoked_at, owner.disabled_at.is_some(), pat.expires_at, self.clock.now());
        Ok(Some(judged.is_ok() && matches!(secret, Secret::Current { .. })))
    }

    async fn issue_within(
        &self,
        actor: Actor,
        user_id: Uuid,
        parent: Option<Parent<'_>>,
        new: NewPat,
        token: Token,
    ) -> Result<Issued, AuthorityError> {
        let name = checked_name(&new.name)?;
        let scopes: ScopeSet =
            new.scope.parse().map_err(|error| invalid("pat_scope", format!("`pat_scope`: {error}")))?;
        if let Some(parent) = &parent
            && let Some(beyond) = scopes.iter().find(|scope| !parent.scopes.allows(scope))
        {
            return Err(AuthorityError::InsufficientScope { scope: beyond.to_string() });
        }
        let limits = limits::checked(new.limits, parent.as_ref().and_then(|parent| parent.limits))?;
        let latest = parent.as_ref().map(|parent| parent.expires_at);
        let Some(key) = self.keys.first() else {
            return Err(AuthorityError::Internal("no server secret".into()));
        };
        let now = self.clock.now();
        let mut record = PatRecord {
            pat_id: Uuid::now_v7(),
            user_id,
            name,
            hint: token.hint(),
            scopes,
            digest: key.digest(&token),
            key_id: key.id(),
            parent_id: parent.map(|parent| parent.pat_id),
            created_at: now,
            expires_at: now,
            revoked_at: None,
            last_used_at: None,
            rotated_at: None,
            limits: limits.shared(),
        };
        let mut tries = 1;
        loop {
            let PolicyRecord { seq, policy } = self.judging_policy().await?;
            policy.check(&record.scopes)?;
            record.expires_at = expiry(new.expiry, now, latest, &policy)?;
            let audit = created(&record, actor.clone().under_policy(seq));
            match self.store.insert_pat(&record, MAX_TOKENS_PER_USER, &audit).await {
                Err(StoreError::PolicyChanged) if tries < TRIES => tries += 1,
                inserted => {
                    inserted?;
                    break;
                }
            }
        }
        tracing::info!(pat_id = %record.pat_id, user_id = %user_id, scope = %record.scopes, "issued a token");
        Ok(Issued { record, token })
    }

    /// An account by its e-mail address, however it is written.
    pub(crate) async fn account(&self, email: &str) -> Result<UserRecord, AuthorityError> {
        let email = email.trim().to_lowercase();
        self.store.user_by_email(&email).await?.ok_or(AuthorityError::NotFound("account"))
    }

    /// Refuses a caller whose credential does not hold `scope`.
    pub fn require(&self, by: &Principal, scope: &Scope) -> Result<(), AuthorityError> {
        if by.scopes.allows(scope) {
            Ok(())
        } else {
            Err(AuthorityError::InsufficientScope { scope: scope.to_string() })
        }
    }
}

fn new_token() -> Result<Token, AuthorityError> {
    Token::generate().map_err(|error| AuthorityError::Internal(error.to_string()))
}

/// The entry of the audit log that tells of a new token.
fn created(record: &PatRecord, actor: Actor) -> AuditEntry {
    let audit = AuditEntry::new(record.created_at, actor, "token.created")
        .of_user(record.user_id)
        .of_pat(record.pat_id)
        .with("name", &record.name)
        .with("scope", &record.scopes)
        .with("expires_at", record.expires_at);
    let audit = match record.parent_id {
        Some(parent) => audit.with("parent_id", parent),
        None => audit,
    };
    match &record.limits {
        Some(limits) => limits::told(limits, audit),
        None => audit,
    }
}
