//! MCP over the pipes of a child process. Many calls share them, so each gets an id of the relay's
//! own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::envelope::{self, METHOD_NOT_FOUND, Message, RawObject, raw};
use crate::era::{META_LOG_LEVEL, META_SUBSCRIPTION, META_VERSION};
use crate::upstream::lines::Lines;
use crate::upstream::process::Started;
use crate::upstream::{Event, Fault, unusable};

/// Number of lines that wait to be written. Beyond it, callers wait.
const WAITING_LINES: usize = 64;
/// The time for which the output of an ended child is still read. Its last output is already in the
/// pipe.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Number of unsolicited messages that are kept for a slow listener. Beyond it, the listener misses
/// some.
const UNSOLICITED: usize = 256;

/// A child process as an MCP peer.
pub(crate) struct Process {
    lines: mpsc::Sender<String>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    /// Cancelled when the process and its group have ended.
    pub(crate) gone: CancellationToken,
    /// Cancelled when all of the process's output was handled.
    pub(crate) ended: CancellationToken,
}

struct Shared {
    calls: Mutex<BTreeMap<u64, Route>>,
    next: AtomicU64,
    /// Messages that belong to no call: list changes, resource updates.
    unsolicited: broadcast::Sender<Arc<str>>,
    /// The child's input, for what the relay itself answers.
    lines: mpsc::Sender<String>,
    limit: usize,
}

/// The destination of one call's messages, with the ids to restore.
struct Route {
    events: mpsc::UnboundedSender<Event>,
    /// Bytes that were queued and not taken yet. A slow client must not block the others.
    waiting: Arc<AtomicUsize>,
    id: String,
    progress_token: Option<String>,
    wants_log: bool,
    listens: bool,
    /// True in the stateless era, where all tokens share the process.
    stateless: bool,
    /// The client that can be asked. A request of the relay's own has none.
    asker: Option<Asker>,
    /// Why there will be no answer, if the child has written one that cannot be used.
    failed: Arc<OnceLock<Fault>>,
}

/// A number that identifies a client session, or the one call of a stateless client.
pub(crate) type Asker = u64;

/// Returns a number for the one call of a stateless client. Those of sessions are random and large.
pub(crate) fn next_asker() -> Asker {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Process {
    pub(crate) fn new(started: Started, limits: &Limits) -> Arc<Self> {
        let (lines, waiting) = mpsc::channel(WAITING_LINES);
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            next: AtomicU64::new(1),
            unsolicited: broadcast::channel(UNSOLICITED).0,
            lines: lines.clone(),
            limit: limits.answer,
        });
        let ended = CancellationToken::new();
        tokio::spawn(write(started.stdin, waiting, started.stop.clone()));
        let (stop, over) = (started.stop.clone(), ended.clone());
        let gone = started.ended;
        let end = gone.clone();
        let reading = read(started.stdout, Arc::clone(&shared), gone.clone());
        tokio::spawn(async move {
            reading.await;
            // A process that closed its output answers nothing any more. The wait lets an end of
            // the process itself be noticed first.
            let _ = timeout(LAST_WORDS, end.cancelled()).await;
            over.cancel();
            stop.cancel();
        });
        Arc::new(Self { lines, shared, stop: started.stop, gone, ended })
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.ended.is_cancelled() && !self.stop.is_cancelled()
    }

    /// Sends a request under an id of the relay's own. While it goes on, the child may ask its
    /// asker.
    pub(crate) async fn request(
        &self,
        message: &Message,
        wait: Duration,
        asker: Option<Asker>,
    ) -> Result<StdioAnswer, Fault> {
        let key = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let meta = message.meta();
        let (events, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let progress_token = meta.as_ref().and_then(|meta| Some(meta.get("progressToken")?.get().to_owned()));
        let route = Route {
            events,
            waiting: Arc::clone(&waiting),
            id: message.id().to_owned(),
            wants_log: meta.as_ref().is_some_and(|meta| meta.get(META_LOG_LEVEL).is_some()),
            listens: message.method() == "subscriptions/listen",
            stateless: meta.as_ref().is_some_and(|meta| meta.get(META_VERSION).is_some()),
            progress_token,
            asker,
            failed: Arc::default(),
        };
        let failed = Arc::clone(&route.failed);
        let id = key.to_string();
        let line = match (&route.progress_token, meta) {
            (Some(_), Some(mut meta)) => {
                meta.set("progressToken", raw(&key));
                message.with(Some(&id), &[("_meta", meta.to_raw().get())])
            }
            _ => message.with_id(&id),
        };
        self.shared.calls.lock().insert(key, route);
        let answer = StdioAnswer {
            key,
            events: receiver,
            waiting,
            shared: Arc::clone(&self.shared),
            lines: self.lines.clone(),
            ended: self.ended.clone(),
            answered: false,
            failed,
        };
        self.write(line, wait).await?;
        Ok(answer)
    }

    /// Sends a notification, or the response to a request of the child.
    pub(crate) async fn notify(&self, body: String, wait: Duration) -> Result<(), Fault> {
        self.write(body, wait).await
    }

    async fn write(&self, line: String, wait: Duration) -> Result<(), Fault> {
        // Each line is one message. In JSON, raw line breaks occur only between tokens, so they can
        // become spaces.
        let line = if line.contains(['\n', '\r']) { line.replace(['\n', '\r'], " ") } else { line };
        if !self.is_alive() {
            return Err(Fault::Down);
        }
        match timeout(wait, self.lines.send(line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Fault::Down),
            Err(_) => Err(Fault::Slow),
        }
    }

    /// Subscribes to the messages that belong to no call.
    pub(crate) fn unsolicited(&self) -> broadcast::Receiver<Arc<str>> {
        self.shared.unsolicited.subscribe()
    }

    /// Ends the process: closes its input, and terminates it if it does not end by itself.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The messages of one call.
pub(crate) struct StdioAnswer {
    key: u64,
    events: mpsc::UnboundedReceiver<Event>,
    waiting: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    lines: mpsc::Sender<String>,
    ended: CancellationToken,
    answered: bool,
    failed: Arc<OnceLock<Fault>>,
}

impl StdioAnswer {
    /// Returns the next message, or `None` after the response.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        if self.answered {
            return Ok(None);
        }
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = self.ended.cancelled() => self.events.try_recv().ok(),
        };
        let Some(event) = event else {
            if let Some(fault) = self.failed.get() {
                return Err(*fault);
            }
            let kept = self.shared.calls.lock().contains_key(&self.key);
            // The route was removed while the process lives, because too much was queued.
            return Err(if kept || self.ended.is_cancelled() { Fault::Down } else { Fault::TooLarge });
        };
        self.waiting.fetch_sub(event.frame.len(), Ordering::Relaxed);
        self.answered = event.message.as_ref().is_some_and(Message::is_response);
        Ok(Some(event))
    }
}

