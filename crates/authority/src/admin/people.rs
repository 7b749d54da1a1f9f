//! The people: who is there, who administers, who is disabled, who may use which upstreams.

use trustrelay_token::{Principal, Scope, UpstreamName};
use uuid::Uuid;

use crate::admin::{Cursor, MAX_PAGE, UserChange, UserFilter, UserPage};
use crate::audit::{Actor, AuditEntry, By};
use crate::authority::Authority;
use crate::error::AuthorityError;
use crate::record::UserRecord;

/// Most upstreams that an account may be held to by name.
const MAX_UPSTREAMS: usize = 100;

/// One thing that is changed about an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PersonChange {
    /// Disabled, or enabled again.
    Disabled(bool),
    /// An administrator, or one no longer.
    Admin(bool),
    /// Held to these upstreams; `None`: all there are.
    Upstreams(Option<Vec<String>>),
    /// Held to these upstreams, if it may use each of them already.
    NarrowUpstreams(Vec<String>),
}

/// Where in a list to go on, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The `next` of the page before.
    pub after: Option<String>,
    /// How many rows, 1 to [`MAX_PAGE`]; 50 if nothing is said.
    pub limit: Option<u64>,
}

impl Place {
    pub(crate) fn read(&self) -> Result<(Option<Cursor>, u64), AuthorityError> {
        self.read_up_to(MAX_PAGE)
    }

    /// The same, of a list whose pages have at most so many rows.
    pub(crate) fn read_up_to(&self, most: u64) -> Result<(Option<Cursor>, u64), AuthorityError> {
        let invalid = |field, message: String| AuthorityError::Invalid { field, message };
        let after = self.after.as_deref().map(str::parse).transpose();
        let after = after.map_err(|error: crate::BadCursor| invalid("after", error.to_string()))?;
        match self.limit.unwrap_or(50) {
            limit if (1..=most).contains(&limit) => Ok((after, limit)),
            limit => Err(invalid("limit", format!("`limit` is {limit}; it must be from 1 to {most}"))),
        }
    }
}

impl Authority {
    /// The accounts, newest first, page by page.
    pub async fn people(
        &self,
        by: &Principal,
        filter: &UserFilter,
        place: &Place,
    ) -> Result<UserPage, AuthorityError> {
        self.require_admin(by, &[Scope::ApiRead])?;
        let (after, limit) = place.read()?;
        Ok(self.store.search_users(filter, after.as_ref(), limit, self.clock.now()).await?)
    }

    /// One account, and how many active tokens it has.
    pub async fn person(&self, by: &Principal, user_id: Uuid) -> Result<(UserRecord, u64), AuthorityError> {
        self.require_admin(by, &[Scope::ApiRead])?;
        let user = self.store.user_by_id(user_id).await?.ok_or(AuthorityError::NotFound("account"))?;
        let tokens = self.store.active_pats(user_id, self.clock.now()).await?.len() as u64;
        Ok((user, tokens))
    }

    /// Changes an account. When what takes power away is answered, it holds everywhere. The last
    /// administrator that is enabled stays one.
    ///
    /// A token needs `api`, and `tokens` beside it for a change that gives power: promoting,
    /// enabling and adding upstreams.
    pub async fn change_person(
        &self,
        by: &By,
        user_id: Uuid,
        change: PersonChange,
    ) -> Result<(UserRecord, u64), AuthorityError> {
        self.require_admin(by, &[Scope::Api])?;
        let change = self.within_scopes(by, change)?;
        let user = self.store.user_by_id(user_id).await?.ok_or(AuthorityError::NotFound("account"))?;
        self.change_account(by.administrator(), &user, change).await?;
        self.person(by, user_id).await
    }

