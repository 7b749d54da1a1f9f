//! `/mcp/NAME`: one upstream alone, byte for byte. Only the session's id is the relay's own.

use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode};

use crate::call::{Call, Shape};
use crate::envelope::{self, Message, RawObject, UPSTREAM};
use crate::front::{Context, VERSIONS};
use crate::registry::Entry;
use crate::reply::{self, Reply};
use crate::session::Session;
use crate::upstream::{Fault, Link, SESSION, Upstream, both_kinds};

pub(crate) async fn initialize(
    context: &Context,
    upstream: &Arc<Upstream>,
    message: &Message,
) -> Result<Reply, Reply> {
    let failed = |fault: Fault| {
        let text = fault.message(upstream.name.as_str());
        reply::json(StatusCode::OK, envelope::error(message.id_json(), UPSTREAM, &text))
    };
    let wait = upstream.limits.initialize;
    let exchange = async {
        let body = Some(message.whole.clone());
        let mut answer = upstream.send(Method::POST, None, &both_kinds(), body, wait).await?;
        let session = answer.session.clone();
        if !answer.status.is_success() {
            return Err(Fault::Refused(answer.status));
        }
        Ok((session, answer.response().await?))
    };
    let (session, response) =
        tokio::time::timeout(wait, exchange).await.unwrap_or(Err(Fault::Slow)).map_err(failed)?;
    let result = response.get("result").and_then(|result| RawObject::parse(result.get()).ok());
    let version = result.and_then(|r| r.str("protocolVersion")).unwrap_or_else(|| VERSIONS[0].to_owned());
    let init =
        message.params.as_ref().and_then(|p| RawObject::parse(p.to_raw().get()).ok()).unwrap_or_default();
    let mut answer = reply::json(StatusCode::OK, response.to_raw().get().to_owned());
    if response.get("result").is_some() {
        let link = Link::adopted(upstream, session, version);
        let ours = Some(Arc::clone(&link));
        let opened = context.relay.open_session(&context.principal, context.pat_id, init, ours).await;
        let opened = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                // Revoked meanwhile, or too many: the upstream's session must not be left over.
                link.close().await;
                return Err(refusal);
            }
        };
        if let Ok(id) = HeaderValue::from_str(&opened.id) {
            answer.headers_mut().insert(SESSION, id);
        }
    }
    Ok(answer)
}

pub(crate) async fn handle(
    context: &Context,
    upstream: &Arc<Upstream>,
    session: Arc<Session>,
    entry: Entry,
    message: Message,
) -> Reply {
    let name = upstream.name.as_str();
    let scopes = &context.principal.scopes;
    let method = message.method.clone().unwrap_or_default();
    let all = scopes.allows_upstream(name);
    let mut what = method.clone();
    if method == "tools/call" {
        let Some(tool) = message.param("name") else {
            let error =
                envelope::error(message.id_json(), envelope::INVALID_PARAMS, "`params.name` is missing");
            return reply::json(StatusCode::OK, error);
        };
        if scopes.reach(name, &tool) != trustrelay_token::Reach::Whole {
            return reply::insufficient_scope(message.id_json(), &format!("mcp:{name}/{tool}"));
        }
        what = tool;
    } else if !all && ["prompts/", "resources/", "completion/"].iter().any(|p| method.starts_with(p)) {
        return reply::insufficient_scope(message.id_json(), &format!("mcp:{name}"));
    }
    let fail = |fault: Fault| {
        reply::json(StatusCode::OK, envelope::error(message.id_json(), UPSTREAM, &fault.message(name)))
    };
    let link = match session.link(upstream).await {
        Ok(link) => link,
        Err(fault) => return fail(fault),
    };
    if !message.is_request() {
        let _ = link.notify(message.whole).await;
        return reply::empty(StatusCode::ACCEPTED);
    }
    let filtered = method == "tools/list" && !all;
    let shape = if filtered { Shape::Tools(Arc::clone(&context.principal)) } else { Shape::Raw };
    let id = message.id_json().to_owned();
    Call { session, entry, link, id, what, body: message.whole, shape, retry: true }.run().await
}
