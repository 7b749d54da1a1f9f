//! A call: the request to the upstream and the answer to the client, in any combination of eras.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub(crate) use crate::client::Client;
use crate::context::Context;
use crate::envelope::{self, INTERNAL, Message, RawObject, UPSTREAM};
use crate::era::{Era, Sender};
use crate::outlet::Outlet;
use crate::record::CallRecord;
use crate::registry::Entry;
use crate::reply::{self, Reply};
use crate::session::{InFlight, set_level};
use crate::trace;
use crate::translate;
use crate::upstream::{Event, Exchange, Fault, Key, Link};

/// The way in which the upstream's answer is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conveyance {
    /// Byte for byte: on `/mcp/NAME`, where both sides speak the same era.
    Raw,
    /// Message by message.
    Messages,
    /// Message by message. A list of tools is reduced to the tools that the scopes allow.
    OnlyAllowed,
}

pub(crate) struct Call {
    pub(crate) context: Context,
    pub(crate) client: Client,
    pub(crate) entry: Entry,
    pub(crate) link: Arc<Link>,
    /// The request in the upstream's terms, under the client's id.
    pub(crate) message: Message,
    /// The name for the record of use: the tool, or the method.
    pub(crate) what: String,
    pub(crate) conveyance: Conveyance,
    /// The client's own headers, where they are forwarded.
    pub(crate) headers: HeaderMap,
    /// The tool's schema, if the tool wants parameters as headers.
    pub(crate) mirrored: Option<serde_json::Value>,
}

/// The outcome of a call that ended by itself.
enum End {
    Answered(&'static str),
    /// The upstream ended its stream before it answered.
    Unanswered,
    /// The client disconnected, which cancels the request in the stateless era.
    Cancelled,
}

/// An upstream's response, translated for the client.
enum Made {
    Answer(StatusCode, bytes::Bytes),
    Ask(translate::InputRequired),
}

impl Call {
    /// Runs in the caller's task, and in a task of its own once the answer has become a stream.
    pub(crate) async fn run(self) -> Reply {
        let (outlet, waiting) = Outlet::new(self.context.gone.clone());
        let id = self.message.id().to_owned();
        let span = trace::call(self.link.upstream.name.as_str());
        let tasks = match &self.client {
            Client::Session(session) => session.tasks.clone(),
            Client::Stateless(_) => self.context.relay.0.tasks.clone(),
        };
        let driven = Box::pin(tasks.track_future(self.drive(outlet).instrument(span)));
        let (reply, rest) = waiting.reply_of(driven, || reply::ended(&id)).await;
        if let Some(rest) = rest {
            tokio::spawn(rest.in_current_span());
        }
        reply
    }

    async fn drive(mut self, mut outlet: Outlet) {
        let (started, at) = (Instant::now(), crate::clock::now());
        let bytes_in = self.message.text().len() as u64;
        let mut id = self.message.id().to_owned();
        let cancel = CancellationToken::new();
        let _on_the_link = self.link.calls.token();
        if let Client::Session(session) = &self.client {
            let flight = InFlight { link: Arc::clone(&self.link), cancel: cancel.clone() };
            session.calls.lock().insert(id.clone(), flight);
        }
        let cut = self.entry.cancel.clone();
        let session = match &self.client {
            Client::Session(session) => Some(session.entry.cancel.clone()),
            Client::Stateless(_) => None,
        };
        // A forwarded cancellation lets the upstream's reaction pass for a grace period.
        let grace = match self.conveyance {
            Conveyance::Raw if !self.link.upstream.is_stdio() => self.link.upstream.limits.farewell,
            _ => std::time::Duration::ZERO,
        };
        let cancelled = async {
            cancel.cancelled().await;
            if !grace.is_zero() {
                sleep(grace).await;
            }
        };
        let mut sent = None;
        // Checked after registering. A change that takes the upstream away takes effect before it
        // cuts, so either this check fails or the cut finds the entry.
        let is_there = self.context.principal.upstreams.allow(self.link.upstream.name.as_str());
        let end = tokio::select! {
            biased;
            () = std::future::ready(()), if !is_there => None,
            () = cut.cancelled() => None,
            () = cancelled_if_any(session.as_ref()) => None,
            () = cancelled => Some(Ok(End::Cancelled)),
            end = self.exchange(&mut outlet, &mut id, &mut sent) => Some(end),
        };
        // A cancelled request gets no response, which is not a fault.
        let end = match end {
            Some(Ok(End::Unanswered) | Err(_)) if cancel.is_cancelled() => Some(Ok(End::Cancelled)),
            end => end,
        };
        let outcome = match end {
            Some(Ok(End::Answered(outcome))) => outcome,
            Some(Ok(End::Unanswered)) => {
                outlet.close();
                "ok"
            }
            Some(Ok(End::Cancelled)) => {
                outlet.close();
                if self.conveyance != Conveyance::Raw {
                    Box::pin(self.tell_cancelled(sent.as_deref(), "the client cancelled")).await;
                }
                "cancelled"
            }
            Some(Err(fault)) => {
                let text = fault.message(self.link.upstream.name.as_str());
                let error = envelope::error(&id, UPSTREAM, &text);
                let status = self.status_of(fault);
                outlet.end(reply::json(status, error.clone()), &error);
                if matches!(fault, Fault::Slow | Fault::TooLarge) {
                    Box::pin(self.tell_cancelled(sent.as_deref(), "no answer in time")).await;
                }
                fault.outcome()
            }
            None => {
                let (answer, error) = reply::cut(&self.context.principal, &id);
                outlet.end(answer, &error);
                Box::pin(self.tell_cancelled(sent.as_deref(), "the session ended")).await;
                "cut"
            }
        };
        if let Client::Session(session) = &self.client {
            session.calls.lock().remove(self.message.id());
        }
        let principal = &self.context.principal;
        let call = CallRecord {
            at,
            pat_id: self.context.pat_id,
            user_id: principal.user_id,
            upstream: self.link.upstream.name.to_string(),
            tool: self.what,
            outcome,
            duration: started.elapsed(),
            bytes_in,
            bytes_out: outlet.bytes,
        };
        self.context.relay.0.records.note(call);
    }

