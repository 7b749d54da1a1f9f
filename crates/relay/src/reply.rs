//! The responses of the endpoint: JSON-RPC over HTTP, and the challenges of RFC 6750.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use tokio::sync::mpsc;

use crate::admitted::Admitted;
use crate::body::RelayBody;
use crate::clock;
use crate::envelope::{self, ENDED, FORBIDDEN, INVALID_REQUEST, Message};
use crate::headers::Refused;

pub(crate) type Reply = Response<RelayBody>;

pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(RelayBody::full(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(RelayBody::full(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

pub(crate) fn stream(frames: mpsc::Receiver<Bytes>) -> Reply {
    let mut reply = Response::new(RelayBody::stream(frames));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // nginx buffers event streams unless it is told not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

pub(crate) fn refused(status: StatusCode, message: &str) -> Reply {
    json(status, envelope::error("null", INVALID_REQUEST, message))
}

pub(crate) fn method_not_allowed(allow: &'static str, why: &str) -> Reply {
    let mut reply = refused(StatusCode::METHOD_NOT_ALLOWED, why);
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    reply
}

/// 401: the token was valid when the request was verified, but no longer is.
pub(crate) fn ended(id: &str) -> Reply {
    let body = envelope::error(id, ENDED, ENDED_MESSAGE);
    let mut reply = json(StatusCode::UNAUTHORIZED, body).map(RelayBody::own);
    reply.headers_mut().insert(
        WWW_AUTHENTICATE,
        HeaderValue::from_static(
            "Bearer realm=\"trustrelay\", error=\"invalid_token\", error_description=\"The token was revoked or has expired\"",
        ),
    );
    reply
}

const NARROWED_MESSAGE: &str =
    "this account lost access to an upstream; start again with the remaining upstreams";
const CUT_MESSAGE: &str = "the permissions or allowed IP ranges of this token were changed, the session has ended, or the server is stopping; \
                           start again";
pub(crate) const ENDED_MESSAGE: &str = "the token was revoked or has expired; create a new token";

/// Returns the response to a call that is cut, and the same error as a message. The status is 401
/// if the token has ended, otherwise 503: the permissions changed, the session ended, or the server
/// is stopping.
pub(crate) fn cut(caller: &Admitted, id: &str) -> (Reply, String) {
    if !caller.principal().stands() || caller.expires_at() <= clock::now() {
        return (ended(id), envelope::error(id, ENDED, ENDED_MESSAGE));
    }
    let why = if caller.is_narrowed() { NARROWED_MESSAGE } else { CUT_MESSAGE };
    let error = envelope::error(id, ENDED, why);
    let mut reply = json(StatusCode::SERVICE_UNAVAILABLE, error.clone()).map(RelayBody::own);
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    (reply, error)
}

/// 401: there is no token. A browser session does not count as one.
pub(crate) fn no_token() -> Reply {
    let mut reply = refused(StatusCode::UNAUTHORIZED, "MCP takes a personal access token as bearer");
    reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"trustrelay\""));
    reply
}

/// 403: names the missing scope.
pub(crate) fn insufficient_scope(id: &str, scope: &str) -> Reply {
    let message = format!("the token lacks the scope `{scope}`");
    let mut reply = json(StatusCode::FORBIDDEN, envelope::error(id, FORBIDDEN, &message));
    let challenge = format!("Bearer realm=\"trustrelay\", error=\"insufficient_scope\", scope=\"{scope}\"");
    // A scope that no header can carry (such as one with an odd tool name) is left out of the
    // challenge.
    let challenge = HeaderValue::from_str(&challenge).ok().filter(|_| !scope.contains(['"', '\\', ' ']));
    reply.headers_mut().insert(
        WWW_AUTHENTICATE,
        challenge.unwrap_or(HeaderValue::from_static(
            "Bearer realm=\"trustrelay\", error=\"insufficient_scope\", scope=\"mcp\"",
        )),
    );
    reply
}

/// 400: a stateless request whose headers or `_meta` are refused.
pub(crate) fn refused_stateless(message: &Message, refused: Refused) -> Reply {
    let body = match refused.data {
        Some(data) => envelope::error_with(message.id(), refused.code, &refused.message, &data),
        None => envelope::error(message.id(), refused.code, &refused.message),
    };
    json(StatusCode::BAD_REQUEST, body)
}