    /// Refuses a change that gives power to a credential without `tokens`, whose list of upstreams
    /// may only narrow. The store decides whether it does, with what is stored then.
    fn within_scopes(&self, by: &Principal, change: PersonChange) -> Result<PersonChange, AuthorityError> {
        if by.scopes.allows(&Scope::Tokens) {
            return Ok(change);
        }
        match change {
            PersonChange::Disabled(true) | PersonChange::Admin(false) => Ok(change),
            PersonChange::Upstreams(Some(names)) => Ok(PersonChange::NarrowUpstreams(names)),
            PersonChange::NarrowUpstreams(_) => Ok(change),
            PersonChange::Disabled(false) | PersonChange::Admin(true) | PersonChange::Upstreams(None) => {
                self.require(by, &Scope::Tokens).map(|()| change)
            }
        }
    }

    /// Makes an account an administrator, or one no longer: what the operator at the machine may
    /// do.
    pub async fn set_admin(&self, email: &str, is_admin: bool) -> Result<(), AuthorityError> {
        let user = self.account(email).await?;
        self.change_account(Actor::OPERATOR, &user, PersonChange::Admin(is_admin)).await.map(drop)
    }

    /// Disables or enables an account. When disabling is answered, none of its tokens is accepted
    /// anywhere. How many MCP sessions it ended.
    pub async fn set_disabled(&self, email: &str, disabled: bool) -> Result<usize, AuthorityError> {
        let user = self.account(email).await?;
        self.change_account(Actor::OPERATOR, &user, PersonChange::Disabled(disabled)).await
    }

    async fn change_account(
        &self,
        actor: Actor,
        user: &UserRecord,
        change: PersonChange,
    ) -> Result<usize, AuthorityError> {
        let change = checked(change)?;
        let me = self.me.upgrade().ok_or_else(|| AuthorityError::Internal("shutting down".into()))?;
        let user_id = user.user_id;
        let now = self.clock.now();
        let told = |action| AuditEntry::new(now, actor, action).of_user(user_id).with("email", &user.email);
        let audit = match &change {
            PersonChange::Disabled(true) => told("account.disabled"),
            PersonChange::Disabled(false) => told("account.enabled"),
            PersonChange::Admin(true) => told("account.admin_granted"),
            PersonChange::Admin(false) => told("account.admin_withdrawn"),
            PersonChange::Upstreams(None) => told("account.upstreams_changed").with("upstreams", "all"),
            PersonChange::Upstreams(Some(names)) | PersonChange::NarrowUpstreams(names) => {
                told("account.upstreams_changed").with("upstreams", names.join(" "))
            }
        };
        // A task of its own: once begun it is carried through, also if the caller goes away.
        let done = tokio::spawn(async move {
            let change = match change {
                PersonChange::Disabled(disabled) => {
                    let at = disabled.then_some(now);
                    let seq = me.store.set_user_disabled(user_id, at, now, &audit).await?;
                    return me.wait_for_fence(seq.ok_or(AuthorityError::NotFound("account"))?).await;
                }
                PersonChange::Admin(is_admin) => UserChange::Admin(is_admin),
                PersonChange::Upstreams(names) => UserChange::Upstreams(names),
                PersonChange::NarrowUpstreams(names) => UserChange::NarrowUpstreams(names),
            };
            let seq = me.store.change_user(user_id, &change, now, &audit).await?;
            me.wait_for_fence(seq.ok_or(AuthorityError::NotFound("account"))?).await
        });
        done.await.map_err(|error| AuthorityError::Internal(error.to_string()))?
    }
}

/// Names that upstreams can have, each once and in one order.
fn checked(change: PersonChange) -> Result<PersonChange, AuthorityError> {
    let mut change = change;
    let (PersonChange::Upstreams(Some(names)) | PersonChange::NarrowUpstreams(names)) = &mut change else {
        return Ok(change);
    };
    let invalid = |message: String| AuthorityError::Invalid { field: "upstreams", message };
    if names.len() > MAX_UPSTREAMS {
        return Err(invalid(format!(
            "`upstreams` has {} names; at most {MAX_UPSTREAMS} are allowed",
            names.len()
        )));
    }
    for name in names.iter() {
        name.parse::<UpstreamName>().map_err(|error| invalid(format!("`upstreams`: {error}")))?;
    }
    names.sort_unstable();
    names.dedup();
    Ok(change)
}
