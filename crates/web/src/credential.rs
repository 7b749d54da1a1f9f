//! Who makes a request: a token in the `Authorization` header, or else the browser's session
//! cookie.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use cookie::Cookie;
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, USER_AGENT};
use http::request::Parts;
use http::uri::Authority as HostAndPort;
use http::{HeaderMap, HeaderName, StatusCode, Version};
use trustrelay_authority::{Actor, By, OffLimits};
use trustrelay_guard::{Refusal, bearer};
use trustrelay_token::Principal;

use crate::asker::Asker;
use crate::client::client;
use crate::error::ApiError;
use crate::limits;
use crate::state::AppState;

pub(crate) const SESSION_COOKIE: &str = "session";
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Takes the token out of the headers, so that nothing behind this can forward it, and has it
/// judged.
pub(crate) async fn verified(
    state: &AppState,
    headers: &mut HeaderMap,
    from: Option<IpAddr>,
) -> Result<Arc<Principal>, Refusal> {
    let found = bearer(headers);
    headers.remove(AUTHORIZATION);
    let outcome = match found {
        Ok(Some(token)) => state.authority.verify_from(token, from).wait().await.map_err(Refusal::Denied),
        Ok(None) => Err(Refusal::Missing),
        Err(bad) => Err(Refusal::Bad(bad)),
    };
    state.numbers.verified(&outcome);
    outcome
}

/// The caller of the REST API.
pub(crate) struct Caller(pub(crate) By);

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        // With an Authorization header the cookie is not looked at, even if the token is bad.
        if parts.headers.contains_key(AUTHORIZATION) {
            let client = client(state, &parts.extensions, &parts.headers);
            let principal = verified(state, &mut parts.headers, client.address).await?;
            let by = By::new(principal, client.address);
            note(parts, &by);
            let held = limits::hold(state, &by.principal, &client);
            let allowance = held.as_ref().map_or_else(OffLimits::allowance, Option::as_ref);
            if let (Some(asker), Some(allowance)) = (parts.extensions.get::<Asker>(), allowance) {
                asker.may(*allowance);
            }
            held?;
            state.authority.note_use(&by, client.address, user_agent(&parts.headers));
            return Ok(Self(by));
        }
        let Browser { by, .. } = Browser::from_request_parts(parts, state).await?;
        Ok(Self(by))
    }
}

/// Tells the envelope who asks.
fn note(parts: &Parts, by: &By) {
    if let Some(asker) = parts.extensions.get::<Asker>() {
        asker.note(by);
    }
}

/// A signed-in browser.
pub(crate) struct Browser {
    pub(crate) by: By,
    pub(crate) cookie: String,
}

impl FromRequestParts<AppState> for Browser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let cookie = the_session(&parts.headers)?;
        if !parts.method.is_safe() {
            check_origin(parts, state)?;
        }
        let address = client(state, &parts.extensions, &parts.headers).address;
        let by = state.authority.authenticate_browser(&cookie, address).await?.ok_or(Refusal::Missing)?;
        note(parts, &by);
        Ok(Self { by, cookie })
    }
}

/// The one session cookie. A neighbouring host can plant a second one beside it, and which of them
/// the browser sends first is the neighbour's choice: so several different ones are none.
fn the_session(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut cookies = session_cookies(headers);
    cookies.dedup();
    match (cookies.pop(), cookies.is_empty()) {
        (None, _) => Err(Refusal::Missing.into()),
        (Some(cookie), true) => Ok(cookie),
        (Some(_), false) => {
            let message = "there are several different `session` cookies; \
                           delete the cookies of this site and sign in again";
            Err(ApiError::bad_request(message))
        }
    }
}

/// The session cookies of a request: one, as a rule.
pub(crate) fn session_cookies(headers: &HeaderMap) -> Vec<String> {
    cookies(headers, SESSION_COOKIE)
}

/// The cookies of a name.
pub(crate) fn cookies(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| Cookie::split_parse(value.to_owned()))
        .filter_map(Result::ok)
        .filter(|cookie| cookie.name() == name)
        .map(|cookie| cookie.value().to_owned())
        .collect()
}

/// A change that no other site has asked a browser for. What comes with a session is checked by
/// [`Browser`]; this is for what needs none, such as signing in.
pub(crate) struct SameOrigin;

impl FromRequestParts<AppState> for SameOrigin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        check_origin(parts, state).map(|()| Self)
    }
}

/// Refuses a change that another site makes a browser send. Browsers say where a request comes
/// from; where neither header is there it is no browser, and has the cookie of its own accord.
fn check_origin(parts: &Parts, state: &AppState) -> Result<(), ApiError> {
    let headers = &parts.headers;
    let same = match (headers.get(FETCH_SITE), headers.get(ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, None) => true,
        (None, Some(origin)) => origin.to_str().is_ok_and(|origin| is_ours(origin, parts, state)),
    };
    if same {
        return Ok(());
    }
    let from = Actor::anonymous(client(state, &parts.extensions, headers).address);
    state.authority.note_refusal("refused.cross_origin", from, None, None, &[]);
    let message = "this request came from another site, and browser sessions accept requests from their own site only; \
                   use a token (if this is the right site, correct the server's --public-url)";
    Err(ApiError::new(StatusCode::FORBIDDEN, "cross_origin", message))
}

/// The whole origin counts: the public one if there is a public URL, or else the scheme and the
/// host that this request came by. A page of the same host by plain HTTP is not ours if people come
/// by https, since anybody on the network can write it.
fn is_ours(origin: &str, parts: &Parts, state: &AppState) -> bool {
    if let Some(url) = &state.config.public_url {
        return url.origin().ascii_serialization().eq_ignore_ascii_case(origin);
    }
    // HTTP/1.1 names no scheme: the server itself speaks plain HTTP.
    let scheme = parts.uri.scheme_str().unwrap_or("http");
    let (Some((theirs, host)), Some(ours)) = (origin.split_once("://"), host_of(parts)) else { return false };
    theirs.eq_ignore_ascii_case(scheme) && host.eq_ignore_ascii_case(ours)
}

/// Refuses more than one `Host`, and in HTTP/1.1 none at all (RFC 9112 §3.2): two readers could
/// take such a request for different hosts. HTTP/2 has `:authority` in its place.
pub(crate) fn check_host(version: Version, headers: &HeaderMap) -> Result<(), ApiError> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => Ok(()),
        (None, _) if version != Version::HTTP_11 => Ok(()),
        (None, _) => Err(ApiError::bad_request("there is no `Host` header; HTTP/1.1 requires one")),
        (Some(_), Some(_)) => Err(ApiError::bad_request("there is more than one `Host` header; send one")),
    }
}

/// The host that was asked: `Host`, or in HTTP/2 `:authority`.
pub(crate) fn host_of(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| parts.uri.authority().map(HostAndPort::as_str)).filter(|host| !host.is_empty())
}

pub(crate) fn user_agent(headers: &HeaderMap) -> Option<&str> {
    headers.get(USER_AGENT).and_then(|value| value.to_str().ok())
}

/// Where a request comes from, for handlers.
pub(crate) struct From(pub(crate) Option<IpAddr>);

impl FromRequestParts<AppState> for From {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        Ok(Self(client(state, &parts.extensions, &parts.headers).address))
    }
}
