//! A text that should be a token, as it stands in a body.

use serde::{Deserialize, Deserializer, de};
use sha2::{Digest, Sha256};
use trustrelay_token::Token;

/// Parsed where it is read: the text itself goes no further.
pub(crate) struct Written {
    /// `None` if it is no token.
    pub(crate) token: Option<Token>,
    pub(crate) is_empty: bool,
    /// SHA-256 of the text.
    pub(crate) hash: [u8; 32],
}

struct Visitor;

impl de::Visitor<'_> for Visitor {
    type Value = Written;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Written, E> {
        let token = Token::from_bytes(text.as_bytes()).ok();
        Ok(Written { token, is_empty: text.is_empty(), hash: Sha256::digest(text).into() })
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Visitor)
    }
}
