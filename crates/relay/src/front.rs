//! The entry point for requests: makes every decision that needs only HTTP, then dispatches to
//! `/mcp` or `/mcp/NAME` in the request's era.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admitted::Admitted;
use crate::body::BoxError;
use crate::context::Context;
use crate::envelope::{self, INVALID_REQUEST, Message};
use crate::era::{self, Era, SESSION, STATELESS, VERSION};
use crate::home::{Here, elsewhere};
use crate::outlet::Outlet;
use crate::registry::{Entry, Kind};
use crate::relay::Relay;
use crate::reply::{self, Reply};
use crate::session::{Session, keep_alive};
use crate::upstream::{BOTH_KINDS, Fault, Link, Upstream};
use crate::whole::Whole;
use crate::{clock, judge, mirror, serve, single, subscribe, trace};

/// Marker in the extensions of a response that refuses a request because of its `Origin`.
#[derive(Debug, Clone, Copy)]
pub struct BadOrigin;

impl Relay {
    /// Answers one request. `upstream` is `None` on `/mcp`, and the name on `/mcp/NAME`. The
    /// principal comes from the authentication guard, which has removed the `Authorization` header.
    pub async fn handle<B>(
        &self,
        principal: impl Into<Admitted>,
        upstream: Option<&str>,
        request: Request<B>,
    ) -> Reply
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.sweep_now_and_then();
        handle(self, principal.into(), upstream, request).await
    }
}

async fn handle<B>(relay: &Relay, principal: Admitted, upstream: Option<&str>, request: Request<B>) -> Reply
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Some(pat_id) = principal.pat_id() else { return reply::no_token() };
    if !principal.stands() || principal.expires_at() <= clock::now() {
        return reply::cut(&principal, "null").0;
    }
    if !principal.scopes.allows_any_mcp() {
        return reply::insufficient_scope("null", "mcp");
    }
    let (parts, body) = request.into_parts();
    if !origin_is_good(&parts.headers, relay.0.public_origin.as_deref()) {
        let why = "requests from this Origin are not allowed; if it is the server's own, start the server with --public-url";
        let mut refused = reply::refused(StatusCode::FORBIDDEN, why);
        refused.extensions_mut().insert(BadOrigin);
        return refused;
    }
    let only = match upstream {
        None => None,
        Some(name) => match relay.upstream(&principal, name) {
            None => return reply::refused(StatusCode::NOT_FOUND, "there is no upstream of this name"),
            Some(_) if !principal.scopes.touches_upstream(name) => {
                return reply::insufficient_scope("null", &format!("mcp:{name}"));
            }
            Some(upstream) => Some(Arc::clone(upstream)),
        },
    };
    let (gone, trace) = (CancellationToken::new(), trace::of_headers(&parts.headers));
    let here = parts.extensions.get::<Here>().is_some();
    let context = Context { relay: relay.clone(), principal, pat_id, only, here, trace, gone };
    match parts.method {
        Method::POST => post(context, parts.headers, body).await,
        Method::GET | Method::DELETE if is_stateless(&context, &parts.headers) => {
            reply::method_not_allowed("POST", "this protocol version supports only POST")
        }
        Method::GET => {
            let (tasks, gone) = (relay.0.tasks.clone(), context.gone.clone());
            Whole::new(&tasks, gone, async move { get(&context, &parts.headers).await }).await
        }
        Method::DELETE => match session(&context, &parts.headers, "") {
            Ok(session) => {
                relay.end(&session);
                reply::empty(StatusCode::NO_CONTENT)
            }
            Err(refusal) => *refusal,
        },
        _ => reply::method_not_allowed("GET, POST, DELETE", "use POST, GET or DELETE"),
    }
}

/// Returns whether a GET or DELETE belongs to the stateless era: it names no session, and it either
/// names the stateless version or is for an upstream that does not speak the session era.
fn is_stateless(context: &Context, headers: &HeaderMap) -> bool {
    if headers.contains_key(SESSION) {
        return false;
    }
    headers.get(VERSION).is_some_and(|version| version == STATELESS)
        || context.only.as_ref().is_some_and(|upstream| !upstream.may_speak_session())
}

/// Returns whether the origin is acceptable: absent (no browser), loopback, or the public origin.
/// The requested host is not accepted as origin, because a hostile page can make its own name
/// resolve to this server (DNS rebinding).
fn origin_is_good(headers: &HeaderMap, public: Option<&str>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Some(origin) = origin.to_str().ok() else { return false };
    let Ok(url) = url::Url::parse(origin) else { return false };
    let Some(host) = url.host_str() else { return false };
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
        || public.is_some_and(|public| public.trim_end_matches('/').eq_ignore_ascii_case(origin))
}

fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let family = wanted.split('/').next().unwrap_or_default();
    headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let is_of_family = |of: &str| of.eq_ignore_ascii_case(family);
        kind.eq_ignore_ascii_case(wanted)
            || kind == "*/*"
            || kind.strip_suffix("/*").is_some_and(is_of_family)
    })
}

/// Finds the session that the request names. `Err` contains the refusal or, if the session lives on
/// another node, the referral to that node with the request's `body`.
fn session(context: &Context, headers: &HeaderMap, body: &str) -> Result<Arc<Session>, Box<Reply>> {
    let Some(id) = headers.get(SESSION) else {
        let message = "Mcp-Session-Id is missing; send initialize first";
        return Err(Box::new(reply::refused(StatusCode::BAD_REQUEST, message)));
    };
    let found = match id.to_str() {
        Ok(id) => {
            if let Some(home) = context.relay.home_of_session(context, id) {
                return Err(Box::new(elsewhere(home, body)));
            }
            context.relay.session(context, id)?
        }
        Err(_) => None,
    };
    found.ok_or_else(|| {
        Box::new(reply::refused(StatusCode::NOT_FOUND, "no such session; send initialize again"))
    })
}

/// Registers the request first and checks the credential second; see [`crate::registry`] for the
/// reason.
fn register(context: &Context, kind: Kind, id: &str) -> Result<Entry, Reply> {
    let entry = context.relay.0.registry.register_request(&context.principal, context.pat_id, kind);
    if context.principal.stands() { Ok(entry) } else { Err(reply::cut(&context.principal, id).0) }
}