impl Drop for StdioAnswer {
    fn drop(&mut self) {
        let route = self.shared.calls.lock().remove(&self.key);
        if route.is_some() && !self.answered {
            // A pipe has no per-call stream to close, so the child is told explicitly.
            let params = format!(r#"{{"requestId":{},"reason":"the caller went away"}}"#, self.key);
            let _ = self.lines.try_send(envelope::notification("notifications/cancelled", &params));
        }
    }
}

async fn write(mut stdin: ChildStdin, mut waiting: mpsc::Receiver<String>, stop: CancellationToken) {
    loop {
        let line = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            line = waiting.recv() => line,
        };
        let Some(mut line) = line else { return };
        line.push('\n');
        let written = tokio::select! {
            () = stop.cancelled() => return,
            written = async { stdin.write_all(line.as_bytes()).await?; stdin.flush().await } => written,
        };
        if written.is_err() {
            return;
        }
    }
}

async fn read(stdout: ChildStdout, shared: Arc<Shared>, ended: CancellationToken) {
    // The limit is exceeded by one byte, so that an overlong line is recognized.
    let mut lines = Lines::new(stdout, shared.limit + 1);
    let left = async {
        ended.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::pin!(left);
    loop {
        let line = tokio::select! {
            biased;
            line = lines.next() => line,
            // Descendants of the child may hold the pipe open.
            () = &mut left => return,
        };
        let Ok(Some(line)) = line else { return };
        if line.len() <= shared.limit {
            shared.arrived(line);
        } else {
            let start = line.floor_char_boundary(unusable::TAIL);
            let key = unusable::id_at_end(&lines.tail()).or_else(|| unusable::id_at_start(&line[..start]));
            shared.cannot_use(key, Fault::TooLarge);
        }
    }
}

impl Shared {
    /// Fails the call that an unusable line was meant to answer, if the line names one.
    fn cannot_use(&self, key: Option<u64>, fault: Fault) {
        let route = key.and_then(|key| self.calls.lock().remove(&key));
        match route {
            Some(route) => {
                let _ = route.failed.set(fault);
                tracing::warn!("an upstream process answered a call with a line that is not a message");
            }
            None => {
                tracing::debug!("an upstream process wrote a line that is not a message; ignoring the line");
            }
        }
    }

    /// Answers a request of the child.
    fn reply(&self, line: String) {
        // A child that does not read its input gets no answer; nothing waits for it here.
        let _ = self.lines.try_send(line);
    }

    /// Hands a request of the child to the one client that it can be meant for. Pipes do not say
    /// which call a request belongs to. If several clients have calls in flight, or none has, the
    /// child is told so: another client must not answer, and the child must not wait.
    fn asked(&self, calls: &BTreeMap<u64, Route>, message: Message) {
        if message.method() == "ping" {
            return self.reply(envelope::result(message.id(), &RawObject::default()));
        }
        // In the stateless era servers send no requests.
        let has_calls = calls.values().any(|route| !route.stateless && route.asker.is_some());
        let newest = of_one_asker(calls).and_then(|key| calls.get(&key));
        let why = match newest {
            Some(route) => {
                deliver(route, message.into_text(), self.limit);
                return;
            }
            None if !has_calls => "no call is in progress, so there is no client to ask",
            None => "several clients have calls in progress, and it is not known which of them to ask",
        };
        self.reply(envelope::error(message.id(), METHOD_NOT_FOUND, why));
    }

    fn arrived(&self, line: String) {
        // Some programs write a byte order mark first.
        let line = match line.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => line,
        };
        let message = match Message::parse(line.clone()) {
            Ok(message) => message,
            Err(_) => return self.cannot_use(unusable::id(&line), Fault::Garbage),
        };
        let mut calls = self.calls.lock();
        if message.is_response() {
            // Some servers hand an id back as a string.
            let key = message.id().trim_matches('"').parse().ok();
            let Some((key, route)) = key.and_then(|key| Some((key, calls.remove(&key)?))) else { return };
            let text = if route.listens { restored_subscription(&message, &route.id) } else { None };
            let text = text.unwrap_or_else(|| message.into_text());
            let text = Message::parse(text).map(|message| message.with_id(&route.id)).unwrap_or_default();
            deliver(&route, text, self.limit);
            // The response itself marks the end. Removing the route drops the sender.
            let _ = key;
            return;
        }
        if message.is_request() {
            return self.asked(&calls, message);
        }
        let meta = message.meta();
        let subscription =
            meta.as_ref().and_then(|meta| meta.get(META_SUBSCRIPTION)).map(|id| id.get().to_owned());
        let (key, changed) = match message.method() {
            "notifications/progress" => {
                let key = message.param("progressToken").and_then(|token| token.parse().ok());
                let token = key.and_then(|key| calls.get(&key)?.progress_token.clone());
                let Some(token) = token else { return };
                (key, Some(message.with_param("progressToken", &token)))
            }
            "notifications/cancelled" => {
                // The server says that a subscription has ended.
                let key = message.param("requestId").and_then(|id| id.parse().ok());
                if let Some(key) = key.filter(|key| calls.get(key).is_some_and(|route| route.listens)) {
                    calls.remove(&key);
                }
                return;
            }
            _ if subscription.is_some() => {
                let key = subscription.and_then(|id| id.parse().ok());
                let route = key.and_then(|key: u64| calls.get(&key));
                let (Some(route), Some(mut meta)) = (route, meta) else { return };
                meta.set(META_SUBSCRIPTION, raw_text(&route.id));
                (key, Some(message.with_param("_meta", meta.to_raw().get())))
            }
            "notifications/message" => {
                let mut wanting = calls.iter().filter(|(_, route)| route.wants_log).map(|(key, _)| *key);
                let key = match (wanting.next(), wanting.next()) {
                    (Some(only), None) => Some(only),
                    // The message cannot be attributed to one call, and might contain another
                    // client's data.
                    (Some(_), Some(_)) => return,
                    // On a process that all tokens share, a message that no call requested is
                    // dropped.
                    (None, _) => match of_one_asker(&calls) {
                        Some(key) => Some(key),
                        None => return,
                    },
                };
                (key, None)
            }
            _ => (None, None),
        };
        let text = changed.unwrap_or_else(|| message.into_text());
        match key.and_then(|key| Some((key, calls.get(&key)?))) {
            Some((key, route)) => {
                if !deliver(route, text, self.limit) {
                    calls.remove(&key);
                }
            }
            // There may be no listeners.
            None => drop(self.unsolicited.send(text.into())),
        }
    }
}

