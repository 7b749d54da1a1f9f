//! The door of the MCP endpoint: a token, never a cookie; then the relay; and the gate before its
//! answers. No layer stands before it: this is the hot path.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use futures_util::FutureExt;
use http::header::{COOKIE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use tracing::{Instrument, Span};
use trustrelay_authority::{Allowance, By, OffLimits};
use trustrelay_guard::{TOKEN_EXPIRATION, expiration};
use trustrelay_relay::{Admitted, Elsewhere, continue_trace};

use crate::client::client;
use crate::credential::{check_host, user_agent, verified};
use crate::envelope::{REQUEST_ID, request_id};
use crate::error::ApiError;
use crate::gate::{Gateable, Gated, Passage, passage};
use crate::limits;
use crate::nodes::{Asked, ClocksApart, Lost, keep_if_carried};
use crate::refused::note_of_relay;
use crate::state::AppState;

/// `/mcp`: all upstreams.
pub(crate) async fn all(State(state): State<AppState>, request: Request) -> Response {
    let (id, span) = begun(&request);
    let answer = named(id.clone(), span, Box::pin(relay(&state, None, &id, request))).await;
    state.numbers.mcp.answered(answer.status());
    answer
}

/// `/mcp/NAME`: one of them.
pub(crate) async fn one(
    State(state): State<AppState>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // What is not UTF-8 is no upstream's name, and neither is the empty one: the relay says so to
    // who may ask.
    let name = name.map_or_else(|_| String::new(), |Path(name)| name);
    let (id, span) = begun(&request);
    let answer = named(id.clone(), span, Box::pin(relay(&state, Some(&name), &id, request))).await;
    state.numbers.mcp_one.answered(answer.status());
    answer
}

/// A request's id, and its span: a part of the client's trace, if it has one.
fn begun(request: &Request) -> (HeaderValue, Span) {
    let id = request_id(request.headers());
    let span = tracing::info_span!("mcp", id = id.to_str().unwrap_or_default());
    continue_trace(&span, request.headers());
    (id, span)
}

/// Gives the work on a request its id: what is logged on its way carries it, and so does the
/// answer, also if it panics. The work comes in a box: it is large, and would be moved with all
/// that is put around it.
async fn named(id: HeaderValue, span: Span, work: impl Future<Output = Response>) -> Response {
    let answered = async {
        AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("the relay panicked");
            ApiError::internal().into_json_rpc()
        })
    };
    let mut answer = answered.instrument(span).await;
    answer.headers_mut().insert(REQUEST_ID, id);
    answer
}

async fn relay(state: &AppState, upstream: Option<&str>, id: &HeaderValue, mut request: Request) -> Response {
    if let Err(error) = check_host(request.version(), request.headers()) {
        return error.into_json_rpc();
    }
    // Before the credential is taken out: it goes along to the node that the request belongs to.
    let nodes = state.config.nodes.as_ref().map(|nodes| (nodes, Asked::of(&request, id)));
    keep_if_carried(state, &mut request);
    let client = client(state, request.extensions(), request.headers());
    let principal = match verified(state, request.headers_mut(), client.address).await {
        Ok(principal) => principal,
        Err(refusal) => return ApiError::from(refusal).into_json_rpc(),
    };
    let expires = expiration(&principal);
    let allowance = match limits::hold(state, &principal, &client) {
        Ok(allowance) => allowance,
        Err(OffLimits::Network { .. } | OffLimits::Policy { .. })
            if request.extensions().get::<ClocksApart>().is_some() =>
        {
            return told(ApiError::clocks_apart().into_json_rpc(), expires, None);
        }
        Err(off) => return told(limits::refused(off), expires, None),
    };
    let caller = Admitted::new(principal, client.address.filter(|_| !client.is_hidden));
    request.headers_mut().remove(COOKIE);
    state.authority.note_use(caller.principal(), client.address, user_agent(request.headers()));
    let mut answer = state.relay.handle(caller.clone(), upstream, request).await;
    if let Some(to) = answer.extensions_mut().remove::<Elsewhere>()
        && let Some((nodes, asked)) = nodes
    {
        // In a box: what is rare is not carried about with every request.
        answer = match Box::pin(nodes.carry(&asked, &client, state.authority.shared_now(), &to)).await {
            Ok(answer) => return vouched_for(state, &caller, answer).await,
            Err(Lost::Unreached) => {
                Box::pin(state.relay.handle(caller.clone(), upstream, asked.here(to.body))).await
            }
            Err(Lost::Unsure) => to.unsure(),
        };
    }
    if answer.status() == StatusCode::FORBIDDEN {
        note_of_relay(state, &By::new(Arc::clone(caller.principal()), client.address), &answer);
    }
    told(vouched_for(state, &caller, answer).await, expires, allowance)
}

/// An answer with what is to be said of the token.
fn told(mut answer: Response, expires: Option<HeaderValue>, allowance: Option<Allowance>) -> Response {
    if let Some(expires) = expires {
        answer.headers_mut().insert(TOKEN_EXPIRATION, expires);
    }
    if let Some(allowance) = allowance {
        limits::tell(answer.headers_mut(), &allowance);
    }
    answer
}

/// The answer, as soon as this node can vouch for it; and what comes of its body, then.
async fn vouched_for<B: Gateable>(
    state: &AppState,
    caller: &Admitted,
    answer: http::Response<B>,
) -> Response {
    // That the token is refused, or what it had open was cut, may be said whatever has become of
    // it.
    let is_refused =
        answer.status() == StatusCode::UNAUTHORIZED && answer.headers().contains_key(WWW_AUTHENTICATE);
    if is_refused || answer.body().has_said_its_last_word() {
        return answer.map(Body::new);
    }
    match passage(&*state.authority, caller).await {
        Passage::Open => {
            let lease = Arc::clone(&state.authority);
            answer.map(|body| Body::new(Gated::new(body, lease, caller.clone())))
        }
        Passage::Cut => state.relay.cut_answer(caller).map(Body::new),
        Passage::Late => ApiError::unvouched().into_json_rpc(),
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_answered_for_under_its_id() {
        let answer =
            named(HeaderValue::from_static("an-id"), Span::none(), async { panic!("on purpose") }).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()[REQUEST_ID], "an-id");
        let answer =
            named(HeaderValue::from_static("an-id"), Span::none(), async { StatusCode::OK.into_response() })
                .await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[REQUEST_ID], "an-id");
    }
}
