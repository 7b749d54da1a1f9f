//! All routes, one line each.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Router, middleware};
use http::StatusCode;
use tower_http::catch_panic::CatchPanicLayer;

use crate::api::{auth, pats, user};
use crate::envelope::envelope;
use crate::error::ApiError;
use crate::state::AppState;
use crate::{mcp, openapi, ops, pages};

/// A route that answers other methods with 405 and says which it has.
macro_rules! only {
    ($allow:literal, $route:expr) => {
        $route.fallback(|| async { ApiError::method_not_allowed($allow) })
    };
}

/// Everything that TrustRelay answers.
pub fn router(state: AppState) -> Router {
    let pats = "/api/user/personal-access-tokens";
    let answered = Router::new()
        .route("/api/auth/login", only!("POST", post(auth::login::handle)))
        .route("/api/auth/logout", only!("POST", post(auth::logout::handle)))
        .route("/api/auth/verify", only!("POST", post(auth::verify::handle)))
        .route("/api/user", only!("GET, HEAD", get(user::handle)))
        .route(pats, only!("GET, HEAD, POST", get(pats::list::handle).post(pats::create::handle)))
        .route(
            &format!("{pats}/{{pat_id}}"),
            only!("GET, HEAD, DELETE", get(pats::get::handle).delete(pats::revoke::handle)),
        )
        .route("/api/openapi.json", only!("GET, HEAD", get(openapi::handle)))
        .route("/healthz", only!("GET, HEAD", get(ops::healthz)))
        .route("/readyz", only!("GET, HEAD", get(ops::readyz)))
        .route("/metrics", only!("GET, HEAD", get(ops::metrics)))
        .merge(pages::router())
        .fallback(fallback)
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            tracing::error!("a handler panicked");
            ApiError::internal().into_response()
        }))
        .layer(middleware::from_fn(crate::pat_header::pat_header))
        .layer(middleware::from_fn(envelope));
    // Streams come this way: no time limit, no body limit but the relay's own.
    Router::new()
        .route("/mcp", any(mcp::all))
        .route("/api/mcp", any(mcp::all))
        .route("/mcp/{name}", any(mcp::one))
        .route("/api/mcp/{name}", any(mcp::one))
        .merge(answered)
        .with_state(state)
}

async fn fallback(request: Request) -> Response {
    let path = request.uri().path();
    // A client's configured token would lose against what it finds there, so it finds nothing, plainly.
    if path.starts_with("/.well-known/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    if path.starts_with("/api/") {
        return ApiError::not_found().into_response();
    }
    pages::not_found().into_response()
}
