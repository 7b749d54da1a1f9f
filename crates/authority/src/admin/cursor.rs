//! Where a list goes on: the last row that was shown, as text that callers need not understand.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// What a list is ordered by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A time, in microseconds.
    Micros(i64),
    /// A name, in lower case.
    Text(String),
}

/// The row after which a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// What the list is ordered by, in that row.
    pub key: Key,
    /// The row's id, where that is the same in several.
    pub id: Uuid,
}

/// A text is no cursor.
#[derive(Debug, thiserror::Error)]
#[error("`after` is not valid for this list; use the `next` of the previous page, or leave it out")]
pub struct BadCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.id.as_bytes().to_vec();
        match &self.key {
            Key::Micros(micros) => {
                bytes.push(b'm');
                bytes.extend(micros.to_be_bytes());
            }
            Key::Text(text) => {
                bytes.push(b't');
                bytes.extend(text.as_bytes());
            }
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadCursor)?;
        let (id, rest) = bytes.split_first_chunk::<16>().ok_or(BadCursor)?;
        let key = match rest.split_first() {
            Some((b'm', micros)) => {
                Key::Micros(i64::from_be_bytes(micros.try_into().map_err(|_| BadCursor)?))
            }
            Some((b't', text)) => Key::Text(String::from_utf8(text.to_vec()).map_err(|_| BadCursor)?),
            _ => return Err(BadCursor),
        };
        Ok(Self { key, id: Uuid::from_bytes(*id) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_a_cursor_is_written_in_one_way(text in "[A-Za-z0-9_-]{0,60}", bytes: Vec<u8>, id: u128) {
            let named = URL_SAFE_NO_PAD.encode([&id.to_be_bytes()[..], b"t", &bytes[..]].concat());
            let timed = URL_SAFE_NO_PAD.encode([&id.to_be_bytes()[..], b"m", &bytes[..]].concat());
            for text in [text, named, timed] {
                if let Ok(cursor) = text.parse::<Cursor>() {
                    prop_assert_eq!(cursor.to_string(), text);
                }
            }
        }
    }

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        for key in
            [Key::Micros(-1), Key::Micros(i64::MAX), Key::Text(String::new()), Key::Text("żółw".into())]
        {
            let cursor = Cursor { key, id: Uuid::from_u128(7) };
            assert_eq!(cursor.to_string().parse::<Cursor>().expect("reads"), cursor);
        }
        for wrong in [
            "",
            "!",
            "AAAA",
            "AAAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAG0A",
            "AAAAAAAAAAAAAAAAAAAAAHT_",
        ] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }
}
