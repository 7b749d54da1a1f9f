//! A change acts only with power that its actor has when it is committed.

use std::num::NonZero;

use trustrelay_token::Denied;
use uuid::Uuid;

use super::AUDIT;
use super::kit::{MANY, added, at, has_session, issued, pat, session, signed_in, stored, untold, user};
use super::notices::webhook;
use super::rotation::rotation;
use crate::admin::{InviteRecord, UserChange};
use crate::audit::{Actor, AuditEntry, Preconditions};
use crate::policy::Policy;
use crate::power::{Credential, Power, Powerless};
use crate::record::{PatRecord, SessionRecord, UserRecord};
use crate::rotation::{RotateOutcome, Rotation};
use crate::store::{Revocation, Store, StoreError};

/// When the changes of these stories are made.
const NOW: i64 = 100;

/// Somebody who acts, with all that it may act with.
struct Acting {
    user: UserRecord,
    session: SessionRecord,
    pat: PatRecord,
}

impl Acting {
    /// An administrator.
    async fn new(store: &dyn Store) -> Self {
        let user = UserRecord { is_admin: true, ..user(&format!("{}@example.org", Uuid::now_v7())) };
        store.insert_user(&user, &AUDIT).await.expect("added");
        let (session, pat) = (signed_in(store, &user).await, issued(store, &user).await);
        Self { user, session, pat }
    }

    fn entry(&self, credential: Credential) -> AuditEntry {
        let power = Power { user_id: self.user.user_id, credential: Some(credential), admin: true };
        let actor = Actor { needs: Preconditions { power: Some(power), policy: None }, ..Actor::SYSTEM };
        AuditEntry::new(at(NOW), actor, "test")
    }

    fn by_session(&self) -> AuditEntry {
        self.entry(Credential::Session(self.session.digest))
    }

    fn by_token(&self) -> AuditEntry {
        self.entry(Credential::Secret { pat_id: self.pat.pat_id, digest: self.pat.digest })
    }
}

fn invite() -> InviteRecord {
    InviteRecord {
        invite_id: Uuid::now_v7(),
        digest: session(&user("nobody@example.org")).digest,
        email: format!("{}@example.org", Uuid::now_v7()),
        is_admin: true,
        created_by: None,
        created_at: at(NOW),
        expires_at: at(1_000_000),
    }
}

/// Makes every change that the store has with this entry, each on accounts and tokens of its own;
/// what became of each.
async fn all_changes(store: &dyn Store, by: &AuditEntry) -> Vec<(&'static str, Result<(), StoreError>)> {
    let name = format!("{}@example.org", Uuid::now_v7());
    let other = added(store, &name).await;
    let (token, signed_in) = (issued(store, &other).await, signed_in(store, &other).await);
    let open = invite();
    store.insert_invite(&open, MANY, &AUDIT).await.expect("invited");
    let hooked = webhook(Some(&other));
    store.insert_webhook(&hooked, MANY, &AUDIT).await.expect("added");
    let version = store.policy().await.expect("asks").seq;
    let new_user = user(&format!("{}@example.org", Uuid::now_v7()));
    let digest = trustrelay_token::TokenDigest::from_bytes(session(&other).digest);
    let rotated = Rotation { digest, ..rotation(&token, at(NOW), at(900)) };
    let revocation = [Revocation { audit: by.clone(), ..untold(token.pat_id) }];
    let policy = Policy { max_days: NonZero::new(100), ..Policy::default() };
    let other_id = other.user_id;
    vec![
        ("insert_user", store.insert_user(&new_user, by).await),
        ("set_user_disabled", store.set_user_disabled(other_id, None, at(NOW), by).await.map(drop)),
        ("insert_pat", store.insert_pat(&pat(&other), MANY, by).await),
        ("insert_session", store.insert_session(&session(&other), by).await),
        ("insert_webhook", store.insert_webhook(&webhook(Some(&other)), MANY, by).await),
        ("insert_webhook for all", store.insert_webhook(&webhook(None), MANY, by).await),
        ("delete_webhook", store.delete_webhook(hooked.webhook_id, at(NOW), by).await.map(drop)),
        ("insert_invite", store.insert_invite(&invite(), MANY, by).await),
        ("delete_invite", store.delete_invite(open.invite_id, by).await.map(drop)),
        ("change_user", store.change_user(other_id, &UserChange::Admin(true), at(NOW), by).await.map(drop)),
        ("set_policy", store.set_policy(&policy, version, at(NOW), by).await.map(drop)),
        ("rotate_pat", store.rotate_pat(&rotated, by).await.map(drop)),
        ("retire_secret", store.retire_secret(token.pat_id, at(NOW), by).await.map(drop)),
        ("revoke_pats", store.revoke_pats(&revocation, at(NOW), false).await.map(drop)),
        ("set_password", store.set_password(other_id, "hash", Some(signed_in.digest), by).await),
        ("delete_session", store.delete_session(&signed_in.digest, by).await.map(drop)),
        ("delete_sessions_of", store.delete_sessions_of(other_id, None, by).await.map(drop)),
    ]
}

