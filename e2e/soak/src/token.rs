//! Tokens that are taken away while others use them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use parking_lot::Mutex;

use crate::random::Random;
use crate::relay::Relay;

/// A token, and whether it may be used.
#[derive(Debug)]
pub struct Token {
    /// Its text.
    pub text: String,
    /// Whose it is.
    pub email: String,
    name: String,
    /// Even: it may be used. Odd: it was taken away, and that was answered. Counts up, so that an
    /// asker sees whether it changed meanwhile.
    power: AtomicU64,
}

impl Token {
    /// What to hold an answer against: see [`Token::was_without_power`].
    pub fn power(&self) -> u64 {
        self.power.load(Ordering::SeqCst)
    }

    /// Whether it had no power from before a request was sent until after it was answered.
    pub fn was_without_power(&self, before: u64) -> bool {
        before % 2 == 1 && self.power() == before
    }

    /// Its power was taken away, and that was answered.
    pub fn taken(&self) {
        self.power.fetch_or(1, Ordering::SeqCst);
    }

    /// It is about to be given back.
    pub fn given_back(&self) {
        let power = self.power();
        self.power.store(power + power % 2, Ordering::SeqCst);
    }
}

/// All tokens there ever were: those that were taken away are still tried.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<Vec<Arc<Token>>>);

impl Tokens {
    /// Makes one more.
    pub async fn make(&self, relay: &Relay, email: &str) -> Result<()> {
        let name = format!("soak-{}", self.0.lock().len());
        let arguments = ["token", "create", "--user", email, "--name", &name, "--scope", "mcp"];
        let text = relay.run(&arguments).await?.trim().to_owned();
        let power = AtomicU64::new(0);
        self.0.lock().push(Arc::new(Token { text, email: email.to_owned(), name, power }));
        Ok(())
    }

    /// One of them.
    pub fn one(&self, random: &mut Random) -> Arc<Token> {
        Arc::clone(random.one(&self.0.lock()))
    }

    /// Those of an account, with power or without.
    pub fn of(&self, email: &str) -> Vec<Arc<Token>> {
        self.0.lock().iter().filter(|token| token.email == email).map(Arc::clone).collect()
    }

    /// Revokes one, if it has power.
    pub async fn revoke(&self, relay: &Relay, token: &Token) -> Result<()> {
        if token.power() % 2 == 1 {
            return Ok(());
        }
        let listed = relay.run(&["token", "list", "--user", &token.email, "--json"]).await?;
        let listed: serde_json::Value = serde_json::from_str(&listed)?;
        let found =
            listed.as_array().into_iter().flatten().find(|listed| listed["pat_name"] == token.name.as_str());
        let found = found.with_context(|| format!("{} is not listed", token.name))?;
        relay.run(&["token", "revoke", found["pat_id"].as_str().context("no pat_id")?]).await?;
        token.taken();
        Ok(())
    }
}
