//! `/login` and `/logout`.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::HeaderMap;
use http::header::SET_COOKIE;
use maud::{Markup, html};
use serde::Deserialize;

use crate::api::auth::login::{no_cookie, session_cookie};
use crate::body::{Filled, Sent};
use crate::credential::{From, SameOrigin, session_cookies};
use crate::error::ApiError;
use crate::extract::{Asked, OnPage};
use crate::pages::{failed, layout};
use crate::state::AppState;

#[derive(Deserialize)]
pub(crate) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(crate) struct SignIn {
    email: String,
    password: String,
    #[serde(default)]
    next: String,
}

fn page(email: &str, next: &str, problem: Option<&str>) -> Markup {
    layout::plain(
        "Sign in",
        html! {
            h1 { "Sign in" }
            (layout::problem(problem, &[]))
            form.stack method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label { "Email" input type="email" name="email" value=(email) autocomplete="username" required autofocus[email.is_empty()]; }
                label { "Password" input type="password" name="password" autocomplete="current-password" required autofocus[!email.is_empty()]; }
                button type="submit" { "Sign in" }
            }
        },
    )
}

pub(crate) async fn show(Asked(Next { next }): Asked<Next>) -> Markup {
    page("", &next, None)
}

pub(crate) async fn submit(
    State(state): State<AppState>,
    From(address): From,
    Sent(_, Filled(form)): Sent<OnPage<SameOrigin>, Filled<SignIn>>,
) -> Response {
    match state.login(&form.email, form.password, address).await {
        Ok((secret, expires_at)) => match session_cookie(&state, &secret, expires_at) {
            Ok(cookie) => ([(SET_COOKIE, cookie)], Redirect::to(local(&form.next))).into_response(),
            Err(error) => failed(error),
        },
        Err(error) => {
            let error = ApiError::from(error);
            let page = page(&form.email, &form.next, Some(error.message()));
            error.with_body(page)
        }
    }
}

/// Only a path of our own: a link to the sign-in page must not lead elsewhere.
fn local(next: &str) -> &str {
    let is_ours =
        next.starts_with("/settings/") && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours { next } else { "/settings/developer" }
}

pub(crate) async fn sign_out(
    State(state): State<AppState>,
    From(address): From,
    OnPage(_): OnPage<SameOrigin>,
    headers: HeaderMap,
) -> Response {
    for cookie in session_cookies(&headers) {
        if let Err(error) = state.authority.logout(&cookie, address).await {
            return failed(error.into());
        }
    }
    match no_cookie(&state) {
        Ok(cookie) => ([(SET_COOKIE, cookie)], Redirect::to("/login")).into_response(),
        Err(error) => failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_nowhere_else() {
        assert_eq!(local("/settings/profile"), "/settings/profile");
        for elsewhere in
            ["", "https://evil.example", "//evil.example", "/\\evil.example", "/settings/\\x", "javascript:x"]
        {
            assert_eq!(local(elsewhere), "/settings/developer", "{elsewhere}");
        }
    }

    #[test]
    fn a_hostile_address_stays_text() {
        let page = page("\"><script>x</script>", "\"><b>", Some("<i>no</i>")).into_string();
        assert!(!page.contains("<script>x") && !page.contains("<b>") && !page.contains("<i>no"));
    }
}
