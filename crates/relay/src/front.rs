//! The door: everything that is decided from HTTP alone, then on to `/mcp` or `/mcp/NAME`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::mpsc;
use trustrelay_token::Principal;
use uuid::Uuid;

use crate::body::BoxError;
use crate::envelope::{self, INVALID_REQUEST, Message, PARSE_ERROR};
use crate::registry::Kind;
use crate::relay::Relay;
use crate::reply::{self, Reply};
use crate::session::{Session, keep_alive};
use crate::upstream::{SESSION, Upstream, VERSION};
use crate::{aggregate, clock, single};

/// Newest first: what `initialize` offers when the client's is unknown.
pub(crate) const VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// A judged request, ready for its endpoint.
pub(crate) struct Context {
    pub(crate) relay: Relay,
    pub(crate) principal: Arc<Principal>,
    pub(crate) pat_id: Uuid,
    /// `Some` on `/mcp/NAME`.
    pub(crate) upstream: Option<Arc<Upstream>>,
}

pub(crate) async fn handle<B>(
    relay: &Relay,
    principal: Arc<Principal>,
    upstream: Option<&str>,
    request: Request<B>,
) -> Reply
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Some(pat_id) = principal.pat_id() else { return reply::no_token() };
    if !principal.stands() || principal.expires_at() <= clock::now() {
        return reply::ended("null");
    }
    if !principal.scopes.allows_any_mcp() {
        return reply::insufficient_scope("null", "mcp");
    }
    let (parts, body) = request.into_parts();
    if !origin_is_good(&parts.headers, relay.0.public_origin.as_deref()) {
        return reply::refused(StatusCode::FORBIDDEN, "this Origin may not use the endpoint");
    }
    let upstream = match upstream {
        None => None,
        Some(name) => match relay.upstream(name) {
            None => return reply::refused(StatusCode::NOT_FOUND, "there is no upstream of this name"),
            Some(_) if !principal.scopes.touches_upstream(name) => {
                return reply::insufficient_scope("null", &format!("mcp:{name}"));
            }
            Some(upstream) => Some(Arc::clone(upstream)),
        },
    };
    let version = parts.headers.get(VERSION);
    if version.is_some_and(|v| !VERSIONS.iter().any(|known| v == known)) {
        let message = format!("unknown MCP-Protocol-Version; known are {}", VERSIONS.join(", "));
        return reply::refused(StatusCode::BAD_REQUEST, &message);
    }
    let context = Context { relay: relay.clone(), principal, pat_id, upstream };
    match parts.method {
        Method::POST => context.post(&parts.headers, body).await,
        Method::GET => context.get(&parts.headers),
        Method::DELETE => match context.session(&parts.headers) {
            Ok(session) => {
                session.entry.cancel.cancel();
                reply::empty(StatusCode::NO_CONTENT)
            }
            Err(refusal) => *refusal,
        },
        _ => reply::method_not_allowed(),
    }
}

/// Absent (no browser), loopback, the public origin, or the host that was asked.
fn origin_is_good(headers: &HeaderMap, public: Option<&str>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Some(origin) = origin.to_str().ok() else { return false };
    let Ok(url) = url::Url::parse(origin) else { return false };
    let Some(host) = url.host_str() else { return false };
    if matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
        return true;
    }
    if public.is_some_and(|public| public.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let asked = headers.get(HOST).and_then(|h| h.to_str().ok());
    origin.split_once("://").is_some_and(|(_, rest)| asked.is_some_and(|a| a.eq_ignore_ascii_case(rest)))
}

fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let family = wanted.split('/').next().unwrap_or_default();
    headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        kind == wanted || kind == "*/*" || kind == format!("{family}/*")
    })
}

