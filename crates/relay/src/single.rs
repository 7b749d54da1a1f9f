//! `/mcp/NAME`: one upstream, passed through byte for byte where both sides speak the same era.
//! Only the session id is the relay's own.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::call::{Call, Client, Conveyance};
use crate::context::Context;
use crate::envelope::{self, Message, RawObject, UPSTREAM};
use crate::era::{self, Era, SESSION, SESSION_VERSIONS, Sender};
use crate::registry::Entry;
use crate::reply::{self, Reply};
use crate::routes::{Routed, Target, UNREADABLE, failed, faulty, target};
use crate::serve;
use crate::session::Session;
use crate::upstream::{Exchange, Fault, Link, Server, Upstream, add_both_kinds};

/// Handles `initialize`. Returns the upstream's own answer if it speaks the session era, otherwise
/// an answer built from its description.
pub(crate) async fn initialize(
    context: &Context,
    upstream: &Arc<Upstream>,
    headers: &HeaderMap,
    message: &Message,
) -> Result<Reply, Reply> {
    let fail = |fault| faulty(message.id(), upstream, fault);
    if !upstream.is_stdio() && upstream.may_speak_session() {
        let wait = upstream.limits.initialize;
        let sent = tokio::time::timeout(wait, upstream.initialize(message, era::travelling(headers)));
        let (status, own, response) = sent.await.unwrap_or(Err(Fault::Slow)).map_err(fail)?;
        if let Some(result) = response.as_ref().and_then(|response| RawObject::parse(response.result()?).ok())
        {
            let version = result.str("protocolVersion").unwrap_or_else(|| SESSION_VERSIONS[0].to_owned());
            let server = Server {
                version,
                capabilities: result.object("capabilities").unwrap_or_default(),
                ..Server::default()
            };
            let link = Link::adopted(upstream, own, server);
            upstream.speaks_session();
            let text = response.map(Message::into_text).unwrap_or_default();
            return match context.relay.begin(context, &message.params(), Some(Arc::clone(&link))) {
                Ok(session) => Ok(with_id(reply::json(StatusCode::OK, text), &session)),
                Err(refusal) => {
                    // The token was revoked meanwhile, or there are too many sessions. The
                    // upstream's session must not leak.
                    link.close().await;
                    Err(refusal)
                }
            };
        }
        if upstream.stateless().await.map_err(fail)?.is_none() {
            return match response {
                Some(response) => Ok(reply::json(status, response.into_text())),
                None => Err(fail(Fault::Refused(status))),
            };
        }
    }
    let session = context.relay.begin(context, &message.params(), None)?;
    let registry = &context.relay.0.registry;
    let link = match session.link(upstream, registry, &context.principal).await {
        Ok(link) => link,
        Err(fault) => {
            session.entry.cancel.cancel();
            return Err(fail(fault));
        }
    };
    let result = match (&link.server.initialized, link.era) {
        (Some(result), Era::Session) => envelope::result(message.id(), result),
        _ => {
            let made = serve::initialized(&link.server, message.param_str("protocolVersion"));
            envelope::result(message.id(), &made)
        }
    };
    Ok(with_id(reply::json(StatusCode::OK, result), &session))
}

pub(crate) fn with_id(mut reply: Reply, session: &Session) -> Reply {
    if let Ok(id) = HeaderValue::from_str(&session.id) {
        reply.headers_mut().insert(SESSION, id);
    }
    reply
}

/// Handles a request within a session.
pub(crate) async fn session_request(
    context: &Context,
    headers: &HeaderMap,
    session: Arc<Session>,
    entry: Entry,
    message: Message,
) -> Reply {
    let Routed { upstream, message, what, mirrored } = match target(context, &message, Era::Session).await {
        Some(Target::Upstream(routed)) => *routed,
        Some(Target::Refused(reply)) => return *reply,
        Some(Target::Builtin(_)) | None => return reply::no_token(),
    };
    let registry = &context.relay.0.registry;
    let link = match session.link(&upstream, registry, &context.principal).await {
        Ok(link) => link,
        Err(fault) => return failed(context, &upstream, &what, &message, fault),
    };
    let shared = upstream.is_stdio()
        && message.method().starts_with("resources/")
        && message.method().ends_with("subscribe");
    if link.era == Era::Stateless || shared {
        return Box::pin(serve::session_request(context, session, entry, message)).await;
    }
    let conveyance = conveyance(context, &upstream, &message);
    let (client, context) = (Client::Session(session), context.clone());
    let headers = era::travelling_in_session(headers);
    Call { context, client, entry, link, message, what, conveyance, headers, mirrored }.run().await
}