/// Returns the newest call, if all calls that a client can be asked in are one client's.
fn of_one_asker(calls: &BTreeMap<u64, Route>) -> Option<u64> {
    let mut asking = calls.iter().rev().filter(|(_, route)| !route.stateless && route.asker.is_some());
    let (key, newest) = asking.next()?;
    asking.all(|(_, route)| route.asker == newest.asker).then_some(*key)
}

/// Queues a message for a call. Returns false if the client has left too much unread.
fn deliver(route: &Route, text: String, limit: usize) -> bool {
    let Ok(message) = Message::parse(text) else { return true };
    let frame = Bytes::copy_from_slice(message.text().as_bytes());
    let before = route.waiting.fetch_add(frame.len(), Ordering::Relaxed);
    before <= limit && route.events.send(Event { frame, message: Some(message) }).is_ok()
}

/// Restores the subscription's id in a response to `subscriptions/listen`, whose `_meta` repeats
/// the request's id.
fn restored_subscription(message: &Message, id: &str) -> Option<String> {
    let mut result = RawObject::parse(message.result()?).ok()?;
    let mut meta = result.object("_meta")?;
    meta.get(META_SUBSCRIPTION)?;
    meta.set(META_SUBSCRIPTION, raw_text(id));
    result.set("_meta", meta.to_raw());
    Some(envelope::result(message.id(), &result))
}

fn raw_text(json: &str) -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::from_string(json.to_owned()).unwrap_or_else(|_| raw(&()))
}

#[cfg(test)]
#[path = "stdio_tests.rs"]
mod tests;
