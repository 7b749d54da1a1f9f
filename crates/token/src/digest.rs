//! The keyed digest that a store keeps in place of a token.

use std::fmt;
use std::hash::{Hash, Hasher};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::Token;

/// The server secret that a digest was made under. Secrets rotate without touching the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u32);

/// HMAC-SHA-256 of a token under a server key (RFC 2104). Safe to store: without the key it can be
/// neither computed nor guessed.
#[derive(Clone, Copy, PartialOrd, Ord)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// A digest as it was stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest as it is stored.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The same, in a quarter of the steps of a comparison byte by byte.
    fn words(&self) -> [u64; 4] {
        let (words, _) = self.0.as_chunks::<8>();
        std::array::from_fn(|at| u64::from_le_bytes(words[at]))
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.words().ct_eq(&other.words()).into()
    }
}

impl Eq for TokenDigest {}

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// A prepared key for token digests. The two SHA-256 blocks of the HMAC key schedule are computed
/// once.
#[derive(Clone)]
pub struct DigestKey {
    id: KeyId,
    mac: Hmac<Sha256>,
}

impl DigestKey {
    /// Prepares the key. `key` is 32 bytes derived for this purpose alone.
    pub fn new(id: KeyId, key: &[u8; 32]) -> Self {
        // A key shorter than SHA-256's 64-byte block is padded with zeros (RFC 2104 §2).
        let mut block = zeroize::Zeroizing::new([0u8; 64]);
        block[..32].copy_from_slice(key);
        let mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
        Self { id, mac }
    }

    /// The key's own id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The digest of a token under this key.
    pub fn digest(&self, token: &Token) -> TokenDigest {
        let mut mac = self.mac.clone();
        mac.update(token.as_bytes());
        TokenDigest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DigestKey({})", self.id.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_digest_is_hmac_sha_256_and_hangs_on_the_key() {
        let token: Token = Token::generate_from(|b| {
            b.fill(1);
            Ok::<_, ()>(())
        })
        .unwrap();
        let one = DigestKey::new(KeyId(1), &[7; 32]);
        let other = DigestKey::new(KeyId(2), &[8; 32]);
        assert_eq!(one.digest(&token), one.digest(&token));
        assert_ne!(one.digest(&token), other.digest(&token));
        // hmac.new(b"\x07" * 32, token, "sha256") in another implementation.
        let hex: String = one.digest(&token).as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, EXPECTED);
        assert!(!format!("{one:?}").contains('7'));
    }

    const EXPECTED: &str = "93efb8dc974afad308885a1e179f3d3c4efdfecdf630dd75085d178b44024caf";
}
