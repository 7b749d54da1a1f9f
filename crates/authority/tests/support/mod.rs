//! A small world for the authority's tests.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::sync::Arc;
use std::time::Duration;

use trustrelay_authority::contract::MemoryStore;
use trustrelay_authority::*;
use trustrelay_token::{Denied, Principal, Token, Verifier};
use zeroize::Zeroizing;

pub const EMAIL: &str = "ada@example.org";
/// Long enough that a test which waits for something that never comes fails, and does not hang.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const PASSWORD: &str = "correct horse battery";

pub struct World {
    pub store: Arc<MemoryStore>,
    pub clock: Arc<ManualClock>,
    pub authority: Arc<Authority>,
    pub secret: ServerSecret,
}

impl World {
    /// A node with one account.
    pub async fn new() -> Self {
        Self::with(config()).await
    }

    pub async fn with(config: AuthorityConfig) -> Self {
        let store = Arc::new(MemoryStore::default());
        let clock = Arc::new(ManualClock::at("2026-04-07T00:00:00Z".parse().expect("a time")));
        let secret = ServerSecret::generate().expect("random");
        let authority = Authority::open(store.clone(), std::slice::from_ref(&secret), clock.clone(), config)
            .await
            .expect("opens");
        authority.start().await.expect("starts");
        let world = Self { store, clock, authority, secret };
        world.add(EMAIL).await;
        world
    }

    /// The command-line tool on the same data: issues and revokes, verifies nothing.
    pub async fn command(&self) -> Arc<Authority> {
        let secrets = std::slice::from_ref(&self.secret);
        Authority::open(self.store.clone(), secrets, self.clock.clone(), config()).await.expect("opens")
    }

    pub async fn add(&self, email: &str) {
        let password = Zeroizing::new(PASSWORD.to_owned());
        self.authority
            .add_account(NewAccount { email: email.into(), password, is_admin: false })
            .await
            .expect("added");
    }

    /// A signed-in browser.
    pub async fn browser(&self) -> By {
        let (cookie, _) = self.authority.login(EMAIL, PASSWORD.into(), None).await.expect("signs in");
        let principal = self.authority.authenticate_session(cookie.expose()).await.expect("asks");
        By::new(Arc::new(principal.expect("stands")), None)
    }

    pub async fn token(&self, scope: &str) -> Issued {
        self.authority.issue(&self.browser().await, new(scope)).await.expect("issued")
    }

    pub async fn verify(&self, token: &Token) -> Result<Arc<Principal>, Denied> {
        self.authority.verify(token.clone()).wait().await
    }
}

pub fn config() -> AuthorityConfig {
    AuthorityConfig {
        lease: Duration::from_millis(400),
        password_memory_kib: 8,
        ..AuthorityConfig::default()
    }
}

pub fn new(scope: &str) -> NewPat {
    NewPat { name: "ci-pipeline".into(), scope: scope.into(), expiry: Expiry::Default, ..NewPat::default() }
}

/// Waits until `done`, and fails if that takes far too long.
pub async fn until(what: &str, done: impl Fn() -> bool) {
    let waited = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "waited in vain: {what}");
}
