//! GitHub's secret scanning: who signs, and what it sends and reads
//! ("Secret scanning partner program" in GitHub's documentation of code security).

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

const IDENTIFIER: HeaderName = HeaderName::from_static("github-public-key-identifier");
const SIGNATURE: HeaderName = HeaderName::from_static("github-public-key-signature");

/// The keys that GitHub signs with, by their identifiers: a document as GitHub serves it.
pub struct GithubKeys(HashMap<String, ParsedPublicKey>);

/// Why a document holds no keys of GitHub's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadGithubKeys {
    /// It is not of the form that GitHub serves.
    #[error("it is not `{{\"public_keys\": [{{\"key_identifier\", \"key\"}}]}}`: {0}")]
    Form(#[from] serde_json::Error),
    /// There is none in it.
    #[error("it contains no key")]
    Empty,
    /// One of them is no ECDSA key on the curve P-256 in PEM.
    #[error("the key `{0}` is not a P-256 public key in PEM")]
    Key(String),
}

#[derive(Deserialize)]
struct Document {
    public_keys: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    key_identifier: String,
    key: String,
}

impl GithubKeys {
    /// Reads the document. Those that are current no more are good as well: what they signed may be
    /// on its way.
    pub fn parse(text: &str) -> Result<Self, BadGithubKeys> {
        let document: Document = serde_json::from_str(text)?;
        let mut keys = HashMap::new();
        for listed in document.public_keys {
            let Some(key) = public_key(&listed.key) else {
                return Err(BadGithubKeys::Key(listed.key_identifier));
            };
            keys.insert(listed.key_identifier, key);
        }
        if keys.is_empty() { Err(BadGithubKeys::Empty) } else { Ok(Self(keys)) }
    }

    /// Whether a claim names one of these keys. It is asked before the body is read.
    pub(crate) fn know(&self, claim: &Claim<'_>) -> bool {
        self.0.contains_key(claim.identifier)
    }

    /// Whether one of the keys has signed this body, to the byte.
    pub(crate) fn have_signed(&self, claim: &Claim<'_>, body: &[u8]) -> bool {
        let (Some(key), Ok(signature)) = (self.0.get(claim.identifier), STANDARD.decode(claim.signature))
        else {
            return false;
        };
        key.verify_sig(body, &signature).is_ok()
    }
}

impl fmt::Debug for GithubKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn public_key(pem: &str) -> Option<ParsedPublicKey> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der.as_ref()).ok()
}

