//! `/mcp`: all upstreams that the scopes touch, as one server. Names are `NAME__tool`.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use serde_json::json;
use serde_json::value::RawValue;

use crate::builtin;
use crate::call::{Call, Shape};
use crate::catalogue::{List, fits};
use crate::envelope::{
    self, INVALID_PARAMS, METHOD_NOT_FOUND, Message, RESOURCE_NOT_FOUND, RawObject, UPSTREAM, raw,
};
use crate::front::{Context, VERSIONS};
use crate::registry::Entry;
use crate::reply::{self, Reply};
use crate::session::Session;
use crate::upstream::{SESSION, Upstream};

pub(crate) async fn initialize(context: &Context, message: &Message) -> Result<Reply, Reply> {
    let asked = message.param("protocolVersion").unwrap_or_default();
    let version = VERSIONS.into_iter().find(|v| *v == asked).unwrap_or(VERSIONS[0]);
    let params = message.params.as_ref().map_or("{}".to_owned(), |p| p.to_raw().get().to_owned());
    let mut init = RawObject::parse(&params).unwrap_or_default();
    init.set("protocolVersion", raw(version));
    let session = context.relay.open_session(&context.principal, context.pat_id, init, None).await?;
    let answer = json!({
        "protocolVersion": version,
        "capabilities": {
            "tools": {"listChanged": true}, "prompts": {"listChanged": true},
            "resources": {"listChanged": true, "subscribe": true}, "logging": {}, "completions": {},
        },
        "serverInfo": {"name": "trustrelay", "version": env!("CARGO_PKG_VERSION")},
    });
    let mut reply = reply::json(StatusCode::OK, envelope::result(message.id_json(), &answer));
    if let Ok(id) = HeaderValue::from_str(&session.id) {
        reply.headers_mut().insert(SESSION, id);
    }
    Ok(reply)
}

pub(crate) async fn handle(
    context: &Context,
    session: Arc<Session>,
    entry: Entry,
    message: Message,
) -> Reply {
    if !message.is_request() {
        said(context, &session, &message).await;
        return reply::empty(StatusCode::ACCEPTED);
    }
    let id = message.id_json().to_owned();
    let ok = |body: String| reply::json(StatusCode::OK, body);
    let method = message.method.clone().unwrap_or_default();
    match method.as_str() {
        "ping" => ok(envelope::result(&id, &json!({}))),
        "tools/list" => ok(list(context, List::Tools, &id).await),
        "prompts/list" => ok(list(context, List::Prompts, &id).await),
        "resources/list" => ok(list(context, List::Resources, &id).await),
        "resources/templates/list" => ok(list(context, List::Templates, &id).await),
        "tools/call" => tool(context, session, entry, message).await,
        "prompts/get" => {
            let name = message.param("name").unwrap_or_default();
            named(context, session, entry, message, &name).await
        }
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            let uri = message.param("uri").unwrap_or_default();
            let Some(upstream) = owner(context, &uri).await else {
                return ok(envelope::error(
                    &id,
                    RESOURCE_NOT_FOUND,
                    "no upstream of this token has the resource",
                ));
            };
            let body = message.whole;
            forward(session, entry, &upstream, id, method, body).await
        }
        "completion/complete" => complete(context, session, entry, message).await,
        "logging/setLevel" => {
            let Some(level) = message.param("level") else {
                return ok(envelope::error(&id, INVALID_PARAMS, "`params.level` is missing"));
            };
            *session.level.lock() = Some(level);
            let links = session.opened();
            futures_util::future::join_all(links.iter().map(|l| l.notify(message.whole.clone()))).await;
            ok(envelope::result(&id, &json!({})))
        }
        _ => ok(envelope::error(&id, METHOD_NOT_FOUND, "the relay does not know this method")),
    }
}

/// Notifications, and responses to requests of an upstream.
async fn said(context: &Context, session: &Session, message: &Message) {
    match message.method.as_deref() {
        Some("notifications/initialized") => {}
        Some("notifications/cancelled") => {
            let request = message.params.as_ref().and_then(|p| p.get("requestId")).map(RawValue::get);
            let link = request.and_then(|id| session.calls.lock().get(id).cloned());
            if let Some(link) = link {
                let _ = link.notify(message.whole.clone()).await;
            }
        }
        Some(_) => {
            let links = session.opened();
            futures_util::future::join_all(links.iter().map(|l| l.notify(message.whole.clone()))).await;
        }
        None => {
            let id: Option<String> = serde_json::from_str(message.id_json()).ok();
            let Some((name, id)) = id.as_deref().and_then(|id| id.split_once('/')) else { return };
            let Ok(id) = RawValue::from_string(id.to_owned()) else { return };
            if !context.principal.scopes.touches_upstream(name) {
                return;
            }
            let link = session.opened().into_iter().find(|link| link.upstream.name.as_str() == name);
            if let Some(link) = link {
                let _ = link.notify(message.with_id(id)).await;
            }
        }
    }
}

/// The merged list: the built-in ones, then each upstream's in its own order. One that fails is left out.
async fn list(context: &Context, list: List, id: &str) -> String {
    let scopes = &context.principal.scopes;
    let upstreams = context.relay.touched(&context.principal);
    let fetched = futures_util::future::join_all(upstreams.iter().map(|u| u.list(list))).await;
    let mut merged: Vec<Box<RawValue>> = Vec::new();
    if list == List::Tools {
        merged.extend(builtin::tools().iter().map(raw));
    }
    for (upstream, items) in upstreams.iter().zip(fetched) {
        let name = upstream.name.as_str();
        let Ok(items) = items else { continue };
        for item in items.iter() {
            let allowed = match list {
                List::Tools => scopes.reach(name, &item.key) == trustrelay_token::Reach::Whole,
                _ => scopes.allows_upstream(name),
            };
            if allowed {
                merged.push(match list {
                    List::Tools | List::Prompts => item.named(&format!("{name}__{}", item.key)),
                    List::Resources | List::Templates => item.raw.clone(),
                });
            }
        }
    }
    let mut result = RawObject::default();
    result.set(list.member(), raw(&merged));
    envelope::result(id, &result)
}

