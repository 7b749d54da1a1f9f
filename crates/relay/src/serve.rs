//! `/mcp`: all upstreams that the scopes touch, presented as one server. Also `/mcp/NAME` where the
//! two sides speak different eras.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use serde_json::json;
use tracing::Instrument as _;

use crate::builtin;
use crate::call::{Call, Client, Conveyance};
use crate::catalogue::List;
use crate::context::Context;
use crate::envelope::{self, INVALID_PARAMS, METHOD_NOT_FOUND, Message, RawObject, raw};
use crate::era::{self, Era, META_SERVER, STATELESS, Sender};
use crate::lists;
use crate::outlet::Outlet;
use crate::parked::Resumed;
use crate::registry::Entry;
use crate::reply::{self, Reply};
use crate::routes::{Routed, Target, failed, faulty, target};
use crate::session::{Session, set_level};
use crate::upstream::{Link, Server};
use crate::{mirror, subscribe, trace, translate};

/// Describes the relay as a server on `/mcp`.
pub(crate) fn own_server() -> Server {
    let capabilities = json!({
        "tools": {"listChanged": true}, "prompts": {"listChanged": true},
        "resources": {"listChanged": true, "subscribe": true}, "logging": {}, "completions": {},
    });
    Server {
        version: STATELESS.to_owned(),
        capabilities: RawObject::parse(&capabilities.to_string()).unwrap_or_default(),
        info: Some(raw(&json!({"name": "trustrelay", "version": env!("CARGO_PKG_VERSION")}))),
        instructions: None,
        initialized: None,
    }
}

/// Builds the result of `initialize` for a client that asks for the version `asked`.
pub(crate) fn initialized(server: &Server, asked: Option<String>) -> RawObject {
    let known = asked.and_then(|asked| era::SESSION_VERSIONS.into_iter().find(|version| *version == asked));
    let mut result = RawObject::default();
    result.set("protocolVersion", raw(known.unwrap_or(era::SESSION_VERSIONS[0])));
    result.set("capabilities", server.capabilities.to_raw());
    let unnamed = || raw(&json!({"name": "unknown", "version": "0"}));
    result.set("serverInfo", server.info.clone().unwrap_or_else(unnamed));
    if let Some(instructions) = &server.instructions {
        result.set("instructions", instructions.clone());
    }
    result
}

/// Builds the result of `server/discover`.
fn discovered(server: &Server) -> RawObject {
    let mut result = RawObject::default();
    let versions: Vec<&str> = std::iter::once(STATELESS).chain(era::SESSION_VERSIONS).collect();
    result.set("supportedVersions", raw(&versions));
    result.set("capabilities", server.capabilities.to_raw());
    if let Some(instructions) = &server.instructions {
        result.set("instructions", instructions.clone());
    }
    translate::complete("server/discover", &mut result, server.info.as_deref());
    result
}

