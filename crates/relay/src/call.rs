//! One request on its way to an upstream and its answer on the way back, whatever the eras of the two.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::context::Context;
use crate::envelope::{self, INTERNAL, Message, RawObject, UPSTREAM};
use crate::era::{Era, Sender};
use crate::outlet::Outlet;
use crate::record::CallRecord;
use crate::registry::Entry;
use crate::reply::{self, Reply};
use crate::session::{InFlight, Session, set_level};
use crate::trace;
use crate::translate;
use crate::upstream::{Event, Exchange, Fault, Key, Link};

/// Who asks.
pub(crate) enum Client {
    Session(Arc<Session>),
    Stateless(Sender),
}

/// How much of the bytes passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conveyance {
    /// Every byte: `/mcp/NAME`, where both sides speak the same era.
    Raw,
    /// Message by message.
    Messages,
    /// Message by message, a list of tools only as far as the scopes reach.
    OnlyAllowed,
}

/// One call.
pub(crate) struct Call {
    pub(crate) context: Context,
    pub(crate) client: Client,
    pub(crate) entry: Entry,
    pub(crate) link: Arc<Link>,
    /// As the upstream is to understand it, under the client's id.
    pub(crate) message: Message,
    /// For the record: the tool, or the method.
    pub(crate) what: String,
    pub(crate) conveyance: Conveyance,
    /// The client's own headers, where they travel.
    pub(crate) headers: HeaderMap,
    /// The tool's schema, where it asks for parameters as headers.
    pub(crate) mirrored: Option<serde_json::Value>,
}

/// How a call ended, when it did so by itself.
enum End {
    Answered(&'static str),
    /// The upstream has ended its stream before its answer.
    Unanswered,
    /// The client went away, which in the stateless era says that it cancels.
    Cancelled,
}

/// What was made of an upstream's response.
enum Made {
    Answer(StatusCode, bytes::Bytes),
    Ask(translate::InputRequired),
}

impl Call {
    /// Runs where it is awaited, and in a task of its own once the answer has become a stream.
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
        // Where the client's own word has passed, what the upstream says to it passes as well.
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
        // Asked after the entry was registered: whoever takes the upstream from the account says so first, and cuts what is registered second.
        let is_there = self.context.principal.upstreams.allow(self.link.upstream.name.as_str());
        let end = tokio::select! {
            biased;
            () = std::future::ready(()), if !is_there => None,
            () = cut.cancelled() => None,
            () = cancelled_if_any(session.as_ref()) => None,
            () = cancelled => Some(Ok(End::Cancelled)),
            end = self.exchange(&mut outlet, &mut id, &mut sent) => Some(end),
        };
        // Nobody answers to what was cancelled, and that is no fault.
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

    /// A session client looks at errors in the body alone; where bytes pass, the status does too.
    fn status_of(&self, fault: Fault) -> StatusCode {
        match fault {
            Fault::Refused(status) if self.conveyance == Conveyance::Raw => match status.as_u16() {
                // About the relay's own credential, and no business of the client's.
                401 | 403 | 407 => StatusCode::BAD_GATEWAY,
                400.. => status,
                _ => StatusCode::OK,
            },
            _ => StatusCode::OK,
        }
    }

    /// Sends the request; once more on a new session if the upstream has lost the one it had: 404 with a session id says that
    /// the request was not looked at.
    async fn send(&mut self, message: &Message, sent: &mut Option<String>) -> Result<Exchange, Fault> {
        if let Client::Stateless(Sender { log_level: Some(level), .. }) = &self.client {
            // In boxes, here and below: what is rare is not carried about with every call.
            Box::pin(set_level(&self.link, level)).await;
        }
        let (text, headers, id) = self.traced(message);
        *sent = Some(id);
        match self.link.request(text, headers).await {
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
        self.link.request_on_new(text, headers).await
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
                // About the relay's own credential: its words may be, too.
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
                        // A stream of the session era may be taken up again elsewhere.
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
                        // What a server could not read it answers under an id of its own.
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
                                let why = "the client did not give what the upstream asked for";
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

    /// Sends the request, and waits for the head of the answer; `None` if the client has cancelled. Meanwhile the stream is kept alive.
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

    /// What says that a stateless client has cancelled. A session client that goes away has not.
    fn guarded(&self, gone: CancellationToken) -> Option<CancellationToken> {
        (self.era() == Era::Stateless).then_some(gone)
    }

    /// The next event; the outer `None` if the client has cancelled, or is gone and `answered`. Meanwhile the stream is kept alive.
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
            // Only an upstream that streams may take for ever.
            if !exchange.is_stream() && !self.link.upstream.is_stdio() && Instant::now() > deadline {
                return Err(Fault::Slow);
            }
            outlet.keep_alive().await;
        }
    }

    /// A notification, or a request for a session client, as the client sees it; `None` where it is not for it.
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
                // Only what belongs to the request may be in its stream.
                (_, Era::Session) => {
                    self.link.upstream.heard(method);
                    None
                }
                (_, Era::Stateless) => Some(message.text().to_owned()),
            },
        }
    }

    /// The upstream's response as the client wants it.
    fn made(
        &self,
        frame: bytes::Bytes,
        found: &Message,
        id: &str,
        status: StatusCode,
    ) -> Result<Made, Fault> {
        let filtered = match self.conveyance {
            Conveyance::OnlyAllowed if found.result().is_some() => {
                // A list that can't be read can't be filtered, and is not shown.
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

/// Never, where there is none.
async fn cancelled_if_any(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Whether a response is to this request. One without an id is to whatever was asked.
fn is_to(response: &Message, sent: Option<&str>) -> bool {
    response.id() == "null" || sent.is_none_or(|sent| envelope::is_same_id(response.id(), sent))
}