/// All of it is refused for this reason, and nothing is changed.
async fn powerless(store: &dyn Store, by: &AuditEntry, why: &Powerless) {
    let other = added(store, &format!("{}@example.org", Uuid::now_v7())).await;
    let (token, session) = (issued(store, &other).await, signed_in(store, &other).await);
    for (change, outcome) in all_changes(store, by).await {
        match outcome {
            Err(StoreError::Powerless(told)) => assert_eq!(told, *why, "{change}"),
            other => panic!("{change}: {other:?} instead of {why:?}"),
        }
    }
    let own = [Revocation { audit: by.clone(), ..untold(token.pat_id) }];
    store.revoke_pats(&own, at(NOW), false).await.expect_err("refused");
    store.delete_session(&session.digest, by).await.expect_err("refused");
    assert_eq!(stored(store, &token).await, token);
    assert!(has_session(store, &session).await);
    let policy = store.policy().await.expect("asks");
    assert_eq!(policy.policy, Policy::default());
}

/// Disabled, demoted, signed out, with another password, with a token that was revoked, rotated or
/// has expired.
pub async fn what_begins_with_power_and_ends_without_it_changes_nothing(store: &dyn Store) {
    // So that none of the others is the last administrator.
    Acting::new(store).await;

    let disabled = Acting::new(store).await;
    let id = disabled.user.user_id;
    store.set_user_disabled(id, Some(at(1)), at(1), &AUDIT).await.expect("disabled");
    powerless(store, &disabled.by_session(), &Powerless::SignedOut).await;
    powerless(store, &disabled.by_token(), &Denied::OwnerDisabled.into()).await;

    let demoted = Acting::new(store).await;
    let id = demoted.user.user_id;
    store.change_user(id, &UserChange::Admin(false), at(1), &AUDIT).await.expect("demoted");
    powerless(store, &demoted.by_session(), &Powerless::NotAdministrator).await;
    powerless(store, &demoted.by_token(), &Powerless::NotAdministrator).await;

    let signed_out = Acting::new(store).await;
    store.delete_session(&signed_out.session.digest, &AUDIT).await.expect("signed out");
    powerless(store, &signed_out.by_session(), &Powerless::SignedOut).await;

    let changed = Acting::new(store).await;
    store.set_password(changed.user.user_id, "new", None, &AUDIT).await.expect("changed");
    powerless(store, &changed.by_session(), &Powerless::SignedOut).await;

    let over = Acting::new(store).await;
    let late = AuditEntry { at: at(1_000_000), ..over.by_session() };
    powerless(store, &late, &Powerless::SignedOut).await;
    let late = AuditEntry { at: at(1_000_000), ..over.by_token() };
    powerless(store, &late, &Denied::Expired(at(1_000_000)).into()).await;

    let revoked = Acting::new(store).await;
    store.revoke_pat(revoked.pat.pat_id, at(2), &AUDIT).await.expect("revoked");
    powerless(store, &revoked.by_token(), &Denied::Revoked(at(2)).into()).await;

    let rotated = Acting::new(store).await;
    store.rotate_pat(&rotation(&rotated.pat, at(3), at(3)), &AUDIT).await.expect("rotated");
    powerless(store, &rotated.by_token(), &Denied::Retired(at(3)).into()).await;

    // A session and a token of somebody else are none.
    let (one, other) = (Acting::new(store).await, Acting::new(store).await);
    powerless(store, &one.entry(Credential::Session(other.session.digest)), &Powerless::SignedOut).await;
    let Acting { pat, .. } = &other;
    let foreign = one.entry(Credential::Secret { pat_id: pat.pat_id, digest: pat.digest });
    powerless(store, &foreign, &Denied::Unknown.into()).await;
}

