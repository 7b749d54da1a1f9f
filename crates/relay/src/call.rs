//! One request on its way to an upstream and its answer on the way back.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::envelope::{self, ENDED, Message, RawObject, UPSTREAM, raw};
use crate::registry::Entry;
use crate::reply::{self, Reply};
use crate::session::{Session, keep_alive};
use crate::sse;
use crate::upstream::{Fault, Link};

/// What happens to an upstream's messages on their way to the client.
#[derive(Clone)]
pub(crate) enum Shape {
    /// `/mcp`: ids of the server's requests name their upstream, so that the responses find back.
    Aggregate,
    /// `/mcp/NAME`: nothing.
    Raw,
    /// `/mcp/NAME` for a token of single tools: the list shows those alone.
    Tools(Arc<trustrelay_token::Principal>),
}

impl Shape {
    pub(crate) fn of(session: &Session) -> Self {
        if session.only.is_some() { Self::Raw } else { Self::Aggregate }
    }

    /// The message changed, if it has to be.
    fn message(&self, data: &str, upstream: &str) -> Option<String> {
        match self {
            Self::Raw => None,
            Self::Aggregate => {
                let message = Message::parse(data).ok().filter(Message::is_request)?;
                Some(message.with_id(raw(&format!("{upstream}/{}", message.id_json()))))
            }
            Self::Tools(principal) => {
                let whole = RawObject::parse(data).ok()?;
                whole.get("result")?;
                // A list that can't be read can't be filtered, and is not shown.
                Some(only_allowed(whole, principal, upstream).unwrap_or_else(|| {
                    let id = Message::parse(data).map_or("null".to_owned(), |m| m.id_json().to_owned());
                    envelope::error(&id, UPSTREAM, &Fault::Garbage.message(upstream))
                }))
            }
        }
    }

    /// An event on its way; `outcome` learns when the response passes.
    pub(crate) fn frame(&self, frame: Bytes, link: &Link, answered: Option<&mut bool>) -> Bytes {
        let Some(data) = sse::data(&frame) else { return frame };
        if let Ok(object) = RawObject::parse(&data) {
            if let Some(method) = object.str("method") {
                link.upstream.catalogue.forget(&method);
            } else if let Some(answered) = answered {
                *answered = true;
            }
        }
        match (self, self.message(&data, link.upstream.name.as_str())) {
            // Event ids of several upstreams can't be resumed from one stream: better none.
            (Self::Aggregate, changed) => sse::event(changed.as_deref().unwrap_or(&data)),
            (_, Some(changed)) => sse::with_data(&frame, &changed),
            (_, None) => frame,
        }
    }
}

/// A response to `tools/list` with the tools within the scopes, each as it came.
fn only_allowed(
    mut whole: RawObject,
    principal: &trustrelay_token::Principal,
    upstream: &str,
) -> Option<String> {
    let mut result = RawObject::parse(whole.get("result")?.get()).ok()?;
    let mut tools: Vec<Box<RawValue>> = serde_json::from_str(result.get("tools")?.get()).ok()?;
    tools.retain(|tool| {
        let name = RawObject::parse(tool.get()).ok().and_then(|tool| tool.str("name"));
        name.is_some_and(|name| principal.scopes.reach(upstream, &name) == trustrelay_token::Reach::Whole)
    });
    result.set("tools", raw(&tools));
    whole.set("result", result.to_raw());
    Some(whole.to_raw().get().to_owned())
}

/// One call.
pub(crate) struct Call {
    pub(crate) session: Arc<Session>,
    pub(crate) entry: Entry,
    pub(crate) link: Arc<Link>,
    /// The id's JSON.
    pub(crate) id: String,
    /// For the log line.
    pub(crate) what: String,
    pub(crate) body: String,
    pub(crate) shape: Shape,
    /// Opened again and repeated if the upstream has lost its session.
    pub(crate) retry: bool,
}

impl Call {
    /// Runs in a task of its own: in the session era a client that goes away has not cancelled.
    pub(crate) async fn run(self) -> Reply {
        let (head, answer) = oneshot::channel();
        let id = self.id.clone();
        let tasks = self.session.tasks.clone();
        tasks.spawn(self.drive(head));
        answer.await.unwrap_or_else(|_| reply::ended(&id))
    }

