//! Signatures by the Standard Webhooks specification (standardwebhooks.com), which has verification
//! libraries for many languages.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use trustrelay_authority::WebhookSecret;
use zeroize::Zeroizing;

/// Returns the value of the `webhook-signature` header.
pub fn sign(secret: &WebhookSecret, id: &str, at: Timestamp, body: &str) -> String {
    // HMAC pads a key that is shorter than SHA-256's block with zeros (RFC 2104, section 2).
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(secret.bytes());
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    mac.update(format!("{id}.{}.", at.as_second()).as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by an independent implementation, Python's hmac and base64:
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
        assert_eq!(sign(&secret(), "msg_1", at, r#"{"test": 1}"#), SIGNATURE);
        assert_ne!(sign(&secret(), "msg_2", at, r#"{"test": 1}"#), SIGNATURE);
        assert_ne!(sign(&secret(), "msg_1", at, r#"{"test": 2}"#), SIGNATURE);
    }
}