/// Handles a request within a session.
pub(crate) async fn session_request(
    context: &Context,
    session: Arc<Session>,
    entry: Entry,
    message: Message,
) -> Reply {
    let id = message.id().to_owned();
    let ok = |body: String| reply::json(StatusCode::OK, body);
    match message.method() {
        "ping" => return ok(envelope::result(&id, &json!({}))),
        "logging/setLevel" => {
            let Some(level) = message.param_str("level") else {
                return ok(envelope::error(&id, INVALID_PARAMS, "`params.level` is missing or not a string"));
            };
            *session.level.lock() = Some(level.clone());
            let links = session.opened();
            futures_util::future::join_all(links.iter().map(|link| set_level(link, &level))).await;
            return ok(envelope::result(&id, &json!({})));
        }
        method if context.only.is_none() => {
            if let Some(list) = List::of(method) {
                return Box::pin(listed(context, list, &message, None)).await;
            }
        }
        _ => {}
    }
    let Routed { upstream, message, what, mirrored } = match target(context, &message, Era::Session).await {
        Some(Target::Upstream(routed)) => *routed,
        Some(Target::Builtin(tool)) => return built_in(context, &tool, &message, None).await,
        Some(Target::Refused(reply)) => return *reply,
        None => return ok(envelope::error(&id, METHOD_NOT_FOUND, "the relay does not know this method")),
    };
    let registry = &context.relay.0.registry;
    let link = match session.link(&upstream, registry, &context.principal).await {
        Ok(link) => link,
        Err(fault) => return failed(context, &upstream, &what, &message, fault),
    };
    let method = message.method();
    if matches!(method, "resources/subscribe" | "resources/unsubscribe")
        && (link.era == Era::Stateless || upstream.is_stdio())
    {
        let uri = message.param_str("uri").unwrap_or_default();
        let subscribes = method == "resources/subscribe";
        if uri.len() > subscribe::MAX_URI {
            let why = format!("`params.uri` is longer than {} bytes", subscribe::MAX_URI);
            return ok(envelope::error(&id, INVALID_PARAMS, &why));
        }
        return match Box::pin(subscribe::for_session(context, &session, &link, uri, subscribes)).await {
            Ok(()) => ok(envelope::result(&id, &json!({}))),
            Err(fault) => faulty(&id, &upstream, fault),
        };
    }
    let conveyance = conveyance(context, &link, &message);
    let client = Client::Session(session);
    let context = context.clone();
    let headers = HeaderMap::new();
    Call { context, client, entry, link, message, what, conveyance, headers, mirrored }.run().await
}

/// Chooses how to pass the answer on: message by message, with a list of tools reduced to the tools
/// that the scopes allow.
fn conveyance(context: &Context, link: &Link, message: &Message) -> Conveyance {
    let filtered = message.method() == "tools/list" && !context.may_call_all(&link.upstream);
    if filtered { Conveyance::OnlyAllowed } else { Conveyance::Messages }
}

/// Handles a notification or a response within a session.
pub(crate) async fn session_said(context: &Context, session: &Session, message: Message) -> Reply {
    let accepted = reply::empty(StatusCode::ACCEPTED);
    if message.is_response() {
        let principal = &context.principal;
        let reaches = |name: &str| principal.upstreams.allow(name) && principal.scopes.touches_upstream(name);
        if !session.answered(message, reaches).await {
            let why = "no request with this id is waiting in this session";
            return reply::refused(StatusCode::BAD_REQUEST, why);
        }
        return accepted;
    }
    match message.method() {
        "notifications/initialized" => {}
        "notifications/cancelled" => {
            if let Some(flight) = session.in_flight(&message) {
                flight.cancel.cancel();
            }
        }
        _ => {
            // The stateless era has no client notifications: each request carries the same
            // information.
            let links = session.opened().into_iter().filter(|link| link.era == Era::Session);
            let text = message.text();
            futures_util::future::join_all(
                links.map(|link| async move { link.notify(text.to_owned()).await }),
            )
            .await;
        }
    }
    accepted
}

