//! Routing: the upstream of a request, its name there, and the check of the scopes. Both eras and
//! both endpoints share this code, and it depends only on the body.

use std::sync::Arc;

use http::StatusCode;

use crate::catalogue::{List, fits};
use crate::context::Context;
use crate::envelope::{self, INVALID_PARAMS, Message, RESOURCE_NOT_FOUND, RawObject, UPSTREAM, raw};
use crate::era::{self, Era};
use crate::names::BUILTIN;
use crate::reply::{self, Reply};
use crate::trace;
use crate::upstream::{Fault, Upstream};

/// A request whose upstream was found.
pub(crate) struct Routed {
    pub(crate) upstream: Arc<Upstream>,
    /// The request in the upstream's terms, under the client's id.
    pub(crate) message: Message,
    /// The name for the record of use: the tool, or the method.
    pub(crate) what: String,
    /// The tool's schema, if the tool wants parameters as headers.
    pub(crate) mirrored: Option<serde_json::Value>,
}

/// The target of a request.
pub(crate) enum Target {
    Upstream(Box<Routed>),
    /// A built-in tool.
    Builtin(String),
    /// The request is already answered.
    Refused(Box<Reply>),
}

impl Target {
    fn upstream(upstream: Arc<Upstream>, message: Message, what: impl Into<String>) -> Self {
        Self::Upstream(Box::new(Routed { upstream, message, what: what.into(), mirrored: None }))
    }
}

/// The error for a call whose arguments cannot be written as the headers that the tool wants.
pub(crate) const UNREADABLE: &str = "the tool wants arguments as headers, and these cannot be read without doubt: a name is \
    there twice or looks like another, a number is out of range, or they are nested too deep";

fn refused(message: &Message, code: i64, why: &str) -> Target {
    trace::unknown(message);
    Target::Refused(Box::new(reply::json(StatusCode::OK, envelope::error(message.id(), code, why))))
}

/// Builds the response for an upstream that cannot be reached now.
pub(crate) fn faulty(id: &str, upstream: &Upstream, fault: Fault) -> Reply {
    reply::json(StatusCode::OK, envelope::error(id, UPSTREAM, &fault.message(upstream.name.as_str())))
}

/// Builds the same response for a call, which is also recorded.
pub(crate) fn failed(
    context: &Context,
    upstream: &Upstream,
    what: &str,
    message: &Message,
    fault: Fault,
) -> Reply {
    context.relay.refused(context, upstream, what, message, fault.outcome());
    faulty(message.id(), upstream, fault)
}

/// Finds the target of a request that names a tool, a prompt or a resource. Other requests go to
/// the single upstream of `/mcp/NAME`, and have no target on `/mcp`.
pub(crate) async fn target(context: &Context, message: &Message, era: Era) -> Option<Target> {
    let target = match message.method() {
        "tools/call" => tool(context, message).await,
        "prompts/get" => prompt(context, message),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            resource(context, message, era).await
        }
        "completion/complete" => complete(context, message).await,
        method => {
            let upstream = Arc::clone(context.only.as_ref()?);
            if !is_within(context, &upstream, method) {
                return Some(forbidden(context, &upstream, message));
            }
            Target::upstream(upstream, message.clone(), method)
        }
    };
    Some(target)
}

/// Returns whether the scopes allow a method that names no tool, prompt or resource. An unknown
/// method may do anything, so it needs the whole upstream.
fn is_within(context: &Context, upstream: &Upstream, method: &str) -> bool {
    match method {
        "ping" | "server/discover" | "logging/setLevel" | "tools/list" | "subscriptions/listen" => true,
        "prompts/list" | "resources/list" | "resources/templates/list" => may_read(context, upstream),
        _ => context.may_call_all(upstream),
    }
}

/// Builds the refusal of a request that needs a scope for the whole upstream, or for reading it.
fn forbidden(context: &Context, upstream: &Upstream, message: &Message) -> Target {
    context.relay.refused(context, upstream, message.method(), message, "forbidden");
    lacks(message, &format!("mcp:{}", upstream.name))
}

fn lacks(message: &Message, scope: &str) -> Target {
    Target::Refused(Box::new(reply::insufficient_scope(message.id(), scope)))
}

fn may_read(context: &Context, upstream: &Upstream) -> bool {
    context.principal.scopes.reads_upstream(upstream.name.as_str())
}

/// Handles a request that lacks the required name. On `/mcp/NAME` the upstream reports the error,
/// provided that the scopes allow everything that the request could name.
fn unnamed(
    context: &Context,
    message: &Message,
    why: &str,
    reaches: impl Fn(&Context, &Upstream) -> bool,
) -> Target {
    match context.only.as_ref().filter(|upstream| reaches(context, upstream)) {
        Some(upstream) => Target::upstream(Arc::clone(upstream), message.clone(), message.method()),
        None => refused(message, INVALID_PARAMS, why),
    }
}

/// Splits a name that a client uses into the upstream and the name there.
fn split<'a>(context: &Context, called: &'a str) -> Option<(Arc<Upstream>, &'a str)> {
    match &context.only {
        Some(upstream) => Some((Arc::clone(upstream), called)),
        None => {
            let (name, rest) = called.split_once("__")?;
            Some((Arc::clone(context.relay.upstream(&context.principal, name)?), rest))
        }
    }
}

