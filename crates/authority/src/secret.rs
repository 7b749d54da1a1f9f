//! The server's secret, and the keys that are derived from it: one for each purpose.

use std::fmt;
use std::str::FromStr;

use crate::audit::SealKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use trustrelay_token::{DigestKey, KeyId, Token};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::notices::WebhookSecret;

/// 32 random bytes that all digests of a store hang on. Whoever loses them loses all tokens.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ServerSecret([u8; 32]);

/// A text is not a server secret.
#[derive(Debug, thiserror::Error)]
#[error("a server secret is 32 bytes in base64 (44 characters); `trustrelay secret generate` prints one")]
pub struct BadSecret;

impl ServerSecret {
    /// A new secret from the system's random source.
    pub fn generate() -> Result<Self, trustrelay_token::RandomSourceFailed> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The secret in base64: what a key file holds. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// HKDF-SHA-256 (RFC 5869) with the purpose as `info`.
    fn derive<const N: usize>(&self, purpose: &str) -> [u8; N] {
        let mut key = [0; N];
        // Only an output above 255 · 32 bytes is refused (RFC 5869 §2.3).
        let expanded = Hkdf::<Sha256>::new(None, &self.0).expand(purpose.as_bytes(), &mut key);
        debug_assert!(expanded.is_ok());
        key
    }

    /// What a store remembers to notice a wrong secret. It says nothing about the secret.
    pub fn fingerprint(&self) -> [u8; 16] {
        self.derive("trustrelay fingerprint v1")
    }

    /// The key that tokens are digested with: for who prepares what `trustrelay import` reads.
    pub fn token_key(&self) -> DigestKey {
        let [a, b, c, d]: [u8; 4] = self.derive("trustrelay key id v1");
        let key = Zeroizing::new(self.derive::<32>("trustrelay token digest v1"));
        DigestKey::new(KeyId(u32::from_be_bytes([a, b, c, d])), &key)
    }

    /// A name for the secret that says nothing about it: the id of its token key, in hexadecimal.
    pub fn key_name(&self) -> String {
        format!("{:08x}", self.token_key().id().0)
    }

    /// The key that the token and the password of `serve --dev` are made from.
    pub fn dev_key(&self) -> DevKey {
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&self.derive::<32>("trustrelay dev access v1"));
        DevKey(<Hmac<Sha256> as KeyInit>::new((&*block).into()))
    }

    /// The key that MCP session ids are sealed with.
    pub fn mcp_key(&self) -> [u8; 32] {
        self.derive("trustrelay mcp seal v1")
    }

    /// What new secrets of tokens are made from where an answer must be repeatable.
    pub(crate) fn rotation_key(&self) -> RotationKey {
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&self.derive::<32>("trustrelay rotated secret v1"));
        RotationKey(<Hmac<Sha256> as KeyInit>::new((&*block).into()))
    }

    /// What the signing secrets of webhooks are derived from.
    pub(crate) fn webhook_key(&self) -> WebhookKey {
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&self.derive::<32>("trustrelay webhook secret v1"));
        WebhookKey { id: self.token_key().id(), mac: <Hmac<Sha256> as KeyInit>::new((&*block).into()) }
    }

    /// The key that nodes seal with what they tell each other of a request that they carry.
    pub fn carry_key(&self) -> [u8; 32] {
        self.derive("trustrelay carried request v1")
    }

    /// The key that the audit log's chain is sealed with.
    pub(crate) fn seal_key(&self) -> SealKey {
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&self.derive::<32>("trustrelay audit seal v1"));
        SealKey(<Hmac<Sha256> as KeyInit>::new((&*block).into()))
    }

    pub(crate) fn session_key(&self) -> SessionKey {
        self.digests("trustrelay browser session v1")
    }

    pub(crate) fn invite_key(&self) -> SessionKey {
        self.digests("trustrelay invitation v1")
    }

    fn digests(&self, purpose: &str) -> SessionKey {
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&self.derive::<32>(purpose));
        SessionKey(<Hmac<Sha256> as KeyInit>::new((&*block).into()))
    }
}

impl FromStr for ServerSecret {
    type Err = BadSecret;

    fn from_str(text: &str) -> Result<Self, BadSecret> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| BadSecret)?);
        Ok(Self(bytes.as_slice().try_into().map_err(|_| BadSecret)?))
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(…)")
    }
}

/// Makes the secrets of rotations that can be answered again.
pub(crate) struct RotationKey(Hmac<Sha256>);