    async fn drive(mut self, head: oneshot::Sender<Reply>) {
        let started = Instant::now();
        self.session.calls.lock().insert(self.id.clone(), Arc::clone(&self.link));
        let (cut, gone) = (self.entry.cancel.clone(), self.session.entry.cancel.clone());
        let mut head = Some(head);
        let mut events = None;
        let outcome = tokio::select! {
            biased;
            () = cut.cancelled() => None,
            () = gone.cancelled() => None,
            outcome = self.exchange(&mut head, &mut events) => Some(outcome),
        };
        let outcome = match outcome {
            Some(Ok(outcome)) => outcome,
            Some(Err(fault)) => {
                let error =
                    envelope::error(&self.id, UPSTREAM, &fault.message(self.link.upstream.name.as_str()));
                self.end(head, events, reply::json(StatusCode::OK, error.clone()), &error);
                fault.outcome()
            }
            None => {
                let error = envelope::error(&self.id, ENDED, reply::ENDED_MESSAGE);
                self.end(head, events, reply::ended(&self.id), &error);
                let note = format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"the session ended"}}}}"#,
                    self.id
                );
                let _ = self.link.notify(note).await;
                "cut"
            }
        };
        self.session.calls.lock().remove(&self.id);
        let upstream = self.link.upstream.name.as_str().to_owned();
        tracing::info!(
            upstream, tool = self.what, outcome, duration_ms = started.elapsed().as_millis() as u64,
            pat_id = %self.session.pat_id, "call"
        );
        metrics::counter!("trustrelay_mcp_calls_total", "upstream" => upstream, "outcome" => outcome)
            .increment(1);
    }

    /// The last word to the client: the answer itself, or an event if it streams already.
    fn end(
        &self,
        head: Option<oneshot::Sender<Reply>>,
        events: Option<mpsc::Sender<Bytes>>,
        answer: Reply,
        error: &str,
    ) {
        if let Some(head) = head {
            let _ = head.send(answer);
        } else if let Some(events) = events {
            let _ = events.try_send(sse::event(error));
        }
    }

    async fn exchange(
        &mut self,
        head: &mut Option<oneshot::Sender<Reply>>,
        events: &mut Option<mpsc::Sender<Bytes>>,
    ) -> Result<&'static str, Fault> {
        let wait = self.link.upstream.limits.first_byte;
        let mut answer = match self.link.post(self.body.clone(), wait).await {
            // 404 with a session id says that the request was not looked at: repeating it is safe.
            Err(Fault::SessionGone) if self.retry => {
                self.session.drop_link(&self.link).await;
                self.link = self.session.link(&Arc::clone(&self.link.upstream)).await?;
                self.session.calls.lock().insert(self.id.clone(), Arc::clone(&self.link));
                self.link.post(self.body.clone(), wait).await?
            }
            other => other?,
        };
        if !answer.is_stream {
            let body = answer.whole().await?;
            let text = std::str::from_utf8(&body).map_err(|_| Fault::Garbage)?;
            let object = RawObject::parse(text).ok();
            let is_rpc =
                object.as_ref().is_some_and(|o| o.get("result").is_some() || o.get("error").is_some());
            if !is_rpc {
                return Err(if answer.status.is_success() {
                    Fault::Garbage
                } else {
                    Fault::Refused(answer.status)
                });
            }
            let changed = self.shape.message(text, self.link.upstream.name.as_str());
            if let Some(head) = head.take() {
                let _ = head.send(reply::json(StatusCode::OK, changed.map_or(body, Bytes::from)));
            }
            let failed = object.is_some_and(|o| o.get("error").is_some());
            return Ok(if failed { "error" } else { "ok" });
        }
        if !answer.status.is_success() {
            return Err(Fault::Refused(answer.status));
        }
        let (sender, frames) = mpsc::channel(16);
        *events = Some(sender.clone());
        if let Some(head) = head.take() {
            let _ = head.send(reply::stream(frames));
        }
        let mut answered = false;
        let every = self.link.upstream.limits.keep_alive;
        loop {
            let next = tokio::select! {
                next = answer.frame() => next?,
                () = keep_alive(&sender, every), if !sender.is_closed() => continue,
            };
            let Some(frame) = next else { break };
            let frame = self.shape.frame(frame, &self.link, Some(&mut answered));
            // A client that went away doesn't end the call; nobody reads the rest.
            let _ = sender.send(frame).await;
        }
        if answered { Ok("ok") } else { Err(Fault::Garbage) }
    }
}
