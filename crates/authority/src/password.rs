//! Passwords: Argon2id, off the async threads, bounded in number.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::error::AuthorityError;

/// How many hashes are computed at a time: at 19 MiB each, 76 MiB.
const AT_A_TIME: usize = 4;

/// The right to compute one hash.
pub(crate) struct Turn(#[expect(dead_code, reason = "held until the hash is computed")] OwnedSemaphorePermit);

pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    turns: Arc<Semaphore>,
    /// What an unknown account's password is held against, so that it takes as long as a known
    /// one's.
    nobody: String,
}

impl Passwords {
    pub(crate) fn new(memory_kib: u32) -> Result<Self, String> {
        let params = Params::new(memory_kib, 2, 1, None).map_err(|error| error.to_string())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = argon2.hash_password(b"nobody").map_err(|error| error.to_string())?.to_string();
        Ok(Self { argon2, turns: Arc::new(Semaphore::new(AT_A_TIME)), nobody })
    }

    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, AuthorityError> {
        let argon2 = self.argon2.clone();
        let turn = self.turn().await?;
        Self::run(turn, move || {
            argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(|e| e.to_string())
        })
        .await?
        .map_err(AuthorityError::Internal)
    }

    /// Waits until a hash may be computed.
    pub(crate) async fn turn(&self) -> Result<Turn, AuthorityError> {
        let turn = self.turns.clone().acquire_owned().await;
        turn.map(Turn).map_err(|error| AuthorityError::Internal(error.to_string()))
    }

    /// Whether `password` is the one of `stored`; of nobody, if there is none: always `false`, in
    /// the same time.
    pub(crate) async fn matches(
        &self,
        turn: Turn,
        password: Zeroizing<String>,
        stored: Option<String>,
    ) -> Result<bool, AuthorityError> {
        let argon2 = self.argon2.clone();
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.clone());
        let matches = Self::run(turn, move || {
            let hash = PasswordHash::new(&stored).map_err(|error| error.to_string())?;
            Ok::<_, String>(argon2.verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await?
        .map_err(AuthorityError::Internal)?;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(
        turn: Turn,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AuthorityError> {
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(|error| AuthorityError::Internal(error.to_string()))
    }
}