    async fn tell_cancelled(&self, id: Option<&str>, reason: &str) {
        if let Some(id) = id {
            self.link.cancelled(id, reason).await;
        }
    }

    fn era(&self) -> Era {
        match self.client {
            Client::Session(_) => Era::Session,
            Client::Stateless(_) => Era::Stateless,
        }
    }

    /// Session clients look only at the body. Raw answers pass the upstream's status on too.
    fn status_of(&self, fault: Fault) -> StatusCode {
        match fault {
            Fault::Refused(status) if self.conveyance == Conveyance::Raw => match status.as_u16() {
                // Concerns the relay's own credential, not the client's.
                401 | 403 | 407 => StatusCode::BAD_GATEWAY,
                400.. => status,
                _ => StatusCode::OK,
            },
            _ => StatusCode::OK,
        }
    }

    /// Sends the request, and once more on a new session if the upstream has lost its session:
    /// status 404 to a session id means that the request was not processed.
    async fn send(&mut self, message: &Message, sent: &mut Option<String>) -> Result<Exchange, Fault> {
        if let Client::Stateless(Sender { log_level: Some(level), .. }) = &self.client {
            // Boxed here and below, so that rare paths do not enlarge the future of every call.
            Box::pin(set_level(&self.link, level)).await;
        }
        let (text, headers, id) = self.traced(message);
        *sent = Some(id);
        match self.link.call(text, headers, self.client.asker()).await {
            Err(Fault::SessionGone) => Box::pin(self.send_again(message, sent)).await,
            other => other,
        }
    }

    async fn send_again(&mut self, message: &Message, sent: &mut Option<String>) -> Result<Exchange, Fault> {
        let registry = &self.context.relay.0.registry;
        let principal = &self.context.principal;
        let upstream = Arc::clone(&self.link.upstream);
        self.link = match &self.client {
            Client::Session(session) => {
                session.drop_link(&self.link).await;
                let link = session.link(&upstream, registry, principal).await?;
                if let Some(flight) = session.calls.lock().get_mut(message.id()) {
                    flight.link = Arc::clone(&link);
                }
                link
            }
            Client::Stateless(sender) => {
                let key = Key::new(self.context.pat_id, "", &sender.capabilities);
                upstream.pool.forget(&key, &self.link).await;
                self.context.stateless_link(&upstream, sender).await?
            }
        };
        let (text, headers, id) = self.traced(message);
        *sent = Some(id);
        self.link.call_on_new(text, headers, self.client.asker()).await
    }