async fn get(context: &Context, headers: &HeaderMap) -> Reply {
    if !accepts(headers, "text/event-stream") {
        return reply::refused(StatusCode::NOT_ACCEPTABLE, "Accept must include text/event-stream");
    }
    let session = match session(context, headers, "") {
        Ok(session) => session,
        Err(refusal) => return *refusal,
    };
    let entry = match register(context, Kind::Stream, "null") {
        Ok(entry) => entry,
        Err(refusal) => return refusal,
    };
    if let Some(upstream) = &context.only {
        let link = match session.link(upstream, &context.relay.0.registry, &context.principal).await {
            Ok(link) => link,
            Err(fault) => return crate::routes::faulty("null", upstream, fault),
        };
        if link.era == Era::Session && !upstream.is_stdio() {
            return upstream_stream(context, link, &session, headers, entry).await;
        }
    }
    // Messages go through an inner channel whose receiving end stays in this task. When the stream
    // is cut, no clone of the outer sender can keep the client's stream open.
    let (inner, mut told) = mpsc::channel::<Bytes>(16);
    let (outer, frames) = mpsc::channel::<Bytes>(16);
    // A session-era process announces changes itself, and its own messages are passed on.
    if !context.only.as_ref().is_some_and(|upstream| upstream.is_stdio() && upstream.may_speak_session()) {
        subscribe::tell_changes(context, &inner);
    }
    session.listen(inner, entry.cancel.clone()).await;
    let every = context.relay.0.limits.keep_alive;
    let gone = session.entry.cancel.clone();
    session.clone().tasks.spawn(async move {
        let carry = async {
            loop {
                tokio::select! {
                    frame = told.recv() => match frame {
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

/// On `/mcp/NAME` over HTTP the client's stream is the upstream's stream, byte for byte.
async fn upstream_stream(
    context: &Context,
    link: Arc<Link>,
    session: &Arc<Session>,
    headers: &HeaderMap,
    entry: Entry,
) -> Reply {
    let upstream = Arc::clone(&link.upstream);
    let streamed = match single::stream(&link, headers).await {
        // The upstream has lost the session, so try once more on a new one.
        Err(Fault::SessionGone) => {
            session.drop_link(&link).await;
            match session.link(&upstream, &context.relay.0.registry, &context.principal).await {
                Ok(link) => single::stream(&link, headers).await,
                Err(fault) => Err(fault),
            }
        }
        streamed => streamed,
    };
    let mut exchange = match streamed {
        Ok(exchange) => exchange,
        Err(Fault::Refused(StatusCode::METHOD_NOT_ALLOWED)) => {
            return reply::method_not_allowed("POST, DELETE", "the upstream does not offer a stream");
        }
        Err(fault) => {
            let why = fault.message(upstream.name.as_str());
            return reply::refused(StatusCode::BAD_GATEWAY, &why);
        }
    };
    let (mut outlet, waiting) = Outlet::new(context.gone.clone());
    outlet.begin();
    let (cut, gone) = (entry.cancel.clone(), session.entry.cancel.clone());
    let every = context.relay.0.limits.keep_alive;
    let open = session.streams();
    session.tasks.spawn(async move {
        let reader = outlet.gone.clone();
        let carry = async {
            loop {
                let event = tokio::select! {
                    event = exchange.next() => event,
                    () = tokio::time::sleep(every) => {
                        outlet.keep_alive().await;
                        continue;
                    }
                };
                let Ok(Some(event)) = event else { return };
                if let Some(message) = &event.message {
                    upstream.heard(message.method());
                }
                outlet.frame(event.frame).await;
            }
        };
        tokio::select! {
            () = cut.cancelled() => {}
            () = gone.cancelled() => {}
            () = reader.cancelled() => {}
            () = carry => {}
        }
        drop((entry, open));
    });
    waiting.reply(|| reply::ended("null")).await
}

async fn post<B>(mut context: Context, headers: HeaderMap, body: B) -> Reply
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let limits = &context.relay.0.limits;
    let collected = tokio::time::timeout(limits.receive, Limited::new(body, limits.body).collect());
    let Ok(collected) = collected.await else {
        return reply::refused(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive");
    };
    let body = match collected {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return reply::refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
        }
        Err(_) => return reply::refused(StatusCode::BAD_REQUEST, "the body could not be read"),
    };
    let parsed = match String::from_utf8(body.into()) {
        Ok(text) => judge::read(text),
        Err(_) => {
            let why = "the body is not valid UTF-8";
            Err(envelope::Malformed { code: envelope::PARSE_ERROR, why })
        }
    };
    // Header errors that both eras share take precedence over errors in the body.
    if let Err(refusal) = takes_both(&context, &headers) {
        return *refusal;
    }
    let judged = match parsed {
        Ok(judged) => judged,
        Err(malformed) => {
            let error = envelope::error("null", malformed.code, malformed.why);
            return reply::json(StatusCode::BAD_REQUEST, error);
        }
    };
    let (era, message) = (era::of(&headers, &judged), judged.message);
    if !message.is_request()
        && !message.is_response()
        && !era::CLIENT_NOTIFICATIONS.contains(&message.method())
    {
        let why = "a request must have an `id`, and this method is not a notification that clients can send";
        return reply::refused(StatusCode::BAD_REQUEST, why);
    }
    trace::adopt(&mut context.trace, &message);
    let (tasks, gone) = (context.relay.0.tasks.clone(), context.gone.clone());
    let answered = async move {
        match era {
            Era::Session => session_post(&context, &headers, message).await,
            Era::Stateless => stateless_post(&context, &headers, message).await,
        }
    };
    Whole::new(&tasks, gone, answered).await
}

/// Checks the request's headers. On `/mcp/NAME` the upstream judges the `Accept` header.
fn takes_both(context: &Context, headers: &HeaderMap) -> Result<(), Box<Reply>> {
    let refused = |status, why| Err(Box::new(reply::refused(status, why)));
    if !era::only(headers, &CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(is_json) {
        let why = "Content-Type must be application/json, in UTF-8";
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    }
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        let why = "Content-Encoding is not supported; send the body as it is";
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    }
    // Fast path for the value that most clients send.
    let both = || {
        headers.get(ACCEPT).is_some_and(|value| value == BOTH_KINDS)
            || (accepts(headers, "application/json") && accepts(headers, "text/event-stream"))
    };
    if context.only.is_none() && !both() {
        let why = "Accept must include application/json and text/event-stream";
        return refused(StatusCode::NOT_ACCEPTABLE, why);
    }
    Ok(())
}

/// Returns whether a media type is JSON in UTF-8, the only encoding for JSON between systems (RFC
/// 8259, section 8.1).
fn is_json(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        && parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
            let Some((name, value)) = parameter.split_once('=') else { return false };
            // A quoted value that contains a semicolon is split in two and therefore refused.
            let quoted = value.strip_prefix('"').map(|rest| rest.strip_suffix('"'));
            let Some(value) = quoted.unwrap_or(Some(value)) else { return false };
            !name.trim().eq_ignore_ascii_case("charset") || value.trim().eq_ignore_ascii_case("utf-8")
        })
}

async fn session_post(context: &Context, headers: &HeaderMap, message: Message) -> Reply {
    if message.method() == "initialize" && message.is_request() {
        if message.param("capabilities").is_some_and(|json| json.len() > era::MAX_CAPABILITIES) {
            let why = format!("`params.capabilities` is longer than {} bytes", era::MAX_CAPABILITIES);
            return reply::json(
                StatusCode::BAD_REQUEST,
                envelope::error(message.id(), envelope::INVALID_PARAMS, &why),
            );
        }
        let opened = match &context.only {
            None => {
                let server = serve::own_server();
                let result = serve::initialized(&server, message.param_str("protocolVersion"));
                let begun = context.relay.begin(context, &message.params(), None);
                begun.map(|session| {
                    let body = envelope::result(message.id(), &result);
                    single::with_id(reply::json(StatusCode::OK, body), &session)
                })
            }
            Some(upstream) => Box::pin(single::initialize(context, upstream, headers, &message)).await,
        };
        return opened.unwrap_or_else(|refusal| refusal);
    }
    let known = |version: &HeaderValue| era::SESSION_VERSIONS.iter().any(|known| version == known);
    if headers.contains_key(VERSION) && !era::only(headers, &VERSION).is_some_and(known) {
        let why = format!(
            "MCP-Protocol-Version is unknown or repeated; this session uses {}",
            era::SESSION_VERSIONS.join(", ")
        );
        return reply::refused(StatusCode::BAD_REQUEST, &why);
    }
    let session = match session(context, headers, message.text()) {
        Ok(session) => session,
        Err(refusal) => return *refusal,
    };
    let entry = match register(context, Kind::Call, message.id()) {
        Ok(entry) => entry,
        Err(refusal) => return refusal,
    };
    match (&context.only, message.is_request()) {
        (None, true) => serve::session_request(context, session, entry, message).await,
        // Boxed, so that the rare paths do not enlarge the future of every call.
        (None, false) => Box::pin(serve::session_said(context, &session, message)).await,
        (Some(_), true) => single::session_request(context, headers, session, entry, message).await,
        (Some(upstream), false) => Box::pin(single::session_said(context, upstream, &session, message)).await,
    }
}

async fn stateless_post(context: &Context, headers: &HeaderMap, message: Message) -> Reply {
    if let Some(home) = context.relay.home_of_retry(context, &message) {
        return elsewhere(home, message.text());
    }
    // A subscription ends with its client, and nobody waits for its end.
    let kind = if message.method() == "subscriptions/listen" { Kind::Stream } else { Kind::Call };
    let entry = match register(context, kind, message.id()) {
        Ok(entry) => entry,
        Err(refusal) => return refusal,
    };
    if !message.is_request() {
        // In this era clients send neither notifications nor responses.
        return match message.is_response() {
            true => reply::json(
                StatusCode::BAD_REQUEST,
                envelope::error(
                    "null",
                    INVALID_REQUEST,
                    "responses are not sent in this version of the protocol",
                ),
            ),
            false => reply::empty(StatusCode::ACCEPTED),
        };
    }
    if let Some(upstream) = &context.only {
        match upstream.stateless().await {
            Ok(Some(link)) => {
                if let Err(refused) = judged(context, upstream, headers, &message).await {
                    return reply::refused_stateless(&message, refused);
                }
                return single::stateless_request(context, headers, link, entry, message).await;
            }
            Ok(None) => {}
            Err(fault) => return crate::routes::faulty(message.id(), upstream, fault),
        }
    }
    match era::sender(headers, &message) {
        Ok(sender) => serve::stateless_request(context, sender, entry, headers, message).await,
        Err(refused) => reply::refused_stateless(&message, refused),
    }
}

/// Compares a request's headers with its body. The upstream receives headers that the relay creates
/// from the body.
async fn judged(
    context: &Context,
    upstream: &Arc<Upstream>,
    headers: &HeaderMap,
    message: &Message,
) -> Result<(), era::Refused> {
    era::stated(headers, message)?;
    if message.method() == "tools/call"
        && let Some(name) = message.param_str("name")
    {
        // A call without such headers, and with access to the whole upstream, does not wait for a
        // list. If headers are missing, the upstream itself refuses the call.
        let waits = mirror::has_any(headers) || upstream.is_stdio() || !context.may_call_all(upstream);
        let schema = if waits { upstream.schema(&name).await } else { upstream.mirrored(&name) };
        if let Some(schema) = schema {
            mirror::check(headers, message, &schema)?;
        }
    }
    Ok(())
}
