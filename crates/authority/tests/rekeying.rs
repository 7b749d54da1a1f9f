//! Stories of the server's secret, rotated while tokens are in use.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::{EMAIL, PASSWORD, World, config, new};
use trustrelay_authority::*;
use trustrelay_token::{Denied, KeyId, Principal, Token, Verification, Verifier};

struct Rotating {
    world: World,
    /// The old secret, and the new one.
    old: ServerSecret,
    new: ServerSecret,
}

impl Rotating {
    /// A node that knows the old secret alone.
    async fn begun() -> Self {
        let world = World::new().await;
        let old = world.secret.clone();
        Self { world, old, new: ServerSecret::generate().expect("random") }
    }

    async fn node(&self, secrets: &[&ServerSecret]) -> Arc<Authority> {
        let node = self.open(secrets, true).await.expect("opens");
        node.start().await.expect("starts");
        node
    }

    async fn open(
        &self,
        secrets: &[&ServerSecret],
        adopt_newest_secret: bool,
    ) -> Result<Arc<Authority>, AuthorityError> {
        let secrets: Vec<ServerSecret> = secrets.iter().map(|secret| (*secret).clone()).collect();
        let config = AuthorityConfig { adopt_newest_secret, ..config() };
        Authority::open(self.world.store.clone(), &secrets, self.world.clock.clone(), config).await
    }

    /// The key that a token is kept under.
    async fn key_of(&self, issued: &Issued) -> KeyId {
        let pat = self.world.store.pat_by_id(issued.record.pat_id).await.expect("asks");
        pat.expect("there").key_id
    }
}

async fn verify(node: &Authority, token: &Token) -> Result<Arc<Principal>, Denied> {
    node.verify(token.clone()).wait().await
}

fn is_warm(node: &Authority, token: &Token) -> bool {
    matches!(node.verify(token.clone()), Verification::Ready(Ok(_)))
}

#[tokio::test]
async fn tokens_are_rekeyed_as_they_are_used_and_warm_afterwards() {
    let rotating = Rotating::begun().await;
    let (used, unused) = (rotating.world.token("mcp").await, rotating.world.token("mcp").await);
    let node = rotating.node(&[&rotating.new, &rotating.old]).await;
    for _ in 0..3 {
        verify(&node, &used.token).await.expect("good under the older key");
    }
    node.flush_rekeys().await;
    assert_eq!(rotating.key_of(&used).await, rotating.new.token_key().id());
    assert_eq!(rotating.key_of(&unused).await, rotating.old.token_key().id());
    assert!(is_warm(&node, &used.token), "found by its new digest, without asking the store");
    let alone = rotating.node(&[&rotating.new]).await;
    verify(&alone, &used.token).await.expect("good without the old key");
    assert_eq!(verify(&alone, &unused.token).await.expect_err("not re-keyed"), Denied::Unknown);
}

#[tokio::test]
async fn a_node_that_does_not_know_the_new_key_loses_no_token_that_was_rekeyed() {
    let rotating = Rotating::begun().await;
    let (before, after) = (rotating.world.token("mcp").await, rotating.world.token("mcp").await);
    verify(&rotating.world.authority, &before.token).await.expect("warm on the old node");
    let node = rotating.node(&[&rotating.new, &rotating.old]).await;
    for issued in [&before, &after] {
        verify(&node, &issued.token).await.expect("good");
    }
    node.flush_rekeys().await;
    for issued in [&before, &after] {
        verify(&rotating.world.authority, &issued.token).await.expect("good on the old node");
        assert!(is_warm(&rotating.world.authority, &issued.token));
    }
}

#[tokio::test]
async fn a_revocation_reaches_every_node_whichever_digest_its_index_has() {
    let rotating = Rotating::begun().await;
    let issued = rotating.world.token("mcp").await;
    let held_old = verify(&rotating.world.authority, &issued.token).await.expect("warm");
    let node = rotating.node(&[&rotating.new, &rotating.old]).await;
    let held_before = verify(&node, &issued.token).await.expect("warm");
    node.flush_rekeys().await;
    let held_after = verify(&node, &issued.token).await.expect("warm");
    assert_ne!(held_before.pat().expect("a token").digest(), held_after.pat().expect("a token").digest());
    let browser = rotating.world.browser().await;
    node.revoke(&browser, PatRef::Id(issued.record.pat_id)).await.expect("revoked");
    for held in [&held_old, &held_before, &held_after] {
        assert!(!held.stands());
    }
    for on in [&*node, &*rotating.world.authority] {
        assert!(matches!(verify(on, &issued.token).await, Err(Denied::Revoked(_))));
    }
}

#[tokio::test]
async fn a_rotation_ends_what_was_opened_under_any_digest_of_the_old_secret() {
    let rotating = Rotating::begun().await;
    let issued = rotating.world.token("mcp").await;
    let node = rotating.node(&[&rotating.new, &rotating.old]).await;
    let held_before = verify(&node, &issued.token).await.expect("warm");
    node.flush_rekeys().await;
    let held_after = verify(&node, &issued.token).await.expect("warm");
    let asked =
        Rotate { overlap: Overlap::For(Duration::ZERO), expiry: Expiry::Default, idempotency_key: None };
    let browser = rotating.world.browser().await;
    node.rotate(&browser, PatRef::Id(issued.record.pat_id), asked).await.expect("rotated");
    assert!(!held_before.stands() && !held_after.stands());
    for on in [&*node, &*rotating.world.authority] {
        assert!(matches!(verify(on, &issued.token).await, Err(Denied::Retired(_))));
    }
}