    async fn exchange(
        &mut self,
        outlet: &mut Outlet,
        id: &mut String,
        sent: &mut Option<String>,
    ) -> Result<End, Fault> {
        let mut message = self.message.clone();
        'asked: loop {
            let Some(mut exchange) = self.begun(&message, outlet, sent).await? else {
                return Ok(End::Cancelled);
            };
            if exchange.is_stream() && self.conveyance == Conveyance::Raw {
                outlet.begin();
            }
            let status = exchange.status();
            if matches!(status.as_u16(), 401 | 403 | 407) {
                // Concerns the relay's own credential, so the body may as well.
                return Err(Fault::Refused(status));
            }
            let mut answered = None;
            loop {
                let Some(event) = (match self.next(&mut exchange, outlet, answered.is_some()).await? {
                    Some(event) => event,
                    None => return Ok(answered.map_or(End::Cancelled, End::Answered)),
                }) else {
                    return match answered {
                        Some(outcome) => Ok(End::Answered(outcome)),
                        // A client can resume a session-era stream on another connection.
                        None if self.conveyance == Conveyance::Raw
                            && exchange.is_stream()
                            && status.is_success() =>
                        {
                            Ok(End::Unanswered)
                        }
                        None => Err(Fault::Garbage),
                    };
                };
                let Event { frame, message: Some(found) } = event else {
                    if !exchange.is_stream() {
                        return Err(if status.is_success() {
                            Fault::Garbage
                        } else {
                            Fault::Refused(status)
                        });
                    }
                    if self.conveyance == Conveyance::Raw {
                        outlet.frame(event.frame).await;
                    }
                    continue;
                };
                if found.is_response() && !is_to(&found, sent.as_deref()) {
                    match exchange.is_stream() {
                        true if self.conveyance == Conveyance::Raw => outlet.frame(frame).await,
                        true => {}
                        // A server that could not parse a request answers under an id of its own.
                        false if !status.is_success() => return Err(Fault::Refused(status)),
                        false => return Err(Fault::Garbage),
                    }
                    continue;
                }
                if found.is_response() {
                    let outcome = if found.has_failed() { "error" } else { "ok" };
                    if self.conveyance == Conveyance::Raw && exchange.is_stream() {
                        outlet.frame(frame).await;
                        answered = Some(outcome);
                        continue;
                    }
                    match self.made(frame, &found, id, status)? {
                        Made::Answer(status, text) => {
                            exchange.leave();
                            outlet.finish(status, text).await;
                            return Ok(End::Answered(outcome));
                        }
                        Made::Ask(asked) => match Box::pin(self.ask(outlet, asked, &message)).await? {
                            Some(retry) => {
                                message = retry;
                                continue 'asked;
                            }
                            None => {
                                let why = "the client did not answer the upstream's request";
                                let error = envelope::error(id, INTERNAL, why);
                                outlet.finish(StatusCode::OK, error).await;
                                return Ok(End::Answered("error"));
                            }
                        },
                    }
                }
                if self.conveyance == Conveyance::Raw && exchange.is_stream() {
                    self.link.upstream.heard(found.method());
                    outlet.frame(frame).await;
                } else if found.is_request() && self.era() == Era::Stateless {
                    match Box::pin(self.park(outlet, id, &found)).await? {
                        Some(()) => {}
                        None => return Ok(End::Cancelled),
                    }
                } else if let Some(text) = self.shown(&found, sent.as_deref()) {
                    outlet.message(&text).await;
                }
            }
        }
    }

    /// Sends the request and waits for the head of the answer. Keeps the client's stream alive.
    /// Returns `None` if the client has cancelled.
    async fn begun(
        &mut self,
        message: &Message,
        outlet: &mut Outlet,
        sent: &mut Option<String>,
    ) -> Result<Option<Exchange>, Fault> {
        let limits = &self.link.upstream.limits;
        let (keep_alive, quiet) = (limits.keep_alive, limits.quiet);
        let gone = self.guarded(outlet.gone.clone());
        let sending = self.send(message, sent);
        tokio::pin!(sending);
        loop {
            let pause = if outlet.is_streaming() { keep_alive } else { quiet };
            tokio::select! {
                exchange = &mut sending => return exchange.map(Some),
                () = cancelled_if_any(gone.as_ref()) => return Ok(None),
                () = sleep(pause) => outlet.keep_alive().await,
            }
        }
    }

    /// Returns the token that a stateless client's disconnect cancels. Sessions cancel explicitly.
    fn guarded(&self, gone: CancellationToken) -> Option<CancellationToken> {
        (self.era() == Era::Stateless).then_some(gone)
    }

