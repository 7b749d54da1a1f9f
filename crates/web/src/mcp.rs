//! The door of the MCP endpoint: a token, never a cookie; then the relay.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use trustrelay_guard::{Refusal, TOKEN_EXPIRATION, bearer, expiration};
use trustrelay_token::Verifier;

use crate::credential::{address, user_agent};
use crate::error::REALM;
use crate::state::AppState;

/// `/mcp`: all upstreams.
pub(crate) async fn all(State(state): State<AppState>, request: Request) -> Response {
    relay(state, None, request).await
}

/// `/mcp/NAME`: one of them.
pub(crate) async fn one(
    State(state): State<AppState>,
    axum::extract::Path(name): axum::extract::Path<String>,
    request: Request,
) -> Response {
    relay(state, Some(name), request).await
}

async fn relay(state: AppState, upstream: Option<String>, mut request: Request) -> Response {
    let found = bearer(request.headers());
    // Nothing behind this line can forward it.
    request.headers_mut().remove(http::header::AUTHORIZATION);
    request.headers_mut().remove(http::header::COOKIE);
    let verified = match found {
        Ok(Some(token)) => state.authority.verify(token).wait().await.map_err(Refusal::Denied),
        Ok(None) => Err(Refusal::Missing),
        Err(bad) => Err(Refusal::Bad(bad)),
    };
    let principal = match verified {
        Ok(principal) => principal,
        Err(refusal) => return refusal.response::<Body>(REALM),
    };
    let (parts, body) = request.into_parts();
    state.authority.note_use(&principal, address(&parts), user_agent(&parts.headers));
    let expires = expiration(&principal);
    let request = Request::from_parts(parts, body);
    let answer = state.relay.handle(Arc::clone(&principal), upstream.as_deref(), request).await;
    let mut answer = answer.map(Body::new);
    if let Some(expires) = expires {
        answer.headers_mut().insert(TOKEN_EXPIRATION, expires);
    }
    answer
}
