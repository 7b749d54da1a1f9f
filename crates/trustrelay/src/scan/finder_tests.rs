#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::io::{self, Read};

use proptest::prelude::*;
use trustrelay_token::{PREFIX, TOKEN_LEN, Token};

use super::{Finder, Found, MAX_FOUND, Trouble, characters};

/// A token that is the same each time for the same seed.
fn token(seed: u8) -> Token {
    let mut next = seed;
    Token::generate_from(|buffer| -> Result<(), ()> {
        for byte in buffer {
            next = next.wrapping_mul(5).wrapping_add(seed | 1);
            *byte = next;
        }
        Ok(())
    })
    .expect("made")
}

fn places(text: &[u8]) -> Vec<(u64, u64)> {
    let outcome = Finder::new().find(text);
    assert!(outcome.trouble.is_none());
    outcome.found.iter().map(|found| (found.line, found.column)).collect()
}

/// The same, as slowly and plainly as can be.
fn plainly(text: &[u8]) -> Vec<Found> {
    let is_token = |at: &usize| {
        let Some(word) = text.get(*at..*at + TOKEN_LEN) else { return false };
        let rest = &text[*at + TOKEN_LEN..];
        let ends = rest.is_empty() || !rest[0].is_ascii_alphanumeric() || rest.starts_with(PREFIX.as_bytes());
        ends && Token::from_bytes(word).is_ok()
    };
    let found = (0..text.len()).filter(is_token).map(|at| {
        let line = text[..at].split(|byte| *byte == b'\n').next_back().expect("the last line");
        Found {
            offset: at as u64,
            line: 1 + text[..at].iter().filter(|byte| **byte == b'\n').count() as u64,
            column: 1 + characters(line),
            hint: Token::from_bytes(&text[at..at + TOKEN_LEN]).expect("it is one").hint(),
        }
    });
    found.collect()
}

/// Input that comes in pieces of the given sizes, again and again.
struct Pieces<'a> {
    rest: &'a [u8],
    sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes.next().expect("endless").min(buffer.len()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(size);
        buffer[..size].copy_from_slice(piece);
        self.rest = rest;
        Ok(size)
    }
}

/// What files are made of, with much that is nearly a token.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let whole = any::<u8>().prop_map(|seed| token(seed).expose().as_bytes().to_vec());
    let cut =
        (any::<u8>(), 0..TOKEN_LEN).prop_map(|(seed, len)| token(seed).expose().as_bytes()[..len].to_vec());
    let mistyped = (any::<u8>(), 7..TOKEN_LEN).prop_map(|(seed, at)| {
        let mut text = token(seed).expose().as_bytes().to_vec();
        text[at] = if text[at] == b'0' { b'1' } else { b'0' };
        text
    });
    prop_oneof![
        4 => whole,
        1 => cut,
        1 => mistyped,
        2 => "[ \r\n\t=:_\"]{1,3}".prop_map(String::into_bytes),
        1 => "[a-z0-9é→🔑]{1,60}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 1..20),
        1 => Just(PREFIX.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn input_in_pieces_is_read_like_the_whole(
        parts in proptest::collection::vec(part(), 0..30),
        buffer in 1usize..300,
        sizes in proptest::collection::vec(1usize..200, 1..8),
    ) {
        let text = parts.concat();
        let input = Pieces { rest: &text, sizes: sizes.into_iter().cycle() };
        let outcome = Finder::with_pieces_of(buffer).find(input);
        prop_assert!(outcome.trouble.is_none());
        prop_assert_eq!(outcome.found, plainly(&text));
    }
}

#[test]
fn a_token_is_found_wherever_the_pieces_of_a_large_input_meet() {
    let token = token(7);
    for shift in 0..60 {
        let mut text = vec![b'.'; super::PIECE + 200];
        let at = super::PIECE - 5 + shift;
        text[at..at + TOKEN_LEN].copy_from_slice(token.expose().as_bytes());
        assert_eq!(places(&text), [(1, 1 + at as u64)]);
    }
}

#[test]
fn what_stands_before_a_token_does_not_matter_and_what_follows_must_end_it() {
    let (one, other) = (token(1), token(2));
    let (one, other) = (one.expose(), other.expose());
    for (text, columns) in [
        (one.to_owned(), &[1][..]),
        (format!("\\n{one}\\n"), &[3]),
        (format!("x{one}."), &[2]),
        (format!("tr_pat_{one}"), &[8]),
        (format!("backup_{one}_2"), &[8]),
        (format!("{one}{other}"), &[1, 46]),
        (format!("{one} {other}"), &[1, 47]),
        (format!("é→🔑{one}"), &[4]),
        (format!("{one}x"), &[]),
        (format!("{one}tr_pat"), &[]),
        (one[..44].to_owned(), &[]),
        (one.to_uppercase(), &[]),
    ] {
        let columns: Vec<_> = columns.iter().map(|column| (1, *column)).collect();
        assert_eq!(places(text.as_bytes()), columns, "{}", text.len());
    }
}

#[test]
fn a_failure_in_the_middle_keeps_what_was_found() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let token = token(3);
    let outcome = Finder::new().find(token.expose().as_bytes().chain(Fails));
    assert!(matches!(outcome.trouble, Some(Trouble::Unreadable(_))));
    assert_eq!(outcome.found.len(), 1);
}

#[test]
fn so_many_tokens_of_one_file_are_named_and_no_more() {
    let line = format!("{}\n", token(4).expose());
    let many = line.repeat(MAX_FOUND);
    let outcome = Finder::new().find(many.as_bytes());
    assert_eq!((outcome.found.len(), outcome.trouble.is_none()), (MAX_FOUND, true));
    let outcome = Finder::new().find(many.as_bytes().chain(line.as_bytes()));
    assert_eq!(outcome.found.len(), MAX_FOUND);
    assert!(matches!(outcome.trouble, Some(Trouble::TooMany)));
}
