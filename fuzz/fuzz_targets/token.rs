//! No bytes make the parser panic, and a parsed token is exactly the bytes that were given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trustrelay_token::{ScopeSet, Token};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = Token::from_bytes(bytes) {
        assert_eq!(token.expose().as_bytes(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(scopes) = text.parse::<ScopeSet>()
    {
        assert_eq!(scopes.to_string().parse::<ScopeSet>(), Ok(scopes));
    }
});