async fn tool(context: &Context, session: Arc<Session>, entry: Entry, message: Message) -> Reply {
    let id = message.id_json().to_owned();
    let called = message.param("name").unwrap_or_default();
    let known = called
        .split_once("__")
        .filter(|(name, _)| *name == builtin::NAME || context.relay.upstream(name).is_some());
    let Some((name, tool)) = known else {
        let error = envelope::error(&id, INVALID_PARAMS, "there is no such tool; see tools/list");
        return reply::json(StatusCode::OK, error);
    };
    if name == builtin::NAME {
        let body = match builtin::call(&context.relay, &context.principal, tool).await {
            Some(result) => envelope::result(&id, &result),
            None => envelope::error(&id, INVALID_PARAMS, "there is no such tool; see tools/list"),
        };
        return reply::json(StatusCode::OK, body);
    }
    if context.principal.scopes.reach(name, &tool) != trustrelay_token::Reach::Whole {
        return reply::insufficient_scope(&id, &format!("mcp:{name}/{tool}"));
    }
    let Some(upstream) = context.relay.upstream(name) else { return reply::no_token() };
    let body = message.with_param("name", tool);
    forward(session, entry, upstream, id, tool.to_owned(), body).await
}

/// A prompt, by its prefixed name.
async fn named(
    context: &Context,
    session: Arc<Session>,
    entry: Entry,
    message: Message,
    called: &str,
) -> Reply {
    let id = message.id_json().to_owned();
    let found = called.split_once("__").and_then(|(name, rest)| Some((context.relay.upstream(name)?, rest)));
    let Some((upstream, rest)) = found else {
        let error = envelope::error(&id, INVALID_PARAMS, "there is no such prompt; see prompts/list");
        return reply::json(StatusCode::OK, error);
    };
    let name = upstream.name.as_str();
    if !context.principal.scopes.allows_upstream(name) {
        return reply::insufficient_scope(&id, &format!("mcp:{name}"));
    }
    let body = message.with_param("name", rest);
    forward(session, entry, upstream, id, "prompts/get".to_owned(), body).await
}

/// `completion/complete`: its `ref` is a prompt's name or a resource's URI.
async fn complete(context: &Context, session: Arc<Session>, entry: Entry, message: Message) -> Reply {
    let id = message.id_json().to_owned();
    let refused = |why| reply::json(StatusCode::OK, envelope::error(message.id_json(), INVALID_PARAMS, why));
    let reference = message.params.as_ref().and_then(|p| RawObject::parse(p.get("ref")?.get()).ok());
    let Some(mut reference) = reference else { return refused("`params.ref` is missing") };
    let mut body = message.whole.clone();
    let upstream = if let Some(uri) = reference.str("uri") {
        owner(context, &uri).await
    } else {
        let called = reference.str("name").unwrap_or_default();
        let found = called.split_once("__").and_then(|(n, rest)| Some((context.relay.upstream(n)?, rest)));
        found.filter(|(u, _)| context.principal.scopes.allows_upstream(u.name.as_str())).map(|(u, rest)| {
            reference.set("name", raw(rest));
            body = message.with_raw_param("ref", reference.to_raw());
            Arc::clone(u)
        })
    };
    let Some(upstream) = upstream else {
        return refused("`params.ref` names nothing that this token reaches");
    };
    forward(session, entry, &upstream, id, "completion/complete".to_owned(), body).await
}

/// The upstream that lists the resource, or has a template that it fits.
async fn owner(context: &Context, uri: &str) -> Option<Arc<Upstream>> {
    let mut upstreams = context.relay.touched(&context.principal);
    upstreams.retain(|u| context.principal.scopes.allows_upstream(u.name.as_str()));
    for list in [List::Resources, List::Templates] {
        let fetched = futures_util::future::join_all(upstreams.iter().map(|u| u.list(list))).await;
        for (upstream, items) in upstreams.iter().zip(fetched) {
            let has =
                |key: &str| if list == List::Resources { key == uri } else { key == uri || fits(key, uri) };
            if items.is_ok_and(|items| items.iter().any(|item| has(&item.key))) {
                return Some(Arc::clone(upstream));
            }
        }
    }
    None
}

async fn forward(
    session: Arc<Session>,
    entry: Entry,
    upstream: &Arc<Upstream>,
    id: String,
    what: String,
    body: String,
) -> Reply {
    match session.link(upstream).await {
        Ok(link) => {
            Call { session, entry, link, id, what, body, shape: Shape::Aggregate, retry: true }.run().await
        }
        Err(fault) => {
            let name = upstream.name.as_str();
            metrics::counter!("trustrelay_mcp_calls_total", "upstream" => name.to_owned(), "outcome" => fault.outcome()).increment(1);
            tracing::info!(upstream = name, tool = what, outcome = fault.outcome(), pat_id = %session.pat_id, "call");
            reply::json(StatusCode::OK, envelope::error(&id, UPSTREAM, &fault.message(name)))
        }
    }
}
