//! MCP over the pipes of a child process: many calls share them, so each gets an id of the relay's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::envelope::{self, Message, RawObject, raw};
use crate::era::{META_LOG_LEVEL, META_SUBSCRIPTION, META_VERSION};
use crate::upstream::lines::Lines;
use crate::upstream::process::Started;
use crate::upstream::{Event, Fault};

/// How many lines wait to be written; past that, callers wait.
const WAITING_LINES: usize = 64;
/// How long the output of a child that has ended is read on: what it wrote is in the pipe already.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How many messages that belong to no call are kept for a listener that is slow; past that it misses some.
const UNSOLICITED: usize = 256;

/// One child process as a peer.
pub(crate) struct Process {
    lines: mpsc::Sender<String>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    /// Cancelled when the process and its group are no more.
    pub(crate) gone: CancellationToken,
    /// Cancelled when all that it will ever say has been taken.
    pub(crate) ended: CancellationToken,
}

struct Shared {
    calls: Mutex<BTreeMap<u64, Route>>,
    next: AtomicU64,
    /// What belongs to no call: list changes, resource updates.
    unsolicited: broadcast::Sender<Arc<str>>,
    limit: usize,
}

/// Where the messages of one call go, and what they have to be called there.
struct Route {
    events: mpsc::UnboundedSender<Event>,
    /// Bytes that were sent and not taken yet: a client that reads slowly holds up no other.
    waiting: Arc<AtomicUsize>,
    id: String,
    progress_token: Option<String>,
    wants_log: bool,
    listens: bool,
    /// Of the stateless era: the process is everybody's.
    stateless: bool,
}

impl Process {
    pub(crate) fn new(started: Started, limits: &Limits) -> Arc<Self> {
        let (lines, waiting) = mpsc::channel(WAITING_LINES);
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            next: AtomicU64::new(1),
            unsolicited: broadcast::channel(UNSOLICITED).0,
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
            // Whoever says nothing any more answers nothing any more. That it has ended by itself is noticed first.
            let _ = timeout(LAST_WORDS, end.cancelled()).await;
            over.cancel();
            stop.cancel();
        });
        Arc::new(Self { lines, shared, stop: started.stop, gone, ended })
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.ended.is_cancelled() && !self.stop.is_cancelled()
    }

    /// Sends a request under an id of its own.
    pub(crate) async fn request(&self, message: &Message, wait: Duration) -> Result<StdioAnswer, Fault> {
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
        };
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
        };
        self.write(line, wait).await?;
        Ok(answer)
    }

    /// Sends a notification, or the response to a request of the child's.
    pub(crate) async fn notify(&self, body: String, wait: Duration) -> Result<(), Fault> {
        self.write(body, wait).await
    }

    async fn write(&self, line: String, wait: Duration) -> Result<(), Fault> {
        // A line is one message: JSON may have line breaks between its members only.
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

    /// What belongs to no call, from now on.
    pub(crate) fn unsolicited(&self) -> broadcast::Receiver<Arc<str>> {
        self.shared.unsolicited.subscribe()
    }

    /// Tells it to end: its input is closed, and it is made to if it doesn't by itself.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The messages of one call, as they come.
pub(crate) struct StdioAnswer {
    key: u64,
    events: mpsc::UnboundedReceiver<Event>,
    waiting: Arc<AtomicUsize>,
    shared: Arc<Shared>,
    lines: mpsc::Sender<String>,
    ended: CancellationToken,
    answered: bool,
}

impl StdioAnswer {
    /// The next message; `None` after the response.
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
            let kept = self.shared.calls.lock().contains_key(&self.key);
            // A route that was taken away while the process lives had too much waiting.
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
            // There is no stream to close on a pipe: the child is told.
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
    // One byte more than is taken: a line that is too long is noticed by it.
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
            // What it started may hold the pipe open.
            () = &mut left => return,
        };
        let Ok(Some(line)) = line else { return };
        if line.len() <= shared.limit {
            shared.arrived(line);
        } else {
            tracing::warn!("a child wrote a line that is longer than is taken; it is left out");
        }
    }
}

impl Shared {
    fn arrived(&self, line: String) {
        let Ok(message) = Message::parse(line) else {
            tracing::debug!("a child wrote a line that is not one message; it is left out");
            return;
        };
        let mut calls = self.calls.lock();
        if message.is_response() {
            let key = message.id().parse().ok();
            let Some((key, route)) = key.and_then(|key| Some((key, calls.remove(&key)?))) else { return };
            let text = if route.listens { restored_subscription(&message, &route.id) } else { None };
            let text = text.unwrap_or_else(|| message.into_text());
            let text = Message::parse(text).map(|message| message.with_id(&route.id)).unwrap_or_default();
            deliver(&route, text, self.limit);
            // The answer's end is marked by the response itself; the sender goes with the route.
            let _ = key;
            return;
        }
        if message.is_request() {
            // Pipes don't say which call a request of the server's belongs to: the newest is the best guess, and the
            // process belongs to one token.
            // In the stateless era servers have none.
            if let Some((_, route)) = calls.last_key_value().filter(|(_, route)| !route.stateless) {
                deliver(route, message.into_text(), self.limit);
            }
            return;
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
                // The server's word that a subscription has ended.
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
                    // Whose it is can't be told, and it may hold what is another's.
                    (Some(_), Some(_)) => return,
                    // Where it is everybody's pipe, a message that nobody asked for is nobody's.
                    (None, _) => match calls.last_key_value().filter(|(_, route)| !route.stateless) {
                        Some((key, _)) => Some(*key),
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
            // Nobody may be listening.
            None => drop(self.unsolicited.send(text.into())),
        }
    }
}

/// Whether it went: not to a client that has left too much unread.
fn deliver(route: &Route, text: String, limit: usize) -> bool {
    let Ok(message) = Message::parse(text) else { return true };
    let frame = Bytes::copy_from_slice(message.text().as_bytes());
    let before = route.waiting.fetch_add(frame.len(), Ordering::Relaxed);
    before <= limit && route.events.send(Event { frame, message: Some(message) }).is_ok()
}

/// A response to `subscriptions/listen` names the subscription by the request's id, in its `_meta`.
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