fn renamed(context: &Context, message: &Message, name: &str) -> Option<Message> {
    match context.only {
        Some(_) => Some(message.clone()),
        None => Message::parse(message.with_param("name", raw(name).get())).ok(),
    }
}

async fn tool(context: &Context, message: &Message) -> Target {
    let Some(called) = message.param_str("name") else {
        return unnamed(context, message, "`params.name` is missing, or no string", |context, upstream| {
            context.may_call_all(upstream)
        });
    };
    if let (None, Some((BUILTIN, tool))) = (&context.only, called.split_once("__")) {
        return Target::Builtin(tool.to_owned());
    }
    let Some((upstream, name)) = split(context, &called) else {
        return refused(message, INVALID_PARAMS, "there is no such tool; see tools/list");
    };
    match context.may_call(&upstream, name).await {
        Ok(true) => {}
        Ok(false) => {
            context.relay.refused(context, &upstream, name, message, "forbidden");
            return lacks(message, &format!("mcp:{}/{name}", upstream.name));
        }
        Err(fault) => return Target::Refused(Box::new(failed(context, &upstream, name, message, fault))),
    }
    let Some(message) = renamed(context, message, name) else {
        return refused(message, INVALID_PARAMS, "`params.name` cannot be read");
    };
    // Uses only a list that is already known: a call does not wait for a list.
    let mirrored = upstream.mirrored(name);
    if let Some(schema) = &mirrored
        && era::headers_for(&message, Some(schema)).is_err()
    {
        return refused(&message, INVALID_PARAMS, UNREADABLE);
    }
    Target::Upstream(Box::new(Routed { upstream, what: name.to_owned(), message, mirrored }))
}

fn prompt(context: &Context, message: &Message) -> Target {
    let Some(called) = message.param_str("name") else {
        return unnamed(context, message, "`params.name` is missing, or no string", may_read);
    };
    let Some((upstream, name)) = split(context, &called) else {
        return refused(message, INVALID_PARAMS, "there is no such prompt; see prompts/list");
    };
    if !context.principal.scopes.reads_upstream(upstream.name.as_str()) {
        return forbidden(context, &upstream, message);
    }
    let Some(message) = renamed(context, message, name) else {
        return refused(message, INVALID_PARAMS, "`params.name` cannot be read");
    };
    Target::upstream(upstream, message, "prompts/get")
}

async fn resource(context: &Context, message: &Message, era: Era) -> Target {
    let Some(uri) = message.param_str("uri") else {
        return unnamed(context, message, "`params.uri` is missing, or no string", may_read);
    };
    match owner(context, &uri).await {
        Some(upstream) => Target::upstream(upstream, message.clone(), message.method()),
        None => match &context.only {
            Some(upstream) => forbidden(context, upstream, message),
            None => {
                let code = if era == Era::Session { RESOURCE_NOT_FOUND } else { INVALID_PARAMS };
                refused(message, code, "no upstream of this token has the resource")
            }
        },
    }
}

/// Routes `completion/complete`, whose `ref` is a prompt's name or a resource's URI.
async fn complete(context: &Context, message: &Message) -> Target {
    let reference = message.param("ref").and_then(|json| RawObject::parse(json).ok());
    let Some(mut reference) = reference else {
        return refused(message, INVALID_PARAMS, "`params.ref` is missing, or no object");
    };
    let what = message.method();
    if let Some(upstream) = &context.only {
        if !may_read(context, upstream) {
            return forbidden(context, upstream, message);
        }
        return Target::upstream(Arc::clone(upstream), message.clone(), what);
    }
    let nothing =
        |message| refused(message, INVALID_PARAMS, "`params.ref` names nothing that this token reaches");
    if reference.get("uri").is_some() && reference.get("name").is_some() {
        // The name and the URI might contradict each other: one would decide the routing, the other
        // the answer.
        return nothing(message);
    }
    if let Some(uri) = reference.str("uri") {
        return match owner(context, &uri).await {
            Some(upstream) => Target::upstream(upstream, message.clone(), what),
            None => nothing(message),
        };
    }
    let called = reference.str("name").unwrap_or_default();
    let found = split(context, &called)
        .filter(|(upstream, _)| context.principal.scopes.reads_upstream(upstream.name.as_str()));
    let Some((upstream, name)) = found else { return nothing(message) };
    reference.set("name", raw(name));
    match Message::parse(message.with_param("ref", reference.to_raw().get())) {
        Ok(message) => Target::upstream(upstream, message, what),
        Err(_) => nothing(message),
    }
}

/// Returns the upstream that lists the resource or has a matching template. On `/mcp/NAME` returns
/// its single upstream.
pub(crate) async fn owner(context: &Context, uri: &str) -> Option<Arc<Upstream>> {
    let upstreams = context.readable();
    if context.only.is_some() {
        return upstreams.into_iter().next();
    }
    for list in [List::Resources, List::Templates] {
        let fetched =
            futures_util::future::join_all(upstreams.iter().map(|upstream| upstream.list(list))).await;
        for (upstream, items) in upstreams.iter().zip(fetched) {
            let has = |key: &str| key == uri || (list == List::Templates && fits(key, uri));
            if items.is_ok_and(|items| items.iter().any(|item| has(&item.key))) {
                return Some(Arc::clone(upstream));
            }
        }
    }
    None
}