/// Handles a request of the stateless era, after its headers and body were checked.
pub(crate) async fn stateless_request(
    context: &Context,
    sender: Sender,
    entry: Entry,
    headers: &HeaderMap,
    message: Message,
) -> Reply {
    let id = message.id().to_owned();
    let ok = |body: String| reply::json(StatusCode::OK, body);
    let unknown = || {
        let why = "the method is unknown, or not part of this protocol version";
        reply::json(StatusCode::NOT_FOUND, envelope::error(&id, METHOD_NOT_FOUND, why))
    };
    match message.method() {
        "server/discover" => {
            let server = match &context.only {
                None => own_server(),
                Some(upstream) => match context.stateless_link(upstream, &sender).await {
                    Ok(link) => link.server.clone(),
                    Err(fault) => return faulty(&id, upstream, fault),
                },
            };
            return ok(envelope::result(&id, &discovered(&server)));
        }
        "subscriptions/listen" => {
            return Box::pin(subscribe::listen(context, &sender, entry, &message)).await;
        }
        "initialize" | "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
            return unknown();
        }
        method if context.only.is_none() => {
            if let Some(list) = List::of(method) {
                return Box::pin(listed(context, list, &message, own_server().info.as_deref())).await;
            }
        }
        _ => {}
    }
    let Routed { upstream, message, what, mirrored } = match target(context, &message, Era::Stateless).await {
        Some(Target::Upstream(routed)) => *routed,
        Some(Target::Builtin(tool)) => {
            return built_in(context, &tool, &message, own_server().info.as_deref()).await;
        }
        Some(Target::Refused(reply)) => return *reply,
        None => return unknown(),
    };
    if message.method() == "tools/call"
        && let Some(schema) = upstream.schema(&what).await
        && let Err(refused) = mirror::check(headers, &message, &schema)
    {
        return reply::refused_stateless(&message, refused);
    }
    if let Some(state) = message.param_str("requestState") {
        let waiting = context.relay.unpark(context, &state, upstream.name.as_str(), &what, &id);
        match waiting {
            Some(Ok(resume)) => {
                let (outlet, waiting) = Outlet::new(context.gone.clone());
                let responses = message.param("inputResponses").and_then(|json| RawObject::parse(json).ok());
                let responses = responses.unwrap_or_default();
                let resumed = Resumed { outlet, message, responses, entry };
                if resume.send(resumed).is_err() {
                    return faulty(&id, &upstream, crate::upstream::Fault::SessionGone);
                }
                return waiting.reply(|| reply::ended(&id)).await;
            }
            Some(Err(reply)) => return reply,
            // The state is the upstream's own and is forwarded.
            None => {}
        }
    }
    let link = match context.stateless_link(&upstream, &sender).await {
        Ok(link) => link,
        Err(fault) => return failed(context, &upstream, &what, &message, fault),
    };
    if link.era == Era::Session && message.param("requestState").is_some() {
        // A session-era upstream never issues a `requestState`, and would process the retry as a
        // new call.
        let why = "`requestState` does not belong to a waiting call; call again without it";
        return ok(envelope::error(&id, INVALID_PARAMS, why));
    }
    let conveyance = conveyance(context, &link, &message);
    let client = Client::Stateless(sender);
    let context = context.clone();
    let headers = HeaderMap::new();
    Call { context, client, entry, link, message, what, conveyance, headers, mirrored }.run().await
}

/// Returns the merged list. If `server` is given, adds the members that the stateless era requires.
async fn listed(
    context: &Context,
    list: List,
    message: &Message,
    server: Option<&serde_json::value::RawValue>,
) -> Reply {
    let body = match lists::list(context, list, message).await {
        Ok(mut result) => {
            if server.is_some() {
                translate::complete(list.method(), &mut result, server);
            }
            envelope::result(message.id(), &result)
        }
        Err(malformed) => envelope::error(message.id(), malformed.code, malformed.why),
    };
    reply::json(StatusCode::OK, body)
}

async fn built_in(
    context: &Context,
    tool: &str,
    message: &Message,
    server: Option<&serde_json::value::RawValue>,
) -> Reply {
    let (started, at) = (tokio::time::Instant::now(), crate::clock::now());
    let span = trace::call(crate::names::BUILTIN);
    let called = builtin::call(&context.relay, &context.principal, tool).instrument(span.clone());
    let Some(mut result) = called.await else {
        span.record("tool", crate::record::shortened(tool)).record("outcome", "unknown");
        let why = "there is no such tool; see tools/list";
        return reply::json(StatusCode::OK, envelope::error(message.id(), INVALID_PARAMS, why));
    };
    if let Some(server) = server {
        result["resultType"] = json!("complete");
        result["_meta"] = json!({ META_SERVER: server });
    }
    let body = envelope::result(message.id(), &result);
    let call = crate::record::CallRecord {
        at,
        pat_id: context.pat_id,
        user_id: context.principal.user_id,
        upstream: crate::names::BUILTIN.to_owned(),
        tool: tool.to_owned(),
        outcome: "ok",
        duration: started.elapsed(),
        bytes_in: message.text().len() as u64,
        bytes_out: body.len() as u64,
    };
    span.in_scope(|| context.relay.0.records.note(call));
    reply::json(StatusCode::OK, body)
}
