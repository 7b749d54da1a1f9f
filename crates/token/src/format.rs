//! The token as text: `tr_pat_` + 32 random base62 characters + 6 of checksum.

use std::fmt;
use std::str::FromStr;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The beginning of every token. A promise: it never changes.
pub const PREFIX: &str = "tr_pat_";
/// How many random base62 characters follow the prefix: 32 · log2(62) = 190.5 bits.
const RANDOM_LEN: usize = 32;
/// How many base62 characters the CRC-32 takes: 62^6 > 2^32.
const CHECKSUM_LEN: usize = 6;
/// The length of a token in bytes (all ASCII): 7 + 32 + 6. A promise: it never changes.
pub const TOKEN_LEN: usize = PREFIX.len() + RANDOM_LEN + CHECKSUM_LEN;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed personal access token: the secret itself.
///
/// The value has a fixed size, is wiped when dropped, and cannot be printed: its
/// [`Debug`](fmt::Debug) shows only the hint, and there is neither `Display` nor serialization.
/// [`Token::expose`] is the only way out.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token([u8; TOKEN_LEN]);

/// The reason why a text is not a token. It does not reveal the right checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedToken {
    /// It does not begin with [`PREFIX`].
    #[error("a token starts with `tr_pat_`")]
    Prefix,
    /// It is not [`TOKEN_LEN`] bytes long.
    #[error("a token has 45 characters, but this has {0}; make sure that it is complete and has no spaces")]
    Length(usize),
    /// A character outside `0-9A-Za-z`, at this byte offset.
    #[error("a token has only letters and digits after `tr_pat_`; character {0} is neither")]
    Alphabet(usize),
    /// The checksum does not match: a typing or copying mistake.
    #[error("the token's checksum does not match: it was mistyped or altered")]
    Checksum,
}

/// The system's random source gave nothing.
#[derive(Debug, thiserror::Error)]
#[error("the system's random source failed: {0}")]
pub struct RandomSourceFailed(#[from] getrandom::Error);

impl Token {
    /// A new token from the system's random source.
    pub fn generate() -> Result<Self, RandomSourceFailed> {
        Self::generate_from(|buffer| getrandom::fill(buffer).map_err(RandomSourceFailed))
    }

    /// A new token whose randomness is an argument, so that tests can pin it.
    ///
    /// `fill` must fill the whole buffer with uniform bytes. Bytes of 248 and above are discarded
    /// (248 = 4 · 62), so that each character is uniform.
    pub fn generate_from<E>(mut fill: impl FnMut(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut bytes = [0u8; TOKEN_LEN];
        bytes[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let mut at = PREFIX.len();
        let end = PREFIX.len() + RANDOM_LEN;
        let mut pool = [0u8; 48];
        while at < end {
            fill(&mut pool)?;
            for byte in pool.iter().copied().filter(|byte| *byte < 248) {
                if at == end {
                    break;
                }
                bytes[at] = ALPHABET[usize::from(byte % 62)];
                at += 1;
            }
        }
        pool.zeroize();
        let checksum = checksum(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum);
        Ok(Self(bytes))
    }

    /// Reads a token from bytes as they came from a header or a file.
    pub fn from_bytes(text: &[u8]) -> Result<Self, MalformedToken> {
        if !text.starts_with(PREFIX.as_bytes()) {
            return Err(MalformedToken::Prefix);
        }
        let Ok(bytes) = <[u8; TOKEN_LEN]>::try_from(text) else {
            return Err(MalformedToken::Length(text.len()));
        };
        // Wiped on drop from here on, on every path.
        let token = Self(bytes);
        if let Some(at) = bytes[PREFIX.len()..].iter().position(|byte| !byte.is_ascii_alphanumeric()) {
            return Err(MalformedToken::Alphabet(PREFIX.len() + at));
        }
        let (body, given) = token.0.split_at(TOKEN_LEN - CHECKSUM_LEN);
        if checksum(body) != given {
            return Err(MalformedToken::Checksum);
        }
        Ok(token)
    }

    /// The same as [`Token::expose`], not looked at again.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the secret as text. The caller is responsible for where it goes.
    pub fn expose(&self) -> &str {
        // Every constructor has checked that the bytes are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns the hint that may be kept and shown to recognize a token: `...` and its last four
    /// characters.
    ///
    /// These characters belong to the checksum, so a hint reveals at most 24 of the 190 random
    /// bits.
    pub fn hint(&self) -> String {
        format!("...{}", &self.expose()[TOKEN_LEN - 4..])
    }
}

impl FromStr for Token {
    type Err = MalformedToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.hint())
    }
}

/// CRC-32 (IEEE) of `body` as base62, most significant digit first, zero-padded.
fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [0u8; CHECKSUM_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
