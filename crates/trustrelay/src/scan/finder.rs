//! Tokens in bytes, read piece by piece.

use std::io::{self, Read};

use memchr::{memchr_iter, memmem, memrchr};
use trustrelay_token::{PREFIX, TOKEN_LEN, Token};
use zeroize::Zeroizing;

/// How much is read at a time: it stays in a core's cache, and is all that a file takes, however
/// large it is.
const PIECE: usize = 256 * 1024;
/// What is looked at to judge a beginning: the token, and whether it ends there or another one
/// begins.
const LOOK_AHEAD: usize = TOKEN_LEN + PREFIX.len();
/// How many tokens are named of one file: at 48 bytes each, half a megabyte. Who has more has an
/// answer already.
pub(super) const MAX_FOUND: usize = 10_000;

/// Where a token was found, and its hint: never the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The bytes before it.
    pub(super) offset: u64,
    /// From 1; a line ends with a line feed.
    pub(super) line: u64,
    /// From 1, in characters (Unicode code points). Where bytes are no UTF-8, each one that cannot
    /// continue a character counts.
    pub(super) column: u64,
    /// As the pages and the API show it.
    pub(super) hint: String,
}

/// What reading came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// In the order in which they stand there.
    pub(super) found: Vec<Found>,
    /// Why the rest was not looked at.
    pub(super) trouble: Option<Trouble>,
}

/// Why not everything was looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("has more than {MAX_FOUND} tokens; the rest was not scanned")]
    TooMany,
}

/// Finds tokens. One buffer, used again for each file and wiped at the end: what passes through it
/// are secrets.
pub(super) struct Finder {
    buffer: Zeroizing<Vec<u8>>,
    prefix: memmem::Finder<'static>,
}

impl Finder {
    pub(super) fn new() -> Self {
        Self::with_pieces_of(PIECE)
    }

    fn with_pieces_of(piece: usize) -> Self {
        Self {
            buffer: Zeroizing::new(vec![0; LOOK_AHEAD - 1 + piece]),
            prefix: memmem::Finder::new(PREFIX.as_bytes()),
        }
    }

    /// Reads to the end. What was found before a failure is kept.
    pub(super) fn find(&mut self, mut input: impl Read) -> Outcome {
        let mut outcome = Outcome::default();
        let mut place = Place { offset: 0, line: 1, column: 1 };
        let mut held = 0;
        loop {
            let read = match input.read(&mut self.buffer[held..]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    outcome.trouble = Some(Trouble::Unreadable(error));
                    0
                }
            };
            let window = &self.buffer[..held + read];
            // What begins before this can be judged now; the rest waits for what follows it.
            let settled = if read == 0 { held } else { window.len().saturating_sub(LOOK_AHEAD - 1) };
            let mut passed = 0;
            for at in self.prefix.find_iter(window).take_while(|at| *at < settled) {
                let Some(token) = token_at(&window[at..]) else { continue };
                place.pass(&window[passed..at]);
                passed = at;
                if outcome.found.len() == MAX_FOUND {
                    outcome.trouble = Some(Trouble::TooMany);
                    return outcome;
                }
                outcome.found.push(place.of(&token));
            }
            place.pass(&window[passed..settled]);
            if read == 0 {
                return outcome;
            }
            let end = window.len();
            self.buffer.copy_within(settled..end, 0);
            held = end - settled;
        }
    }
}

/// The token at the beginning of `text`. The word must end where the token ends, or another token
/// begin there. What stands before it does not matter: in `"\ntr_pat_…"` it is an `n`.
fn token_at(text: &[u8]) -> Option<Token> {
    let (word, rest) = text.split_at_checked(TOKEN_LEN)?;
    let ends = rest.first().is_none_or(|next| !next.is_ascii_alphanumeric());
    (ends || rest.starts_with(PREFIX.as_bytes())).then(|| Token::from_bytes(word).ok()).flatten()
}

/// How far the input was passed.
struct Place {
    offset: u64,
    line: u64,
    column: u64,
}

impl Place {
    fn pass(&mut self, bytes: &[u8]) {
        match memrchr(b'\n', bytes) {
            Some(last) => {
                self.line += memchr_iter(b'\n', &bytes[..=last]).count() as u64;
                self.column = 1 + characters(&bytes[last + 1..]);
            }
            None => self.column += characters(bytes),
        }
        self.offset += bytes.len() as u64;
    }

    fn of(&self, token: &Token) -> Found {
        Found { offset: self.offset, line: self.line, column: self.column, hint: token.hint() }
    }
}

/// The bytes that do not continue a character of UTF-8.
fn characters(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count() as u64
}

#[cfg(test)]
#[path = "finder_tests.rs"]
mod tests;
