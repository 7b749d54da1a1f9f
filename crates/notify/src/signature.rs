//! Signatures by the Standard Webhooks specification (standardwebhooks.com), which has verifying libraries for many languages.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use zeroize::Zeroizing;

/// What a webhook's requests are signed with. Its owner sees it once.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Zeroizing<[u8; 32]>);

impl WebhookSecret {
    /// A secret of these bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// `whsec_` and base64: what receivers are set up with. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("whsec_{}", BASE64_STANDARD.encode(*self.0)))
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, at: Timestamp, body: &str) -> String {
        // A block of SHA-256: a shorter key is filled up with zeros (RFC 2104, section 2).
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&*self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
        mac.update(format!("{id}.{}.", at.as_second()).as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By another implementation: Python's hmac and base64.
    ///
    /// ```python
    /// import hmac, hashlib, base64
    /// mac = hmac.new(bytes(range(32)), b'msg_1.1775563200.{"test": 1}', hashlib.sha256)
    /// print("v1," + base64.b64encode(mac.digest()).decode())
    /// ```
    const SIGNATURE: &str = "v1,JGVF/zpajrw03MrGih3jRBSucNEzCHxNl+BXob1NS0Y=";

    fn secret() -> WebhookSecret {
        WebhookSecret::new(Zeroizing::new(std::array::from_fn(|at| at as u8)))
    }

    #[test]
    fn a_signature_is_what_another_implementation_computes() {
        let at: Timestamp = "2026-04-07T12:00:00.9Z".parse().expect("a time");
        assert_eq!(secret().sign("msg_1", at, r#"{"test": 1}"#), SIGNATURE);
        assert_ne!(secret().sign("msg_2", at, r#"{"test": 1}"#), SIGNATURE);
        assert_ne!(secret().sign("msg_1", at, r#"{"test": 2}"#), SIGNATURE);
    }

    #[test]
    fn a_secret_is_shown_as_receivers_take_it_and_never_prints() {
        assert_eq!(&*secret().expose(), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert_eq!(format!("{:?}", secret()), "WebhookSecret(…)");
    }
}