fn conveyance(context: &Context, upstream: &Upstream, message: &Message) -> Conveyance {
    let filtered = message.method() == "tools/list" && !context.may_call_all(upstream);
    if filtered { Conveyance::OnlyAllowed } else { Conveyance::Raw }
}

/// Handles a notification or a response within a session.
pub(crate) async fn session_said(
    context: &Context,
    upstream: &Arc<Upstream>,
    session: &Arc<Session>,
    message: Message,
) -> Reply {
    let registry = &context.relay.0.registry;
    let link = match session.link(upstream, registry, &context.principal).await {
        Ok(link) => link,
        Err(fault) => return faulty(message.id(), upstream, fault),
    };
    if link.era == Era::Stateless || upstream.is_stdio() {
        return serve::session_said(context, session, message).await;
    }
    if message.method() == "notifications/cancelled"
        && let Some(flight) = session.in_flight(&message)
    {
        // The upstream's reaction to the cancellation is still forwarded for a while.
        flight.cancel.cancel();
    }
    match link.notify(message.into_text()).await {
        Ok(()) => reply::empty(StatusCode::ACCEPTED),
        // The subject of the notification is gone with the upstream's session. The next request
        // starts a new one.
        Err(Fault::SessionGone) => {
            session.drop_link(&link).await;
            reply::empty(StatusCode::ACCEPTED)
        }
        Err(Fault::Refused(status)) if matches!(status.as_u16(), 400 | 404..=406 | 409..) => {
            reply::refused(status, &Fault::Refused(status).message(upstream.name.as_str()))
        }
        Err(fault) => {
            let error = envelope::error("null", UPSTREAM, &fault.message(upstream.name.as_str()));
            reply::json(StatusCode::BAD_GATEWAY, error)
        }
    }
}

/// Handles a stateless request for an upstream of that era. The caller has compared its headers
/// with its body.
pub(crate) async fn stateless_request(
    context: &Context,
    headers: &HeaderMap,
    link: Arc<Link>,
    entry: Entry,
    message: Message,
) -> Reply {
    let Routed { upstream, message, what, mirrored } = match target(context, &message, Era::Stateless).await {
        Some(Target::Upstream(routed)) => *routed,
        Some(Target::Refused(reply)) => return *reply,
        Some(Target::Builtin(_)) | None => return reply::no_token(),
    };
    if message.method() == "subscriptions/listen"
        && !context.principal.scopes.reads_upstream(upstream.name.as_str())
        && !message.param("notifications").is_some_and(names_lists_alone)
    {
        return reply::insufficient_scope(message.id(), &format!("mcp:{}", upstream.name));
    }
    let conveyance = conveyance(context, &upstream, &message);
    let client = Client::Stateless(Sender::default());
    let Ok(headers) = era::travelling_stateless(headers, &message, mirrored.as_ref()) else {
        return reply::refused(StatusCode::BAD_REQUEST, UNREADABLE);
    };
    let context = context.clone();
    Call { context, client, entry, link, message, what, conveyance, headers, mirrored }.run().await
}

/// Returns whether a filter asks only for changes of lists, and for nothing else in any spelling.
fn names_lists_alone(filter: &str) -> bool {
    let lists = ["toolsListChanged", "promptsListChanged", "resourcesListChanged"];
    RawObject::parse(filter).is_ok_and(|filter| filter.iter().all(|(name, _)| lists.contains(&name)))
}

/// Opens the upstream's own stream for a session's GET.
pub(crate) async fn stream(link: &Link, headers: &HeaderMap) -> Result<Exchange, Fault> {
    link.stream(headers.get("last-event-id")).await.map(Exchange::Http)
}

impl Upstream {
    /// Forwards a client's own `initialize`. Returns the status, the upstream's session id, and the
    /// message if it is a response.
    async fn initialize(
        self: &Arc<Self>,
        message: &Message,
        mut headers: HeaderMap,
    ) -> Result<(StatusCode, Option<HeaderValue>, Option<Message>), Fault> {
        let wait = self.limits.initialize;
        add_both_kinds(&mut headers);
        let answer = self.send(Method::POST, headers, message.text().to_owned(), wait).await?;
        let (status, own) = (answer.status, answer.session.clone());
        let response = Exchange::Http(answer).response().await;
        match response {
            Ok(response) => Ok((status, own, Some(response))),
            Err(Fault::Garbage) if !status.is_success() => Ok((status, own, None)),
            Err(fault) => Err(fault),
        }
    }
}