#[tokio::test]
async fn a_rotation_is_answered_again_after_its_token_was_rekeyed() {
    let rotating = Rotating::begun().await;
    let issued = rotating.world.token("mcp").await;
    let asked = Rotate {
        overlap: Overlap::For(Duration::from_secs(3600)),
        expiry: Expiry::Default,
        idempotency_key: Some("once".into()),
    };
    let browser = rotating.world.browser().await;
    let id = PatRef::Id(issued.record.pat_id);
    let first = rotating.world.authority.rotate(&browser, id, asked.clone()).await.expect("rotated");
    let node = rotating.node(&[&rotating.new, &rotating.old]).await;
    verify(&node, &first.token).await.expect("good");
    node.flush_rekeys().await;
    assert_eq!(rotating.key_of(&issued).await, rotating.new.token_key().id());
    let again = node.rotate(&browser, id, asked).await.expect("answered again");
    assert_eq!(again.token.expose(), first.token.expose());
}

#[tokio::test]
async fn nodes_that_disagree_about_the_order_never_rekey_back_and_forth() {
    let rotating = Rotating::begun().await;
    let behind = rotating.node(&[&rotating.old, &rotating.new]).await;
    let ahead = rotating.node(&[&rotating.new, &rotating.old]).await;
    let issued = rotating.world.token("mcp").await;
    verify(&ahead, &issued.token).await.expect("good");
    ahead.flush_rekeys().await;
    verify(&behind, &issued.token).await.expect("good");
    behind.flush_rekeys().await;
    let new = rotating.new.token_key().id();
    assert_eq!(rotating.key_of(&issued).await, new);
    // Whatever each of them makes, the other verifies.
    for (maker, other) in [(&behind, &ahead), (&ahead, &behind)] {
        let made = maker.issue_for(EMAIL, support::new("mcp")).await.expect("issued");
        verify(other, &made.token).await.expect("good");
    }
    // An outdated file that comes back later does not make the old secret the active one again.
    let returned = rotating.node(&[&rotating.old, &rotating.new]).await;
    assert_eq!(returned.active_key(), Some(new));
}

#[tokio::test]
async fn a_command_beside_a_running_server_makes_nothing_that_it_does_not_know() {
    let rotating = Rotating::begun().await;
    let command = rotating.open(&[&rotating.new, &rotating.old], false).await.expect("opens");
    let made = command.issue_for(EMAIL, new("mcp")).await.expect("issued");
    verify(&rotating.world.authority, &made.token).await.expect("the server knows the old secret alone");
}

#[tokio::test]
async fn a_secret_that_the_data_is_not_bound_to_is_refused_alone_and_never_adopted() {
    let rotating = Rotating::begun().await;
    let alone = rotating.open(&[&rotating.new], true).await;
    assert!(matches!(alone, Err(AuthorityError::Conflict(_))));
    let many = vec![&rotating.new; MAX_SECRETS + 1];
    assert!(matches!(rotating.open(&many, true).await, Err(AuthorityError::Conflict(_))));
    rotating.open(&[&rotating.old], true).await.expect("nothing has moved");
}

#[tokio::test]
async fn browser_sessions_and_invitations_outlive_the_secret_that_they_began_under() {
    let rotating = Rotating::begun().await;
    let (cookie, _) = rotating.world.authority.login(EMAIL, PASSWORD.into(), None).await.expect("signs in");
    let node = rotating.node(&[&rotating.new, &rotating.old]).await;
    let person = node.authenticate_session(cookie.expose()).await.expect("asks").expect("stands");
    let by = By::new(Arc::new(person), None);
    node.sign_out_everywhere(&by, Some(cookie.expose())).await.expect("asks");
    let next = "another horse battery".to_owned();
    node.change_password(&by, cookie.expose(), PASSWORD.into(), next).await.expect("changed");
    let still = node.authenticate_session(cookie.expose()).await.expect("asks");
    assert!(still.is_some(), "the session that asked stays");
}

#[tokio::test]
async fn a_store_that_fails_costs_no_token_and_rekeying_goes_on_later() {
    let rotating = Rotating::begun().await;
    let issued = rotating.world.token("mcp").await;
    let node = rotating.node(&[&rotating.new, &rotating.old]).await;
    verify(&node, &issued.token).await.expect("good");
    rotating.world.store.broken.store(true, Ordering::SeqCst);
    node.flush_rekeys().await;
    rotating.world.store.broken.store(false, Ordering::SeqCst);
    assert_eq!(rotating.key_of(&issued).await, rotating.old.token_key().id());
    verify(&node, &issued.token).await.expect("good");
    node.flush_rekeys().await;
    assert_eq!(rotating.key_of(&issued).await, rotating.new.token_key().id());
}
