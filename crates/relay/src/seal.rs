//! Sealed values that clients carry for the relay: session ids, and the state of calls that wait
//! for input.
//!
//! The cipher is XChaCha20-Poly1305 (RFC 8439 with the 24-byte nonce of draft-irtf-cfrg-xchacha).
//! Its nonces are long enough to be random. A client can neither read nor forge a sealed value, and
//! a value sealed for one purpose does not open for another.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

const NONCE: usize = 24;
/// Maximum length of a sealed text, in bytes. Longer texts are refused without decryption.
pub(crate) const MAX_SEALED: usize = 6 * 1024;

/// The purpose of a sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `Mcp-Session-Id`.
    Session,
    /// `requestState`.
    Request,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"session",
            Self::Request => b"request",
        }
    }
}

/// Seals with the first key, opens with any key.
pub(crate) struct Sealer(Vec<XChaCha20Poly1305>);

impl Sealer {
    /// Creates a sealer; the newest key comes first. Without keys, generates one that lasts as long
    /// as this process, and sealed values with it.
    pub(crate) fn new(keys: &[[u8; 32]]) -> Result<Self, getrandom::Error> {
        let mut ciphers: Vec<_> = keys.iter().map(|key| XChaCha20Poly1305::new(key.into())).collect();
        if ciphers.is_empty() {
            let mut key = [0; 32];
            getrandom::fill(&mut key)?;
            ciphers.push(XChaCha20Poly1305::new(&key.into()));
        }
        Ok(Self(ciphers))
    }

    /// Seals a value as visible ASCII, as `Mcp-Session-Id` requires. Returns `None` if the system
    /// has no randomness.
    pub(crate) fn seal(&self, purpose: Purpose, plain: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        let payload = Payload { msg: plain, aad: purpose.label() };
        let sealed = self.0.first()?.encrypt(&XNonce::from(nonce), payload).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// Opens a sealed value. Returns `None` for any other text.
    pub(crate) fn open(&self, purpose: Purpose, text: &str) -> Option<Vec<u8>> {
        if text.len() > MAX_SEALED {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let nonce = XNonce::from(*nonce);
        let open = |cipher: &XChaCha20Poly1305| {
            cipher.decrypt(&nonce, Payload { msg: sealed, aad: purpose.label() })
        };
        self.0.iter().find_map(|cipher| open(cipher).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_any_of_the_keys_and_for_its_purpose_alone() {
        let old = Sealer::new(&[[1; 32]]).unwrap();
        let sealed = old.seal(Purpose::Session, b"hello").unwrap();
        let rotated = Sealer::new(&[[2; 32], [1; 32]]).unwrap();
        assert_eq!(rotated.open(Purpose::Session, &sealed).unwrap(), b"hello");
        assert_eq!(rotated.open(Purpose::Request, &sealed), None);
        assert_eq!(Sealer::new(&[[2; 32]]).unwrap().open(Purpose::Session, &sealed), None);
        assert_ne!(old.seal(Purpose::Session, b"hello").unwrap(), sealed);
    }

    #[test]
    fn what_was_altered_does_not_open() {
        let sealer = Sealer::new(&[]).unwrap();
        let sealed = sealer.seal(Purpose::Session, b"hello").unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            // The unused bits of the last character may decode to the same bytes or be invalid.
            if at + 1 < sealed.len() {
                assert_eq!(sealer.open(Purpose::Session, &altered), None, "{at}");
            }
        }
        for nonsense in ["", "a", "####", &"A".repeat(MAX_SEALED + 1)] {
            assert_eq!(sealer.open(Purpose::Session, nonsense), None);
        }
    }
}