/// A good credential changes all that there is; so does a secret in its overlap.
pub async fn whoever_has_power_changes_what_there_is(store: &dyn Store) {
    for by in 0..3 {
        let acting = Acting::new(store).await;
        let by = match by {
            0 => acting.by_session(),
            1 => acting.by_token(),
            _ => {
                let overlapping = rotation(&acting.pat, at(3), at(NOW + 1));
                store.rotate_pat(&overlapping, &AUDIT).await.expect("rotated");
                acting.by_token()
            }
        };
        for (change, outcome) in all_changes(store, &by).await {
            assert!(outcome.is_ok(), "{change}: {outcome:?}");
        }
    }
}

/// Its own change is the last that it makes.
pub async fn an_actor_may_end_its_own_power(store: &dyn Store) {
    Acting::new(store).await;
    let own = Acting::new(store).await;
    let revocation = [Revocation { audit: own.by_token(), ..untold(own.pat.pat_id) }];
    let revoked = store.revoke_pats(&revocation, at(NOW), false).await.expect("asks");
    assert!(revoked[0].as_ref().is_some_and(|outcome| outcome.newly));
    let own = Acting::new(store).await;
    assert!(store.delete_session(&own.session.digest, &own.by_session()).await.expect("asks"));
    let own = Acting::new(store).await;
    let id = own.user.user_id;
    store.set_user_disabled(id, Some(at(NOW)), at(NOW), &own.by_session()).await.expect("disabled");
    powerless(store, &own.by_session(), &Powerless::SignedOut).await;
}

/// No child lives longer than its parent, whichever of them is made or rotated last.
pub async fn no_token_outlives_the_one_that_it_was_made_with(store: &dyn Store) {
    let ada = added(store, "ada@example.org").await;
    let parent = issued(store, &ada).await;
    let child = super::kit::child(&parent);
    let longer = PatRecord { expires_at: at(1_000_001), ..child.clone() };
    let refused = store.insert_pat(&longer, MANY, &AUDIT).await;
    assert!(matches!(refused, Err(StoreError::ParentGone)), "{refused:?}");
    store.insert_pat(&child, MANY, &AUDIT).await.expect("as long as its parent");
    for (token, expires_at, outcome) in [
        (&child, at(1_000_001), RotateOutcome::Outlived),
        (&parent, at(999_999), RotateOutcome::Outlived),
        (&parent, at(1_000_000), RotateOutcome::Rotated(1)),
    ] {
        let asked = Rotation { expires_at, ..rotation(token, at(10), at(20)) };
        assert_eq!(store.rotate_pat(&asked, &AUDIT).await.expect("asks"), outcome);
    }
}

/// Two administrators demote each other at the same moment: whoever comes second has no power any
/// more.
pub async fn of_two_who_take_power_from_each_other_one_does(store: &dyn Store) {
    Acting::new(store).await;
    for _ in 0..20 {
        let (one, other) = (Acting::new(store).await, Acting::new(store).await);
        let demote = UserChange::Admin(false);
        let (by_one, by_other) = (one.by_session(), other.by_token());
        let (first, second) = futures_util::future::join(
            store.change_user(other.user.user_id, &demote, at(NOW), &by_one),
            store.change_user(one.user.user_id, &demote, at(NOW), &by_other),
        )
        .await;
        match (first, second) {
            (Ok(Some(_)), Err(StoreError::Powerless(Powerless::NotAdministrator)))
            | (Err(StoreError::Powerless(Powerless::NotAdministrator)), Ok(Some(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}
