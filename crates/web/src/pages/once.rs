//! What is shown once: a secret that a form has made.
//!
//! The form answers with a redirect, and the page that it leads to shows the secret. Loaded again,
//! that page shows it no more, and no form is sent a second time. On the way from one to the other
//! the browser holds the secret: in a cookie for that page, for a minute, sealed with a key that
//! comes from its session. So every node can open it; it opens on no other page and in no other
//! session; and what somebody else plants there does not open.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use http::header::SET_COOKIE;
use http::request::Parts;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::credential::{Browser, cookies};
use crate::error::ApiError;
use crate::pages::failed;
use crate::state::AppState;

const COOKIE: &str = "once";
/// For how long, in seconds: a redirect takes one.
const FRESH: i64 = 60;

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    at: i64,
    shown: T,
}

/// Leads to a page that shows something, once. `path`: as the page itself calls it.
pub(super) fn lead_to<T: Serialize>(state: &AppState, browser: &Browser, path: &str, shown: T) -> Response {
    let sealed = seal(&browser.cookie, path, state.authority.clock().now(), shown);
    match sealed.and_then(|sealed| header(state, path, sealed, FRESH)) {
        Some(cookie) => ([(SET_COOKIE, cookie)], Redirect::to(path)).into_response(),
        None => failed(ApiError::internal()),
    }
}

/// What a form has handed to the page that is asked for, if it has.
pub(crate) struct Once(Vec<String>);

impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(cookies(&parts.headers, COOKIE)))
    }
}

impl Once {
    /// What is to be shown. There may be cookies of pages above, which do not open here.
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        state: &AppState,
        browser: &Browser,
        path: &str,
    ) -> Option<T> {
        let now = state.authority.clock().now();
        self.0.iter().find_map(|cookie| open(&browser.cookie, path, now, cookie))
    }

    /// The page, with which the cookie goes. If the page failed it stays, so that nothing is lost
    /// by that.
    pub(super) fn over(self, state: &AppState, path: &str, mut page: Response) -> Response {
        if !self.0.is_empty()
            && page.status().is_success()
            && let Some(gone) = header(state, path, String::new(), 0)
        {
            page.headers_mut().append(SET_COOKIE, gone);
        }
        page
    }
}

/// The page alone may read it, and no script may. It goes with nothing that another site asks for.
fn header(state: &AppState, path: &str, value: String, age: i64) -> Option<HeaderValue> {
    let cookie = Cookie::build((COOKIE, value))
        .http_only(true)
        .same_site(SameSite::Strict)
        .path(path)
        .secure(state.config.secure_cookies)
        .max_age(cookie::time::Duration::seconds(age))
        .build();
    let mut header = HeaderValue::from_str(&cookie.to_string()).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The session's secret is 32 random bytes as text; HMAC makes a key of them, as HKDF's first step
/// does (RFC 5869 §2.2).
fn cipher(session: &str) -> Option<RandomizedNonceKey> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(b"trustrelay shown once v1").ok()?;
    mac.update(session.as_bytes());
    RandomizedNonceKey::new(&AES_256_GCM_SIV, &mac.finalize().into_bytes()).ok()
}

/// `None` if the system has no randomness.
fn seal<T: Serialize>(session: &str, path: &str, now: Timestamp, shown: T) -> Option<String> {
    let mut sealed = serde_json::to_vec(&Sealed { at: now.as_second(), shown }).ok()?;
    let nonce = cipher(session)?.seal_in_place_append_tag(Aad::from(path), &mut sealed).ok()?;
    Some(URL_SAFE_NO_PAD.encode([&nonce.as_ref()[..], &sealed].concat()))
}

fn open<T: DeserializeOwned>(session: &str, path: &str, now: Timestamp, text: &str) -> Option<T> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
    let plain = cipher(session)?.open_in_place(Nonce::from(&*nonce), Aad::from(path), sealed).ok()?;
    let Sealed { at, shown } = serde_json::from_slice(plain).ok()?;
    // Another node's clock may be ahead.
    (now.as_second().abs_diff(at) <= FRESH.unsigned_abs()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const PATH: &str = "/settings/developer";

    fn sealed() -> String {
        seal("a session", PATH, NOW, "the secret").expect("random")
    }

    #[test]
    fn it_opens_on_its_page_and_in_its_session_alone() {
        let sealed = sealed();
        assert!(!sealed.contains("secret"));
        assert_eq!(open::<String>("a session", PATH, NOW, &sealed).as_deref(), Some("the secret"));
        for (session, path) in [("another", PATH), ("", PATH), ("a session", "/admin/people")] {
            assert_eq!(open::<String>(session, path, NOW, &sealed), None, "{session} {path}");
        }
    }

    #[test]
    fn it_opens_for_a_minute() {
        for (seconds, opens) in [(0, true), (60, true), (-60, true), (61, false), (-61, false)] {
            let then = NOW + SignedDuration::from_secs(seconds);
            assert_eq!(open::<String>("a session", PATH, then, &sealed()).is_some(), opens, "{seconds}");
        }
    }

    #[test]
    fn what_was_altered_or_made_up_does_not_open() {
        let bytes = URL_SAFE_NO_PAD.decode(sealed()).expect("base64");
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let altered = URL_SAFE_NO_PAD.encode(altered);
            assert_eq!(open::<String>("a session", PATH, NOW, &altered), None, "{at}");
        }
        for nonsense in ["", "x", "####", &"A".repeat(4000)] {
            assert_eq!(open::<String>("a session", PATH, NOW, nonsense), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn nothing_opens_but_what_was_sealed(text in "[A-Za-z0-9_=-]{0,120}", at: usize, bit in 0..8_u8, age in -200_i64..200) {
            prop_assert_eq!(open::<String>("a session", PATH, NOW, &text), None);
            let sealed = sealed();
            let later = NOW + SignedDuration::from_secs(age);
            let opened = open::<String>("a session", PATH, later, &sealed);
            prop_assert_eq!(opened.is_some(), age.abs() <= FRESH);
            let mut bytes = URL_SAFE_NO_PAD.decode(&sealed).expect("base64");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(open::<String>("a session", PATH, NOW, &URL_SAFE_NO_PAD.encode(&bytes)), None);
            bytes.truncate(at);
            prop_assert_eq!(open::<String>("a session", PATH, NOW, &URL_SAFE_NO_PAD.encode(&bytes)), None);
        }
    }
}