    /// Waits for the next event and keeps the client's stream alive. The outer `None` means that
    /// the client cancelled, or disconnected after the response (`answered`).
    async fn next(
        &self,
        exchange: &mut Exchange,
        outlet: &mut Outlet,
        answered: bool,
    ) -> Result<Option<Option<Event>>, Fault> {
        let limits = &self.link.upstream.limits;
        let deadline = Instant::now() + limits.first_byte;
        let gone = match answered {
            true => Some(outlet.gone.clone()),
            false => self.guarded(outlet.gone.clone()),
        };
        let cancelled = cancelled_if_any(gone.as_ref());
        tokio::pin!(cancelled);
        loop {
            let pause = if outlet.is_streaming() { limits.keep_alive } else { limits.quiet };
            tokio::select! {
                event = exchange.next() => return Ok(Some(event?)),
                () = &mut cancelled => return Ok(None),
                () = sleep(pause) => {}
            }
            // Only a streaming upstream may take unlimited time.
            if !exchange.is_stream() && !self.link.upstream.is_stdio() && Instant::now() > deadline {
                return Err(Fault::Slow);
            }
            outlet.keep_alive().await;
        }
    }

    /// Translates a message for the client. Returns `None` if the client must not see it.
    fn shown(&self, message: &Message, sent: Option<&str>) -> Option<String> {
        let method = message.method();
        match &self.client {
            Client::Session(session) => {
                if method.ends_with("/list_changed") {
                    self.link.upstream.heard(method);
                    return None;
                }
                Some(session.shown(&self.link, message))
            }
            Client::Stateless(sender) => match (method, self.link.era) {
                ("notifications/progress", Era::Session) => {
                    let token = message.param("progressToken")?;
                    let ours: String = serde_json::from_str(token).ok()?;
                    if Some(ours.as_str()) != sent {
                        return None;
                    }
                    let meta = self.message.meta()?;
                    Some(message.with_param("progressToken", meta.get("progressToken")?.get()))
                }
                ("notifications/message", Era::Session) => {
                    sender.log_level.as_ref().map(|_| message.text().to_owned())
                }
                // A stateless request's stream carries only messages about that request.
                (_, Era::Session) => {
                    self.link.upstream.heard(method);
                    None
                }
                (_, Era::Stateless) => Some(message.text().to_owned()),
            },
        }
    }

    /// Translates the upstream's response for the client.
    fn made(
        &self,
        frame: bytes::Bytes,
        found: &Message,
        id: &str,
        status: StatusCode,
    ) -> Result<Made, Fault> {
        let filtered = match self.conveyance {
            Conveyance::OnlyAllowed if found.result().is_some() => {
                // A list that cannot be parsed cannot be filtered, so it is not passed on.
                let text = self.context.only_allowed(found, &self.link.upstream).ok_or(Fault::Garbage)?;
                Some(Message::parse(text).map_err(|_| Fault::Garbage)?)
            }
            _ => None,
        };
        let message = filtered.as_ref().unwrap_or(found);
        let code = || {
            let error = RawObject::parse(message.error()?).ok()?;
            serde_json::from_str::<i64>(error.get("code")?.get()).ok()
        };
        let answer = |status, text: String| Ok(Made::Answer(status, text.into()));
        match (&self.client, self.link.era) {
            _ if self.conveyance == Conveyance::Raw => {
                let status = match (self.link.upstream.is_stdio(), self.link.era) {
                    (false, _) => status,
                    (true, Era::Session) => StatusCode::OK,
                    (true, Era::Stateless) => code().map_or(StatusCode::OK, translate::stateless_status),
                };
                Ok(Made::Answer(status, frame))
            }
            (Client::Session(_), Era::Session) => answer(StatusCode::OK, message.text().to_owned()),
            (Client::Session(_), Era::Stateless) => match translate::input_required(message) {
                Some(asked) => Ok(Made::Ask(asked)),
                None => answer(StatusCode::OK, message.with_id(id)),
            },
            (Client::Stateless(_), Era::Stateless) => {
                let status = code().map_or(StatusCode::OK, translate::stateless_status);
                answer(status, message.text().to_owned())
            }
            (Client::Stateless(_), Era::Session) => {
                let server = self.link.server.info.as_deref();
                let made = translate::response_to_stateless(message, id, self.message.method(), server);
                let (status, text) = made.ok_or(Fault::Garbage)?;
                answer(status, text)
            }
        }
    }
}

/// Waits for the cancellation of a token, or forever if there is no token.
async fn cancelled_if_any(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Returns whether a response answers this request. A response without an id always does.
fn is_to(response: &Message, sent: Option<&str>) -> bool {
    response.id() == "null" || sent.is_none_or(|sent| envelope::is_same_id(response.id(), sent))
}