/// What a request says of who has signed it.
pub(crate) struct Claim<'a> {
    identifier: &'a str,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    /// `None` if it says nothing of the kind. One header without the other is a claim that cannot
    /// be true.
    pub(crate) fn of(headers: &'a HeaderMap) -> Option<Self> {
        if !headers.contains_key(&IDENTIFIER) && !headers.contains_key(&SIGNATURE) {
            return None;
        }
        let text = |name| {
            let mut values = headers.get_all(name).iter();
            let only = values.next().filter(|_| values.next().is_none());
            only.and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        Some(Self { identifier: text(&IDENTIFIER), signature: text(&SIGNATURE) })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::KeyPair;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    };
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pair(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
        EcdsaKeyPair::generate(algorithm).expect("random")
    }

    fn pem(pair: &EcdsaKeyPair) -> String {
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    fn document(keys: &[(&str, &str)]) -> String {
        let keys =
            keys.iter().map(|(id, key)| json!({ "key_identifier": id, "key": key, "is_current": true }));
        json!({ "public_keys": keys.collect::<Vec<_>>() }).to_string()
    }

    fn signed(pair: &EcdsaKeyPair, body: &[u8]) -> String {
        STANDARD.encode(pair.sign(&SystemRandom::new(), body).expect("signs"))
    }

    #[test]
    fn a_signature_is_good_for_its_key_and_its_body_to_the_byte() {
        let (one, other) = (pair(&ECDSA_P256_SHA256_ASN1_SIGNING), pair(&ECDSA_P256_SHA256_ASN1_SIGNING));
        let keys = document(&[("one", &pem(&one)), ("other", &pem(&other))]);
        let keys = GithubKeys::parse(&keys).expect("keys");
        let body = b"[{\"token\":\"x\"}]";
        let good = signed(&one, body);
        let is_good = |identifier, signature: &str, body: &[u8]| {
            keys.have_signed(&Claim { identifier, signature }, body)
        };
        assert!(is_good("one", &good, body));
        assert!(is_good("other", &signed(&other, body), body));
        assert!(!is_good("other", &good, body), "another key");
        assert!(!is_good("unknown", &good, body), "an unknown key");
        assert!(!is_good("one", &good, b"[{\"token\":\"y\"}]"), "another body");
        assert!(!is_good("one", &good, b"[{\"token\":\"x\"}] "), "a byte more");
        for bad in ["", "no base64!", "AAAA", &good[..good.len() - 4], &STANDARD.encode(body)] {
            assert!(!is_good("one", bad, body), "{bad}");
        }
    }

    #[test]
    fn a_document_without_good_keys_is_refused_with_the_reason() {
        let short = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        let other_curve = pem(&pair(&ECDSA_P384_SHA384_ASN1_SIGNING));
        for (text, says) in [
            ("", "is not `{\"public_keys\"".to_owned()),
            ("[]", "is not `{\"public_keys\"".to_owned()),
            (r#"{"public_keys": []}"#, "contains no key".to_owned()),
            (&document(&[("k1", "no PEM")]), "the key `k1` is not a P-256".to_owned()),
            (&document(&[("k2", short)]), "the key `k2` is not a P-256".to_owned()),
            (&document(&[("k3", &other_curve)]), "the key `k3` is not a P-256".to_owned()),
        ] {
            let error = GithubKeys::parse(text).expect_err("refused").to_string();
            assert!(error.contains(&says), "{text}: {error}");
        }
    }

    #[test]
    fn half_a_claim_and_two_of_them_are_claims_that_are_not_true() {
        let claim = |headers: &[(&HeaderName, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().expect("a value"));
            }
            Claim::of(&map).map(|claim| (claim.identifier.to_owned(), claim.signature.to_owned()))
        };
        let is = |identifier: &str, signature: &str| Some((identifier.to_owned(), signature.to_owned()));
        assert_eq!(claim(&[]), None);
        assert_eq!(claim(&[(&IDENTIFIER, "k"), (&SIGNATURE, "s")]), is("k", "s"));
        assert_eq!(claim(&[(&IDENTIFIER, "k")]), is("k", ""));
        assert_eq!(claim(&[(&SIGNATURE, "s")]), is("", "s"));
        assert_eq!(claim(&[(&IDENTIFIER, "k"), (&IDENTIFIER, "l"), (&SIGNATURE, "s")]), is("", "s"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_other_body_is_signed(body: Vec<u8>, other: Vec<u8>, at: usize, bit in 0..8_u8) {
            let one = pair(&ECDSA_P256_SHA256_ASN1_SIGNING);
            let keys = GithubKeys::parse(&document(&[("one", &pem(&one))])).expect("keys");
            let signature = signed(&one, &body);
            let is_signed = |body: &[u8]| keys.have_signed(&Claim { identifier: "one", signature: &signature }, body);
            prop_assert!(is_signed(&body));
            prop_assert_eq!(is_signed(&other), other == body);
            let mut changed = body;
            changed.push(0);
            let at = at % changed.len();
            changed[at] ^= 1 << bit;
            prop_assert!(!is_signed(&changed));
        }

        #[test]
        fn whatever_is_claimed_is_answered(identifier in "\\PC{0,8}", signature: String, body: Vec<u8>) {
            let one = pair(&ECDSA_P256_SHA256_ASN1_SIGNING);
            let keys = GithubKeys::parse(&document(&[("one", &pem(&one))])).expect("keys");
            let unknown = Claim { identifier: &identifier, signature: &signature };
            prop_assert!(!keys.have_signed(&unknown, &body));
            let known = Claim { identifier: "one", signature: &signature };
            prop_assert!(!keys.have_signed(&known, &body));
        }
    }
}