impl RotationKey {
    /// A block of bytes that nobody without the key can tell from random ones.
    pub(crate) fn block(
        &self,
        counter: u32,
        pat_id: Uuid,
        nonce: &[u8; 32],
        idempotency_key: &str,
    ) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(&counter.to_be_bytes());
        mac.update(pat_id.as_bytes());
        mac.update(nonce);
        // Last, since its length is the caller's.
        mac.update(idempotency_key.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Makes the token and the password of `serve --dev`. The same come out at every start, so neither
/// is written down anywhere.
pub struct DevKey(Hmac<Sha256>);

impl DevKey {
    /// The token with this number. A later one takes the place of one that was revoked.
    pub fn token(&self, number: u32) -> Token {
        self.random_token(b"token", number)
    }

    /// The password: 24 letters and digits, 142 bits.
    pub fn password(&self) -> Zeroizing<String> {
        Zeroizing::new(self.random_token(b"password", 0).expose()[7..31].to_owned())
    }

    fn random_token(&self, purpose: &[u8], number: u32) -> Token {
        token_from(|counter| {
            let mut mac = self.0.clone();
            mac.update(&counter.to_be_bytes());
            mac.update(&number.to_be_bytes());
            mac.update(purpose);
            mac.finalize().into_bytes().into()
        })
    }
}

/// Makes a token from the blocks of HMAC-SHA-256 in counter mode (NIST SP 800-108, section 4.1) in
/// place of random bytes.
pub(crate) fn token_from(block: impl Fn(u32) -> [u8; 32]) -> Token {
    let mut counter = 0;
    let fill = |buffer: &mut [u8]| -> Result<(), std::convert::Infallible> {
        for chunk in buffer.chunks_mut(32) {
            let block = Zeroizing::new(block(counter));
            chunk.copy_from_slice(&block[..chunk.len()]);
            counter += 1;
        }
        Ok(())
    };
    match Token::generate_from(fill) {
        Ok(token) => token,
        Err(never) => match never {},
    }
}

/// Makes the signing secrets of webhooks.
pub(crate) struct WebhookKey {
    id: KeyId,
    mac: Hmac<Sha256>,
}

impl WebhookKey {
    /// Which of the server secrets it comes from: the same id as of that secret's token digests.
    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    /// The signing secret of one webhook.
    pub(crate) fn secret_of(&self, webhook_id: Uuid) -> WebhookSecret {
        let mut mac = self.mac.clone();
        mac.update(webhook_id.as_bytes());
        WebhookSecret::new(Zeroizing::new(mac.finalize().into_bytes().into()))
    }
}

/// Digests secrets of 32 random bytes: the values of session cookies, and what is in links.
pub(crate) struct SessionKey(Hmac<Sha256>);

impl SessionKey {
    pub(crate) fn digest(&self, value: &str) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(value.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_never_prints() {
        let secret = ServerSecret::generate().expect("random");
        let text = secret.expose();
        let again: ServerSecret = text.parse().expect("reads");
        assert_eq!(secret.fingerprint(), again.fingerprint());
        assert!(!format!("{secret:?}").contains(&text[..8]));
    }

    #[test]
    fn dev_access_is_the_same_at_every_start_and_differs_between_servers() {
        let [one, other] = [1, 2].map(|byte| ServerSecret([byte; 32]).dev_key());
        let again = ServerSecret([1; 32]).dev_key();
        assert_eq!(one.token(0).expose(), again.token(0).expose());
        assert_eq!(one.password(), again.password());
        assert_eq!(one.password().len(), 24);
        let tokens = [one.token(0), one.token(1), other.token(0)].map(|token| token.expose().to_owned());
        assert!(tokens[0] != tokens[1] && tokens[0] != tokens[2], "{}", tokens.len());
        assert!(one.password() != other.password() && !tokens[0].contains(&*one.password()));
    }

    #[test]
    fn what_is_not_32_bytes_is_refused() {
        for wrong in ["", "abc", "AAAA", "////////////////////////////////////////////////"] {
            assert!(wrong.parse::<ServerSecret>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_purpose_has_its_own_key() {
        let secret = ServerSecret([7; 32]);
        assert_ne!(secret.derive::<32>("a"), secret.derive::<32>("b"));
        assert_ne!(secret.derive::<32>("a"), ServerSecret([8; 32]).derive::<32>("a"));
    }
}
