//! Keeps secrets out of what is logged or repeated: a path, a field's name.

use std::borrow::Cow;

use trustrelay_token::PREFIX;

/// From this length on a run of letters and digits may be a secret: 32 are the random part of a
/// token. An id has hyphens.
const LONG_RUN: usize = 32;
/// From this length on a word may be a secret: an id with its hyphens has 36, a session's secret
/// 43.
const LONG_WORD: usize = 40;
/// How much of a path is logged, in bytes.
const MAX_PATH: usize = 200;

/// The text with `…` where a token, or something that looks like a secret, was.
pub(crate) fn without_secrets(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        let longest = word.split(['_', '-']).map(str::len).max().unwrap_or(0);
        match word.find(PREFIX) {
            Some(at) => {
                shown.push_str(&word[..at + PREFIX.len()]);
                shown.push('…');
            }
            None if word.len() >= LONG_WORD || longest >= LONG_RUN => shown.push('…'),
            None => shown.push_str(word),
        }
        let (between, next) = after.split_at(after.find(is_word).unwrap_or(after.len()));
        shown.push_str(between);
        rest = next;
    }
    shown
}

/// A path as it may be logged: without secrets, also where they are percent-encoded, and of bounded
/// length.
pub(crate) fn loggable(path: &str) -> Cow<'_, str> {
    let decoded = if path.contains('%') { Cow::Owned(percent_decoded(path)) } else { Cow::Borrowed(path) };
    let redacted = without_secrets(&decoded);
    let shown = if redacted == *decoded {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(redacted.escape_debug().to_string())
    };
    match shown.char_indices().find(|(at, _)| *at >= MAX_PATH) {
        Some((end, _)) => Cow::Owned(format!("{}…", &shown[..end])),
        None => shown,
    }
}

fn percent_decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use trustrelay_token::Token;

    use super::*;

    #[test]
    fn a_path_without_secrets_is_logged_as_it_came() {
        for path in [
            "/",
            "/api/user/personal-access-tokens",
            "/api/user/personal-access-tokens/0197f4a2-7e1c-7c4e-9a53-1f0e6a1b2c3d",
            "/a%20b/%zz/%",
        ] {
            assert_eq!(loggable(path), path);
        }
    }

    #[test]
    fn a_token_in_a_path_is_not_logged_however_it_is_written() {
        let token = Token::generate().expect("random");
        let random = &token.expose()[7..];
        let encoded: String = token.expose().bytes().map(|byte| format!("%{byte:02x}")).collect();
        let twice = token.expose().replace('_', "%255F");
        let cut = &token.expose()[..24];
        for written in [token.expose(), random, &encoded, &twice, cut, &format!("x-{}-y", token.expose())] {
            let logged = loggable(&format!("/api/x/{written}/y")).into_owned();
            assert!(!logged.contains(&random[..12]), "{logged}");
            assert!(logged.starts_with("/api/x/") && logged.ends_with("/y"), "{logged}");
        }
    }

    #[test]
    fn a_session_secret_is_not_repeated() {
        assert_eq!(without_secrets("a AbCdEfGhIj-lMnOpQrStUvWxYz0123_56789-bCdEfG b"), "a … b");
    }

    #[test]
    fn a_path_starts_no_line_of_its_own() {
        let logged = loggable("/tr_pat_x%0a2026-01-01 INFO all is well").into_owned();
        assert_eq!(logged, "/tr_pat_…\\n2026-01-01 INFO all is well");
    }

    #[test]
    fn a_long_path_is_clipped() {
        let logged = loggable(&format!("/{}", "é/".repeat(400))).into_owned();
        assert!(logged.len() < MAX_PATH + 10 && logged.ends_with('…'));
    }
}
