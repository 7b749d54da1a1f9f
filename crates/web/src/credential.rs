//! Who makes a request: a token in the `Authorization` header, or else the browser's session cookie.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use cookie::Cookie;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use trustrelay_guard::{Refusal, bearer};
use trustrelay_token::{Principal, Verifier};

use crate::error::ApiError;
use crate::pat_header::Expiry;
use crate::state::AppState;

pub(crate) const SESSION_COOKIE: &str = "session";

/// The caller of the REST API.
pub(crate) struct Caller(pub(crate) Arc<Principal>);

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        // With an Authorization header the cookie is not looked at, even if the token is bad.
        if parts.headers.contains_key(AUTHORIZATION) {
            let found = bearer(&parts.headers);
            parts.headers.remove(AUTHORIZATION);
            let token = found.map_err(Refusal::Bad)?.ok_or(Refusal::Missing)?;
            let principal = state.authority.verify(token).wait().await.map_err(Refusal::Denied)?;
            state.authority.note_use(&principal, address(parts), user_agent(&parts.headers));
            if let Some(expiry) = parts.extensions.get::<Expiry>() {
                expiry.note(&principal);
            }
            return Ok(Self(principal));
        }
        let Browser { principal, .. } = Browser::from_request_parts(parts, state).await?;
        Ok(Self(principal))
    }
}

/// A signed-in browser.
pub(crate) struct Browser {
    pub(crate) principal: Arc<Principal>,
    pub(crate) cookie: String,
}

impl FromRequestParts<AppState> for Browser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let cookie = session_cookie(&parts.headers).ok_or(Refusal::Missing)?;
        if !parts.method.is_safe() {
            check_origin(&parts.headers, state)?;
        }
        let principal = state.authority.authenticate_session(&cookie).await?;
        let principal = Arc::new(principal.ok_or(Refusal::Missing)?);
        Ok(Self { principal, cookie })
    }
}

pub(crate) fn session_cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| Cookie::split_parse(value.to_owned()))
        .filter_map(Result::ok)
        .find(|cookie| cookie.name() == SESSION_COOKIE)
        .map(|cookie| cookie.value().to_owned())
}

/// Refuses a change that another site makes a browser send. Browsers say where a request comes from; where neither
/// header is there it is no browser, and has the cookie of its own accord.
pub(crate) fn check_origin(headers: &HeaderMap, state: &AppState) -> Result<(), ApiError> {
    let text = |name: http::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    let same = match (site, text(ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, None) => !headers.contains_key(ORIGIN),
        (None, Some(origin)) => {
            let public = state.config.public_url.as_ref().map(|url| url.origin().ascii_serialization());
            let host = text(HOST).unwrap_or_default();
            let from = origin.split_once("://").map_or("", |(_, host)| host);
            public.as_deref() == Some(origin) || (!host.is_empty() && from.eq_ignore_ascii_case(host))
        }
    };
    if same {
        return Ok(());
    }
    let message =
        "this change was asked for by another site, and a browser session only serves its own; use a token";
    Err(ApiError::new(StatusCode::FORBIDDEN, "cross_origin", message))
}

/// Where a request comes from.
pub(crate) fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

pub(crate) fn user_agent(headers: &HeaderMap) -> Option<&str> {
    headers.get(USER_AGENT).and_then(|value| value.to_str().ok())
}

/// Where a request comes from, for handlers.
pub(crate) struct From(pub(crate) Option<IpAddr>);

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(address(parts)))
    }
}
