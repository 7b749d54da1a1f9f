//! Puts the routes, the limits and what all answers share together.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use tower_http::catch_panic::CatchPanicLayer;

use crate::envelope::envelope;
use crate::error::ApiError;
use crate::routes::{Door, HEALTH_CHECKS, METRICS, Route, routes};
use crate::state::AppState;
use crate::{oauth, pages};

/// Everything that TrustRelay answers; without `/metrics`, if that is served at an address of its
/// own.
pub fn router(state: AppState) -> Router {
    let mut routes = routes();
    if state.config.metrics_elsewhere {
        routes.retain(|route| route.path != METRICS);
    }
    serving(routes, state)
}

/// `/metrics` and the health checks alone, for an address that only operators reach.
pub fn ops_router(state: AppState) -> Router {
    let mut routes = routes();
    routes.retain(|route| route.path == METRICS || HEALTH_CHECKS.contains(&route.path));
    serving(routes, state)
}

fn serving(routes: Vec<Route>, state: AppState) -> Router {
    let (mut rest, mut oauth) = (Router::new(), Router::new());
    let (mut pages, mut mcp) = (Router::new(), Router::new());
    for route in routes {
        let (door, path) = (route.door, route.path);
        // A path that has the method never comes to its fallback.
        let allow = route.allow();
        let other_method = move || async move { door.error(ApiError::method_not_allowed(&allow)) };
        match door {
            Door::Rest => rest = rest.route(path, route.handlers.fallback(other_method)),
            Door::OAuth => oauth = oauth.route(path, route.handlers.fallback(other_method)),
            Door::Page => pages = pages.route(path, route.handlers.fallback(other_method)),
            Door::Mcp => mcp = mcp.route(path, route.handlers),
        }
    }
    let answered = caught(rest, Door::Rest)
        .merge(caught(oauth, Door::OAuth))
        .merge(caught(pages, Door::Page))
        .fallback(fallback)
        .layer(middleware::from_fn_with_state(state.clone(), envelope));
    // Streams come by `mcp`: no layer, no time limit, no body limit but the relay's own.
    mcp.merge(answered).with_state(state)
}

/// A handler that panics costs its own request, and is answered for.
fn caught<S: Clone + Send + Sync + 'static>(router: Router<S>, door: Door) -> Router<S> {
    router.layer(CatchPanicLayer::custom(move |_: Box<dyn std::any::Any + Send>| {
        tracing::error!("a handler panicked");
        door.error(ApiError::internal())
    }))
}

async fn fallback(request: Request) -> Response {
    let path = request.uri().path();
    // A client's configured token would lose against what it finds there, so it finds nothing,
    // plainly.
    if path.starts_with("/.well-known/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Some(answer) = oauth::turned_away(path) {
        return answer;
    }
    if !path.starts_with("/api/") && is_browser(request.headers()) {
        return pages::not_found().into_response();
    }
    ApiError::not_found().into_response()
}

/// Whether pages are asked for: browsers name HTML, programs do not.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use http::header::CONTENT_TYPE;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn panics() {
        panic!("on purpose, with a secret in it: tr_pat_x");
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_for_in_the_shape_of_its_door() {
        for (door, kind) in [(Door::Rest, "application/json"), (Door::Page, "text/html; charset=utf-8")] {
            let router = caught(Router::new().route("/", get(panics)), door);
            let answer = router.oneshot(Request::new(Body::empty())).await.expect("infallible");
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(answer.headers()[CONTENT_TYPE], kind);
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!(text.contains("x-request-id") && !text.contains("on purpose"), "{text}");
        }
    }
}
