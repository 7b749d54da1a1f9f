#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[derive(serde::Deserialize)]
struct Vectors {
    valid: Vec<Valid>,
    malformed: Vec<Malformed>,
}

#[derive(serde::Deserialize)]
struct Valid {
    token: String,
    hint: String,
}

#[derive(serde::Deserialize)]
struct Malformed {
    text: String,
    reason: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/token.json")).unwrap()
}

#[test]
fn the_published_vectors_hold() {
    let vectors = vectors();
    assert!(vectors.valid.len() >= 4 && vectors.malformed.len() >= 8);
    for Valid { token, hint } in vectors.valid {
        assert_eq!(Token::from_str(&token).unwrap().hint(), hint, "{token}");
    }
    for Malformed { text, reason } in vectors.malformed {
        let found = match Token::from_str(&text).unwrap_err() {
            MalformedToken::Prefix => "prefix",
            MalformedToken::Length(_) => "length",
            MalformedToken::Alphabet(_) => "alphabet",
            MalformedToken::Checksum => "checksum",
        };
        assert_eq!(found, reason, "{text:?}");
    }
}

#[test]
fn a_token_is_pinned_by_its_randomness() {
    let token = Token::generate_from(|buffer| {
        buffer.fill(1);
        Ok::<_, ()>(())
    })
    .unwrap();
    assert_eq!(&token.expose()[..39], "tr_pat_11111111111111111111111111111111");
}

#[test]
fn bytes_that_would_skew_the_alphabet_are_discarded() {
    let mut calls = 0;
    let token = Token::generate_from(|buffer| {
        buffer.fill(if calls == 0 { 255 } else { 61 });
        calls += 1;
        Ok::<_, ()>(())
    })
    .unwrap();
    assert_eq!(calls, 2);
    assert!(token.expose().starts_with("tr_pat_zzzz"));
}

#[test]
fn debug_never_shows_the_secret() {
    let token = Token::generate().unwrap();
    let shown = format!("{token:?} {:#?}", Some(&token));
    assert!(!shown.contains(&token.expose()[7..20]), "{shown}");
    assert!(shown.contains(&token.hint()));
}

#[test]
fn a_failing_random_source_makes_no_token() {
    assert_eq!(Token::generate_from(|_| Err::<(), _>("dry")).unwrap_err(), "dry");
}

proptest! {
    #[test]
    fn what_is_generated_parses(seed in prop::array::uniform32(0u8..248)) {
        let mut source = seed.into_iter().cycle();
        let token = Token::generate_from(|buffer| {
            buffer.fill_with(|| source.next().unwrap_or_default());
            Ok::<_, ()>(())
        }).unwrap();
        let read = Token::from_str(token.expose()).unwrap();
        prop_assert_eq!(read.expose(), token.expose());
    }

    #[test]
    fn one_changed_character_is_noticed(at in 7usize..TOKEN_LEN, to in 0usize..62) {
        let token = Token::generate().unwrap();
        let mut bytes = token.expose().as_bytes().to_vec();
        prop_assume!(bytes[at] != ALPHABET[to]);
        bytes[at] = ALPHABET[to];
        prop_assert_eq!(Token::from_bytes(&bytes).unwrap_err(), MalformedToken::Checksum);
    }

    #[test]
    fn nothing_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = Token::from_bytes(&bytes);
        let mut prefixed = PREFIX.as_bytes().to_vec();
        prefixed.extend(bytes);
        let _ = Token::from_bytes(&prefixed);
    }
}
