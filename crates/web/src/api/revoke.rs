//! `POST /api/revoke`: whoever holds a token may revoke it (RFC 7009).

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;

use crate::body::form;
use crate::credential::From;
use crate::error::ApiError;
use crate::oauth;
use crate::state::AppState;
use crate::written::Written;

/// What else comes with it is ignored (RFC 6749 §3.1), the hint as well: there is one type of
/// token.
#[derive(Deserialize)]
struct Revocation {
    token: Option<Written>,
}

pub(crate) async fn handle(State(state): State<AppState>, From(address): From, request: Request) -> Response {
    let revoked = async {
        let Revocation { token } = form(request, &state).await?;
        // A parameter without a value is one that was left out (RFC 6749 §3.1).
        let Some(written) = token.filter(|written| !written.is_empty) else {
            return Err(ApiError::bad_request("`token` is missing; send the token to revoke"));
        };
        Ok(state.authority.revoke_held(written.token, address).await?)
    };
    match revoked.await {
        // The same, whether or not it existed (RFC 7009 §2.2).
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => oauth::failed(error),
    }
}