impl Context {
    fn session(&self, headers: &HeaderMap) -> Result<Arc<Session>, Box<Reply>> {
        let Some(id) = headers.get(SESSION) else {
            let message = "Mcp-Session-Id is missing; send initialize first";
            return Err(Box::new(reply::refused(StatusCode::BAD_REQUEST, message)));
        };
        let only = self.upstream.as_ref().map(|upstream| upstream.name.as_str());
        let session = id.to_str().ok().and_then(|id| self.relay.session(id, self.pat_id, only));
        session.ok_or_else(|| {
            Box::new(reply::refused(StatusCode::NOT_FOUND, "no such session; send initialize again"))
        })
    }

    fn get(&self, headers: &HeaderMap) -> Reply {
        if !accepts(headers, "text/event-stream") {
            return reply::refused(StatusCode::NOT_ACCEPTABLE, "Accept must include text/event-stream");
        }
        let session = match self.session(headers) {
            Ok(session) => session,
            Err(refusal) => return *refusal,
        };
        let entry = self.relay.0.registry.register(&self.principal, self.pat_id, Kind::Stream);
        if !self.principal.stands() {
            return reply::ended("null");
        }
        // One sender goes to the pumps, through an inner channel whose end we hold: when the stream is cut,
        // no clone of the outer sender may keep the client's stream open.
        let (inner, mut pumped) = mpsc::channel::<Bytes>(16);
        let (outer, frames) = mpsc::channel::<Bytes>(16);
        session.listen(inner, entry.cancel.clone());
        let every = self.relay.0.limits.keep_alive;
        let gone = session.entry.cancel.clone();
        session.clone().tasks.spawn(async move {
            let carry = async {
                loop {
                    tokio::select! {
                        frame = pumped.recv() => match frame {
                            Some(frame) => {
                                if outer.send(frame).await.is_err() {
                                    return;
                                }
                            }
                            None => return,
                        },
                        () = keep_alive(&outer, every) => return,
                    }
                }
            };
            tokio::select! {
                () = entry.cancel.cancelled() => {}
                () = gone.cancelled() => {}
                () = outer.closed() => {}
                () = carry => {}
            }
            drop(entry);
        });
        reply::stream(frames)
    }

    async fn post<B>(&self, headers: &HeaderMap, body: B) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if !accepts(headers, "application/json") || !accepts(headers, "text/event-stream") {
            let message = "Accept must include application/json and text/event-stream";
            return reply::refused(StatusCode::NOT_ACCEPTABLE, message);
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            let message = "Content-Type must be application/json";
            return reply::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
        }
        let body = match Limited::new(body, self.relay.0.limits.body).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return reply::refused(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the body is larger than the relay takes",
                );
            }
            Err(_) => return reply::refused(StatusCode::BAD_REQUEST, "the body could not be read"),
        };
        let text = std::str::from_utf8(&body).ok();
        let Some(text) = text.filter(|t| serde_json::from_str::<serde::de::IgnoredAny>(t).is_ok()) else {
            return reply::json(
                StatusCode::BAD_REQUEST,
                envelope::error("null", PARSE_ERROR, "the body is not valid JSON"),
            );
        };
        if text.trim_start().starts_with('[') {
            return reply::refused(
                StatusCode::BAD_REQUEST,
                "batches are not taken; send one message at a time",
            );
        }
        let message = match Message::parse(text) {
            Ok(message) => message,
            Err(why) => {
                return reply::json(StatusCode::BAD_REQUEST, envelope::error("null", INVALID_REQUEST, why));
            }
        };
        if message.method.as_deref() == Some("initialize") && message.is_request() {
            let opened = match &self.upstream {
                None => aggregate::initialize(self, &message).await,
                Some(upstream) => single::initialize(self, upstream, &message).await,
            };
            return opened.unwrap_or_else(|refusal| refusal);
        }
        let session = match self.session(headers) {
            Ok(session) => session,
            Err(refusal) => return *refusal,
        };
        let entry = self.relay.0.registry.register(&self.principal, self.pat_id, Kind::Call);
        if !self.principal.stands() {
            return reply::ended(message.id_json());
        }
        match &self.upstream {
            None => aggregate::handle(self, session, entry, message).await,
            Some(upstream) => single::handle(self, upstream, session, entry, message).await,
        }
    }
}
